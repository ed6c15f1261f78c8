//! How the store's answers and errors are said to clients of etcd. They know an error by its code and its text, so
//! both are etcd's where etcd has such an error.

use crate::etcdserverpb::ResponseHeader;
use metastore::{Commit, CommitError, LeaseError, ReadError, Revision};
use tonic::{Code, Status};

/// A transaction of etcd's API with too many comparisons or operations.
pub const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const EMPTY_KEY: &str = "etcdserver: key is not provided";
const TOO_LARGE: &str = "etcdserver: request is too large";
/// What was asked for is older than the history that is kept.
pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// What was asked for has not happened in this store.
pub const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const LEASE_TOO_LONG: &str = "etcdserver: too large lease TTL";
const STOPPED: &str = "etcdserver: server stopped";

/// The header of every answer.
pub fn header(revision: Revision, incarnation: u64) -> Option<ResponseHeader> {
    // One member, which is all of its cluster.
    Some(ResponseHeader { cluster_id: 1, member_id: 1, revision: wire(revision), raft_term: incarnation })
}

/// A revision as the API has it.
pub fn wire(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// A revision of a request; negative ones do not exist.
#[allow(clippy::result_large_err)]
pub fn revision(wire: i64) -> Result<Revision, Status> {
    match u64::try_from(wire) {
        Ok(revision) => Ok(Revision(revision)),
        Err(_) => Err(Status::invalid_argument(format!("{wire} is no revision"))),
    }
}

/// What is not built, in a sentence.
pub fn refused(what: &str) -> Status {
    Status::unimplemented(format!("this store serves a part of etcd's API: {what}"))
}

/// A key must be given.
pub fn empty_key() -> Status {
    Status::invalid_argument(EMPTY_KEY)
}

/// Bytes of the longest namespace: a role and an instance's name, which is a label of a host name. What a caller may
/// commit does not depend on its own.
pub const NAMESPACE_BYTES_MAX: usize = 128;

/// What etcd has a word for among the contract's bounds, said before the engine looks.
#[allow(clippy::result_large_err)]
pub fn bounds(commit: &Commit) -> Result<(), Status> {
    if commit.conditions.len() > Commit::OPS_MAX || commit.ops.len() > Commit::OPS_MAX {
        return Err(Status::invalid_argument(TOO_MANY_OPS));
    }
    let mut keys = commit.conditions.iter().map(|c| c.key()).chain(commit.ops.iter().map(|op| op.key()));
    if keys.any(<[u8]>::is_empty) {
        return Err(empty_key());
    }
    let keys = commit.conditions.len() + commit.ops.len();
    if commit.bytes() > Commit::BYTES_MAX + NAMESPACE_BYTES_MAX * keys {
        return Err(Status::invalid_argument(TOO_LARGE));
    }
    Ok(())
}

/// Why a commit did not happen. A conflict is no error of the API, and is answered elsewhere.
pub fn commit_status(error: CommitError) -> Status {
    match error {
        CommitError::OutOfBounds(why) => Status::invalid_argument(format!("{TOO_LARGE}: {why}")),
        CommitError::LeaseExpired(_) => Status::not_found(LEASE_NOT_FOUND),
        CommitError::Full(_) => Status::resource_exhausted(NO_SPACE),
        CommitError::Unavailable(_) => Status::unavailable(STOPPED),
        CommitError::Conflict { .. } | CommitError::Failed(_) => failed(&error.to_string()),
    }
}

/// Why a read was not answered.
pub fn read_status(error: ReadError) -> Status {
    match error {
        ReadError::Compacted { .. } => Status::new(Code::OutOfRange, COMPACTED),
        ReadError::Future { .. } => Status::new(Code::OutOfRange, FUTURE),
        ReadError::Unavailable(_) => Status::unavailable(STOPPED),
        ReadError::Failed(why) => failed(&why),
    }
}

/// Why nothing became of a lease.
pub fn lease_status(error: LeaseError) -> Status {
    match error {
        LeaseError::Expired(_) => lease_not_found(),
        LeaseError::OutOfBounds(_) => Status::new(Code::OutOfRange, LEASE_TOO_LONG),
        LeaseError::Full(_) => Status::resource_exhausted(NO_SPACE),
        LeaseError::Unavailable(_) => Status::unavailable(STOPPED),
        LeaseError::Failed(why) => failed(&why),
    }
}

/// There is no such lease, or it is somebody else's.
pub fn lease_not_found() -> Status {
    Status::not_found(LEASE_NOT_FOUND)
}

/// The outcome is unknown: no client may take it for a refusal.
fn failed(why: &str) -> Status {
    Status::unknown(format!("the store has failed and is started again: {why}"))
}
