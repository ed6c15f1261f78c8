//! Changes of the network, by noun; and how one that carries an idempotency token is done once.

use crate::instance::record::TokenRecord;
use crate::owner::Tx;
use crate::record::{Name, Record, ResourceWork};
use crate::refusal::Refusal;
use crate::request::Answer;
use crate::scene::Scene;
use crate::{
    address, dhcp_options, internet_gateway, network_acl, network_interface, route_table, security_group,
    subnet, vpc,
};
use std::sync::Arc;

/// A change of the network.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum NetworkChange {
    Address(address::Change),
    DhcpOptions(dhcp_options::Change),
    InternetGateway(internet_gateway::Change),
    NetworkAcl(network_acl::Change),
    NetworkInterface(network_interface::Change),
    RouteTable(route_table::Change),
    SecurityGroup(security_group::Change),
    Subnet(subnet::Change),
    Vpc(vpc::Change),
}

/// The token that a change comes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The operation, and the customer's own token: `CreateRouteTable/abc`.
    pub name: String,
    /// SHA-256 of all parameters but the token.
    pub parameters_sha256: [u8; 32],
}

/// Carries a change out, or refuses it. The same token with the same parameters gives what it made before.
pub fn change(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    change: NetworkChange,
    token: Option<&Token>,
) -> Result<Answer, Refusal> {
    if let Some(token) = token
        && let Some(used) = tx.token(&token.name)
    {
        let customers = || token.name.split_once('/').map_or(&*token.name, |(_, token)| token).to_owned();
        if used.parameters_sha256 != token.parameters_sha256 {
            return Err(Refusal::TokenMismatch(customers()));
        }
        let made = Name::of_resource(&used.made).and_then(|name| name.resource(Get(tx))).flatten();
        return made.map(Answer::Resource).ok_or_else(|| Refusal::TokenResourceGone(customers()));
    }
    let answer = match change {
        NetworkChange::Address(change) => address::change(tx, scene, change),
        NetworkChange::DhcpOptions(change) => dhcp_options::change(tx, change),
        NetworkChange::InternetGateway(change) => internet_gateway::change(tx, change),
        NetworkChange::NetworkAcl(change) => network_acl::change(tx, change),
        NetworkChange::NetworkInterface(change) => network_interface::change(tx, change),
        NetworkChange::RouteTable(change) => route_table::change(tx, change),
        NetworkChange::SecurityGroup(change) => security_group::change(tx, change),
        NetworkChange::Subnet(change) => subnet::change(tx, scene, change),
        NetworkChange::Vpc(change) => vpc::change(tx, scene, change),
    }?;
    if let (Some(token), Answer::Resource(record)) = (token, &answer) {
        let used = TokenRecord {
            parameters_sha256: token.parameters_sha256.to_vec(),
            made: record.resource_id().unwrap_or_default(),
            used_unix_ms: tx.now.unix_ms(),
        };
        tx.put(Name::Token(token.name.clone()), Record::Token(Arc::new(used)));
    }
    Ok(answer)
}

struct Get<'t, 'a>(&'t Tx<'a>);

impl ResourceWork for Get<'_, '_> {
    type Output = Option<Record>;

    fn on<R: crate::record::Resource>(self, id: R::Id) -> Option<Record> {
        self.0.get::<R>(id).map(R::record)
    }
}
