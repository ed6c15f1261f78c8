//! What the operator's command line asks: accounts, explanations, the state of the region.

use crate::asker::Asker;
use crate::instance::record::InstanceRecord;
use crate::model::{Account, Model};
use crate::refusal::Refusal;
use crate::request::{Answer, Request as Change};
use base::ids::{AccountId, InstanceId, RegionName};
use contract::operator_server::Operator;
use contract::trust::{Role, peer};
use contract::{
    AccountCreateRequest, AccountCreateResponse, CellStatus, CellVerdict, ExplainRequest, ExplainResponse,
    InstanceStatus, StatusRequest, StatusResponse, ZoneStatus,
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tonic::{Request, Response, Status};

/// The operator's service of a region.
pub struct OperatorService {
    region: RegionName,
    model: Arc<RwLock<Model>>,
    asker: Asker,
}

impl OperatorService {
    /// The service of this region.
    pub fn new(region: RegionName, model: Arc<RwLock<Model>>, asker: Asker) -> Self {
        OperatorService { region, model, asker }
    }

    fn model(&self) -> RwLockReadGuard<'_, Model> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn account_create(
        &self,
        request: Request<AccountCreateRequest>,
    ) -> Result<Response<AccountCreateResponse>, Status> {
        peer(&request)?.allow(Role::Operator)?;
        let AccountCreateRequest { name, client_token } = request.into_inner();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(Status::invalid_argument("an account's name has 1 to 64 printable characters"));
        }
        let nobody = AccountId::from_number(0).ok_or_else(|| Status::internal("no account 0"))?;
        let answer = self.asker.change(nobody, Change::AccountCreate { name, client_token }).await;
        let account = match answer {
            Ok(Answer::Account(account)) => account,
            Ok(_) => return Err(Status::internal("not an account")),
            Err(Refusal::Busy) => return Err(Status::resource_exhausted("too many requests are waiting")),
            Err(refusal) => return Err(Status::unavailable(refusal.to_string())),
        };
        let record = self.model().account(account).and_then(|account| account.record.clone());
        let record = record.ok_or_else(|| Status::internal("the account is not in the model"))?;
        Ok(Response::new(AccountCreateResponse {
            account_id: record.account_id.clone(),
            name: record.name.clone(),
            access_key_id: record.access_key_id.clone(),
            secret_access_key: record.secret_access_key.clone(),
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        peer(&request)?.allow(Role::Operator)?;
        let id: InstanceId = request
            .into_inner()
            .instance_id
            .parse()
            .map_err(|e: base::ids::IdError| Status::invalid_argument(e.to_string()))?;
        let model = self.model();
        let found = model.account_of_instance(id).and_then(|account| Some((account, model.instance(id)?)));
        let (account, record) =
            found.ok_or_else(|| Status::not_found(format!("there is no instance {id}")))?;
        Ok(Response::new(explain(account, record)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        peer(&request)?.allow(Role::Operator)?;
        let fleet = self
            .asker
            .fleet()
            .await
            .ok_or_else(|| Status::unavailable("the region is stopping or too busy"))?;
        let cells_of = |zone: &base::ids::ZoneName| {
            let cells = fleet.cells.iter().filter(|(_, cell)| cell.zone == *zone);
            cells.map(|(id, cell)| cell_status(id.as_str(), cell)).collect()
        };
        let zones = fleet.zones.iter().map(|(name, zone)| ZoneStatus {
            zone: name.to_string(),
            connected: zone.connected,
            cells: cells_of(name),
        });
        let zones = zones.collect();
        let accounts: Vec<(AccountId, Arc<Account>)> =
            self.model().accounts().map(|(id, account)| (id, account.clone())).collect();
        let instances = accounts
            .iter()
            .flat_map(|(id, account)| account.instances_visible().map(|record| instance_status(*id, record)));
        let instances = instances.collect();
        Ok(Response::new(StatusResponse { region: self.region.to_string(), zones, instances }))
    }
}

fn cell_status(id: &str, cell: &crate::fleet::Cell) -> CellStatus {
    let summary = cell.summary.clone().unwrap_or_default();
    CellStatus {
        cell_id: id.to_owned(),
        connected: cell.connected,
        hosts: summary.hosts,
        hosts_healthy: summary.hosts_healthy,
        vcpus: summary.vcpus,
        vcpus_free: summary.vcpus_free,
        memory_mib: summary.memory_mib,
        memory_free_mib: summary.memory_free_mib,
    }
}

fn instance_status(account: AccountId, record: &InstanceRecord) -> InstanceStatus {
    InstanceStatus {
        instance_id: record.instance_id.clone(),
        account_id: account.to_string(),
        state: record.stage().state().to_string(),
        instance_type: record.template.as_ref().map(|t| t.instance_type.clone()).unwrap_or_default(),
        zone: record.zone.clone(),
        cell_id: record.cell_id.clone(),
        host_id: record.host_id.clone(),
        state_reason: record.reason_message.clone(),
    }
}

fn explain(account: AccountId, record: &InstanceRecord) -> ExplainResponse {
    let verdict = |verdict: &crate::instance::record::CellVerdictRecord| CellVerdict {
        zone: verdict.zone.clone(),
        cell_id: verdict.cell_id.clone(),
        chosen: verdict.chosen,
        verdict: verdict.verdict.clone(),
    };
    ExplainResponse {
        instance_id: record.instance_id.clone(),
        account_id: account.to_string(),
        state: record.stage().state().to_string(),
        zone: record.zone.clone(),
        cell_id: record.cell_id.clone(),
        rack_id: record.rack_id.clone(),
        host_id: record.host_id.clone(),
        attempt: record.attempt,
        cells: record.verdicts.iter().map(verdict).collect(),
        hosts: record.explanation.clone(),
    }
}
