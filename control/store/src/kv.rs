//! Reads, commits and compaction.
//!
//! A transaction is the contract's commit: its comparisons are conditions, its success branch the operations. What
//! the contract has no word for is refused.

use crate::answer::{self, bounds, commit_status, header, read_status, refused, revision};
use crate::caller::{Caller, Callers};
use crate::etcdserverpb as pb;
use crate::lease::Leases;
use crate::mvccpb::KeyValue;
use crate::serve::Health;
use bytes::Bytes;
use metastore::{Commit, CommitError, Condition, Entry, Op, RangeQuery, Revision, Store};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Asked;
use pb::response_op::Response as Answered;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

/// What one answer holds at most, in keys and values; a larger range is read in pages.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How often a key's deletion is tried again that others change meanwhile.
const DELETE_TRIES: usize = 16;

/// The service `etcdserverpb.KV`.
#[derive(Clone)]
pub struct Kv {
    pub(crate) store: Store,
    pub(crate) callers: Arc<Callers>,
    pub(crate) leases: Leases,
    pub(crate) health: Health,
}

/// A key's end, where a range is asked for: `None` has no end.
pub fn range_end(key: &[u8], end: Vec<u8>) -> Option<Vec<u8>> {
    match end.as_slice() {
        // The key alone: the next key there can be is this one and a byte 0.
        [] => Some([key, &[0]].concat()),
        [0] => None,
        _ => Some(end),
    }
}

fn key_value(entry: Entry, keys_only: bool) -> KeyValue {
    KeyValue {
        key: entry.key.into(),
        mod_revision: answer::wire(entry.modified),
        value: if keys_only { Bytes::new() } else { entry.value.into() },
        ..KeyValue::default()
    }
}

impl Kv {
    async fn read(&self, caller: &Caller, asked: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        if asked.key.is_empty() {
            return Err(answer::empty_key());
        }
        let bounded = [
            asked.min_mod_revision,
            asked.max_mod_revision,
            asked.min_create_revision,
            asked.max_create_revision,
        ];
        if bounded.iter().any(|bound| *bound != 0) {
            return Err(refused("a range is not filtered by revisions"));
        }
        let by_key = asked.sort_target() == SortTarget::Key || asked.sort_order() == SortOrder::None;
        if !by_key || asked.sort_order() == SortOrder::Descend {
            return Err(refused("a range is sorted by ascending key"));
        }
        let end = range_end(&asked.key, asked.range_end);
        caller.range(&asked.key, end.as_deref())?;
        let limit = usize::try_from(asked.limit).unwrap_or(0);
        let mut query = RangeQuery::between(asked.key, end);
        if asked.revision > 0 {
            query = query.at(revision(asked.revision)?);
        }
        let mut answer = pb::RangeResponse::default();
        let (mut left, mut bytes) = (if limit == 0 { usize::MAX } else { limit }, 0);
        loop {
            let page = self.store.range(&query.clone().limit(left)).await.map_err(read_status)?;
            answer.header = header(page.revision, self.store.incarnation());
            answer.count += page.entries.len() as i64;
            left -= page.entries.len().min(left);
            if !asked.count_only {
                bytes += page.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
                answer.kvs.extend(page.entries.into_iter().map(|entry| key_value(entry, asked.keys_only)));
            }
            if page.next.is_none() {
                return Ok(answer);
            }
            if left == 0 {
                answer.more = true;
                return Ok(answer);
            }
            if bytes > ANSWER_BYTES_MAX {
                return Err(Status::resource_exhausted(
                    "the range is too large for one answer: give a limit",
                ));
            }
            query = query.at(page.revision).after(page.next);
        }
    }

    /// Ranges of a transaction, all at one revision.
    async fn reads(&self, caller: &Caller, asked: Vec<pb::RequestOp>) -> Result<pb::TxnResponse, Status> {
        let mut answer = pb::TxnResponse::default();
        let mut at = 0;
        for op in asked {
            let Some(Asked::RequestRange(mut range)) = op.request else {
                return Err(refused("a transaction's failure branch reads, and changes nothing"));
            };
            if range.revision == 0 {
                range.revision = at;
            }
            let read = self.read(caller, range).await?;
            at = read.header.as_ref().map_or(0, |header| header.revision);
            answer.header = read.header;
            answer.responses.push(pb::ResponseOp { response: Some(Answered::ResponseRange(read)) });
        }
        if answer.header.is_none() {
            let revision = self.store.revision().await.map_err(read_status)?;
            answer.header = header(revision, self.store.incarnation());
        }
        Ok(answer)
    }

    /// The operation, if the caller may and the contract can.
    async fn op(&self, caller: &Caller, asked: Asked) -> Result<Op, Status> {
        match asked {
            Asked::RequestPut(put) => self.put_op(caller, put).await,
            Asked::RequestDeleteRange(delete) => delete_op(caller, delete),
            Asked::RequestRange(_) => Err(refused("a transaction either changes or reads")),
            Asked::RequestTxn(_) => Err(refused("a transaction holds no other")),
        }
    }

    async fn put_op(&self, caller: &Caller, put: pb::PutRequest) -> Result<Op, Status> {
        if put.prev_kv || put.ignore_value || put.ignore_lease {
            return Err(refused("a put gives the whole value, and is not answered with the one before"));
        }
        if put.key.is_empty() {
            return Err(answer::empty_key());
        }
        caller.key(&put.key)?;
        if put.lease == 0 {
            return Ok(Op::Put(put.key, put.value));
        }
        let lease = self.leases.owned(caller, put.lease).await?;
        Ok(Op::PutLeased(put.key, put.value, lease.id))
    }

    /// Commits; what cannot be undone by a client's own means ends the process.
    async fn commit(&self, commit: Commit) -> Result<Result<Revision, CommitError>, Status> {
        bounds(&commit)?;
        match self.store.commit(commit).await {
            Err(error @ CommitError::Failed(_)) => {
                self.health.fail(error.to_string());
                Err(commit_status(error))
            }
            Err(conflict @ CommitError::Conflict { .. }) => Ok(Err(conflict)),
            Err(error) => Err(commit_status(error)),
            Ok(revision) => Ok(Ok(revision)),
        }
    }

    /// That a key has a value is looked at first, and then that it has not changed since; `None`: it has another.
    async fn value_condition(&self, compare: pb::Compare) -> Result<Option<Condition>, Status> {
        let value = match compare.target_union {
            Some(TargetUnion::Value(value)) => value,
            _ => Vec::new(),
        };
        let entry = self.store.get(&compare.key).await.map_err(read_status)?;
        let same = entry.filter(|entry| entry.value == value);
        Ok(same.map(|entry| Condition::Unchanged(compare.key, entry.modified)))
    }

    async fn transaction(&self, caller: &Caller, asked: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        let many = asked.compare.len().max(asked.success.len()).max(asked.failure.len());
        if many > Commit::OPS_MAX {
            return Err(Status::invalid_argument(answer::TOO_MANY_OPS));
        }
        let reads = |op: &pb::RequestOp| matches!(op.request, Some(Asked::RequestRange(_)));
        if asked.compare.is_empty() && !asked.success.is_empty() && asked.success.iter().all(reads) {
            return Ok(pb::TxnResponse { succeeded: true, ..self.reads(caller, asked.success).await? });
        }
        let mut conditions = Vec::with_capacity(asked.compare.len());
        for compare in asked.compare {
            match condition(caller, &compare)? {
                Some(condition) => conditions.push(condition),
                None => match self.value_condition(compare).await? {
                    Some(condition) => conditions.push(condition),
                    None => return self.reads(caller, asked.failure).await,
                },
            }
        }
        let mut ops = Vec::with_capacity(asked.success.len());
        let mut responses = Vec::with_capacity(asked.success.len());
        for op in asked.success {
            let Some(op) = op.request else { return Err(Status::invalid_argument("an operation is empty")) };
            let op = match self.op(caller, op).await {
                Ok(op) => op,
                // A lease that has ended counts only where the conditions hold.
                Err(ended) if ended.code() == Code::NotFound => {
                    return match self.commit(Commit { conditions, ops: Vec::new() }).await? {
                        Ok(_) => Err(ended),
                        Err(_) => self.reads(caller, asked.failure).await,
                    };
                }
                Err(refusal) => return Err(refusal),
            };
            let response = match &op {
                Op::Delete(_) => Answered::ResponseDeleteRange(pb::DeleteRangeResponse::default()),
                Op::Put(..) | Op::PutLeased(..) => Answered::ResponsePut(pb::PutResponse::default()),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
            ops.push(op);
        }
        match self.commit(Commit { conditions, ops }).await? {
            Ok(revision) => Ok(pb::TxnResponse {
                header: header(revision, self.store.incarnation()),
                succeeded: true,
                responses,
            }),
            Err(_) => self.reads(caller, asked.failure).await,
        }
    }
}

#[allow(clippy::result_large_err)]
fn delete_op(caller: &Caller, delete: pb::DeleteRangeRequest) -> Result<Op, Status> {
    if !delete.range_end.is_empty() || delete.prev_kv {
        return Err(refused("a deletion names one key, and is not answered with its value"));
    }
    if delete.key.is_empty() {
        return Err(answer::empty_key());
    }
    caller.key(&delete.key)?;
    Ok(Op::Delete(delete.key))
}

/// The contract's condition; `None`: the comparison is of a value.
#[allow(clippy::result_large_err)]
fn condition(caller: &Caller, compare: &pb::Compare) -> Result<Option<Condition>, Status> {
    if compare.key.is_empty() {
        return Err(answer::empty_key());
    }
    caller.key(&compare.key)?;
    if compare.result() != CompareResult::Equal || !compare.range_end.is_empty() {
        return Err(refused("a comparison asks whether something of one key is equal"));
    }
    let equals = match (compare.target(), &compare.target_union) {
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(at))) => *at,
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(0))) => 0,
        (CompareTarget::Version, Some(TargetUnion::Version(0))) => 0,
        // A number that is left out is 0.
        (CompareTarget::Mod | CompareTarget::Create | CompareTarget::Version, None) => 0,
        (CompareTarget::Value, Some(TargetUnion::Value(_)) | None) => return Ok(None),
        _ => {
            return Err(refused(
                "a comparison asks whether a key is absent, last modified then, or of this value",
            ));
        }
    };
    Ok(Some(match equals {
        0 => Condition::Absent(compare.key.clone()),
        // A revision that no key has, as etcd takes it: it is compared, and differs.
        at => Condition::Unchanged(compare.key.clone(), revision(at).unwrap_or(Revision(u64::MAX))),
    }))
}

#[tonic::async_trait]
impl pb::kv_server::Kv for Kv {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let caller = self.callers.of(&request)?;
        Ok(Response::new(self.read(&caller, request.into_inner()).await?))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let caller = self.callers.of(&request)?;
        let op = self.put_op(&caller, request.into_inner()).await?;
        let done = self.commit(Commit { conditions: Vec::new(), ops: vec![op] }).await?;
        let revision = done.map_err(commit_status)?;
        Ok(Response::new(pb::PutResponse {
            header: header(revision, self.store.incarnation()),
            prev_kv: None,
        }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let caller = self.callers.of(&request)?;
        let Op::Delete(key) = delete_op(&caller, request.into_inner())? else {
            return Err(Status::internal("a deletion that is none"));
        };
        let answered = |deleted, revision| {
            let header = header(revision, self.store.incarnation());
            Ok(Response::new(pb::DeleteRangeResponse { header, deleted, prev_kvs: Vec::new() }))
        };
        // On condition that it is there, so that the count is true.
        for _ in 0..DELETE_TRIES {
            let query = RangeQuery::between(key.clone(), range_end(&key, Vec::new())).limit(1);
            let page = self.store.range(&query).await.map_err(read_status)?;
            let Some(entry) = page.entries.first() else { return answered(0, page.revision) };
            let conditions = vec![Condition::Unchanged(key.clone(), entry.modified)];
            match self.commit(Commit { conditions, ops: vec![Op::Delete(key.clone())] }).await? {
                Ok(revision) => return answered(1, revision),
                Err(_) => continue,
            }
        }
        Err(Status::aborted("others change the key all the time; try again"))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let caller = self.callers.of(&request)?;
        Ok(Response::new(self.transaction(&caller, request.into_inner()).await?))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.callers.of(&request)?;
        let up_to = revision(request.into_inner().revision)?;
        let newest = self.store.revision().await.map_err(read_status)?;
        if up_to > newest {
            return Err(read_status(metastore::ReadError::Future { newest }));
        }
        let oldest = self.store.compact(up_to).await.map_err(read_status)?;
        if oldest > up_to {
            return Err(read_status(metastore::ReadError::Compacted { oldest }));
        }
        Ok(Response::new(pb::CompactionResponse { header: header(newest, self.store.incarnation()) }))
    }
}
