//! The store's state; and what etcd has and this store does not.

use crate::answer::{header, read_status, refused, wire};
use crate::caller::Callers;
use crate::etcdserverpb as pb;
use metastore::Store;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The service `etcdserverpb.Maintenance`.
#[derive(Clone)]
pub struct Maintenance {
    pub(crate) store: Store,
    pub(crate) callers: Arc<Callers>,
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Maintenance {
    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.callers.of(&request)?;
        let revision = self.store.revision().await.map_err(read_status)?;
        Ok(Response::new(pb::StatusResponse {
            header: header(revision, self.store.incarnation()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            db_size: 0,
            leader: 1,
            raft_index: wire(revision).unsigned_abs(),
            raft_term: self.store.incarnation(),
        }))
    }

    type SnapshotStream = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(refused("its backups are taken by `nephos store backup`, in a form of their own"))
    }

    async fn alarm(&self, _: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        Err(refused("it has no alarms; a full store says so at each commit"))
    }

    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(refused("its snapshots leave nothing to defragment"))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(refused("it is one member, with nobody to compare hashes with"))
    }

    async fn hash_kv(&self, _: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Err(refused("it is one member, with nobody to compare hashes with"))
    }

    async fn move_leader(
        &self,
        _: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(refused("it is one member, with nobody to lead instead"))
    }
}
