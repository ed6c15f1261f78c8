//! Leases, and whose they are.
//!
//! A lease's number is no secret, so its owner is stored beside it, under a key that goes with the lease and that is
//! in nobody's namespace: only its owner's role may use, keep or end a lease.

use crate::answer::{header, lease_not_found, lease_status, read_status, refused};
use crate::caller::{Caller, Callers};
use crate::etcdserverpb as pb;
use crate::serve::Health;
use metastore::{Commit, CommitError, LeaseError, LeaseId, Op, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Answers that wait for one stream.
const ANSWERS_WAITING: usize = 16;

/// A lease of the caller's.
pub struct Owned {
    /// Which.
    pub id: LeaseId,
    /// Its time to live, in seconds.
    pub ttl_s: i64,
}

/// The service `etcdserverpb.Lease`.
#[derive(Clone)]
pub struct Leases {
    pub(crate) store: Store,
    pub(crate) callers: Arc<Callers>,
    pub(crate) health: Health,
}

/// `lease/ID`: the time to live in seconds, and the owner.
fn owner_key(id: LeaseId) -> Vec<u8> {
    format!("lease/{id}").into_bytes()
}

impl Leases {
    /// The lease, if it is the caller's.
    pub async fn owned(&self, caller: &Caller, wire: i64) -> Result<Owned, Status> {
        let id = LeaseId(u64::try_from(wire).map_err(|_| lease_not_found())?);
        let entry = self.store.get(&owner_key(id)).await.map_err(read_status)?.ok_or_else(lease_not_found)?;
        let text = String::from_utf8_lossy(&entry.value);
        let (ttl, owner) = text.split_once(' ').ok_or_else(lease_not_found)?;
        match ttl.parse() {
            Ok(ttl_s) if owner == caller.name() => Ok(Owned { id, ttl_s }),
            _ => Err(lease_not_found()),
        }
    }

    async fn keep_alive(&self, caller: &Caller, wire: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let kept = match self.owned(caller, wire).await {
            Ok(owned) => self.store.lease_keep_alive(owned.id).await.map(|()| owned.ttl_s),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(0),
            Err(status) => return Err(status),
        };
        let ttl_s = match kept {
            Err(LeaseError::Expired(_)) => 0,
            kept => kept.map_err(lease_status)?,
        };
        let revision = self.store.revision().await.map_err(read_status)?;
        Ok(pb::LeaseKeepAliveResponse {
            header: header(revision, self.store.incarnation()),
            id: wire,
            ttl: ttl_s,
        })
    }

    fn failed(&self, error: LeaseError) -> Status {
        if let LeaseError::Failed(_) = error {
            self.health.fail(error.to_string());
        }
        lease_status(error)
    }
}

#[tonic::async_trait]
impl pb::lease_server::Lease for Leases {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let caller = self.callers.of(&request)?;
        let asked = request.into_inner();
        if asked.id != 0 {
            return Err(refused("a lease's number is chosen by the store"));
        }
        // As etcd: what is too short is made as short as can be.
        let ttl_s = asked.ttl.max(LeaseId::TTL_MIN.as_secs() as i64);
        let ttl = Duration::from_secs(ttl_s.unsigned_abs());
        let id = self.store.lease_grant(ttl).await.map_err(|error| self.failed(error))?;
        let owner = Op::PutLeased(owner_key(id), format!("{ttl_s} {}", caller.name()).into_bytes(), id);
        let put = self.store.commit(Commit { conditions: Vec::new(), ops: vec![owner] }).await;
        // A lease whose owner could not be written is nobody's, and ends by itself.
        let revision = put.map_err(|error: CommitError| self.failed(error.into()))?;
        let header = header(revision, self.store.incarnation());
        Ok(Response::new(pb::LeaseGrantResponse {
            header,
            id: id.0 as i64,
            ttl: ttl_s,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let caller = self.callers.of(&request)?;
        let owned = self.owned(&caller, request.into_inner().id).await?;
        self.store.lease_revoke(owned.id).await.map_err(|error| self.failed(error))?;
        let revision = self.store.revision().await.map_err(read_status)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: header(revision, self.store.incarnation()) }))
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let caller = self.callers.of(&request)?;
        let (answers, answered) = mpsc::channel(ANSWERS_WAITING);
        let (leases, mut asked) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(ask)) = asked.message().await {
                let answer = leases.keep_alive(&caller, ask.id).await;
                let failed = answer.is_err();
                if answers.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answered)))
    }

    /// Whether a lease lives. Of its time the most that can be left is told, which is all that was granted.
    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let caller = self.callers.of(&request)?;
        let asked = request.into_inner();
        if asked.keys {
            return Err(refused("the keys of a lease are not listed"));
        }
        // -1: there is no such lease.
        let (ttl, granted_ttl) = match self.owned(&caller, asked.id).await {
            Ok(owned) => (owned.ttl_s, owned.ttl_s),
            Err(status) if status.code() == tonic::Code::NotFound => (-1, 0),
            Err(status) => return Err(status),
        };
        let revision = self.store.revision().await.map_err(read_status)?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: header(revision, self.store.incarnation()),
            id: asked.id,
            ttl,
            granted_ttl,
            keys: Vec::new(),
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(refused("leases are not listed"))
    }
}
