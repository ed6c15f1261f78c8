//! Watches: many on one stream, each a task that passes on what commits did to the keys that it asked for.
//!
//! A watch that falls behind is not ended as the contract's is: it goes on from the last commit that it has passed on,
//! as long as the history reaches back to that, and ends with the oldest revision when it does not, as etcd's.

use crate::answer::{COMPACTED, FUTURE, header, read_status, refused, revision, wire};
use crate::caller::{Caller, Callers};
use crate::etcdserverpb as pb;
use crate::kv::range_end;
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};
use bytes::Bytes;
use metastore::{CommitEvents, RangeQuery, ReadError, Revision, Store, WatchEnd};
use pb::watch_request::RequestUnion;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Answers that wait for one stream.
const ANSWERS_WAITING: usize = 64;
/// Watches on one stream.
const WATCHES_MAX: usize = 10_000;
/// An answer takes no further commit once it has so many events.
const ANSWER_EVENTS: usize = 256;
/// How often a quiet watch is told that it has missed nothing, if it wants to be told.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

type Answers = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// The service `etcdserverpb.Watch`.
#[derive(Clone)]
pub struct Watches {
    pub(crate) store: Store,
    pub(crate) callers: Arc<Callers>,
}

#[tonic::async_trait]
impl pb::watch_server::Watch for Watches {
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.callers.of(&request)?;
        let (answers, answered) = mpsc::channel(ANSWERS_WAITING);
        let stream = Stream { store: self.store.clone(), caller, answers, watches: BTreeMap::new(), next: 1 };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

/// A watch's task ends with its stream.
struct Running {
    task: AbortHandle,
    progress: Arc<Notify>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task of one stream.
struct Stream {
    store: Store,
    caller: Arc<Caller>,
    answers: Answers,
    watches: BTreeMap<i64, Running>,
    next: i64,
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.answers.closed() => return,
            };
            let Ok(Some(request)) = request else { return };
            let going_on = match request.request_union {
                Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
                Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => {
                    self.watches.values().for_each(|watch| watch.progress.notify_one());
                    true
                }
                None => true,
            };
            if !going_on {
                return;
            }
        }
    }

    /// Begins a watch, or says why not; false: nobody listens any more.
    async fn create(&mut self, create: pb::WatchCreateRequest) -> bool {
        self.watches.retain(|_, watch| !watch.task.is_finished());
        let id = match create.watch_id {
            0 => self.id_next(),
            id => id,
        };
        let mut answer = pb::WatchResponse { watch_id: id, created: true, ..pb::WatchResponse::default() };
        match self.begin(id, create).await {
            Ok((feed, from)) => {
                answer.header = header(from, self.store.incarnation());
                if self.answers.send(Ok(answer)).await.is_err() {
                    return false;
                }
                let progress = feed.progress.clone();
                let task = tokio::spawn(feed.run()).abort_handle();
                self.watches.insert(id, Running { task, progress });
                true
            }
            Err(refusal) => {
                if refusal.oldest > 0 {
                    // As etcd: such a watch begins, and ends at once.
                    let created = pb::WatchResponse { header: self.header().await, ..answer.clone() };
                    if self.answers.send(Ok(created)).await.is_err() {
                        return false;
                    }
                    answer.created = false;
                }
                answer.canceled = true;
                answer.compact_revision = refusal.oldest;
                answer.cancel_reason = refusal.why;
                answer.header = self.header().await;
                self.answers.send(Ok(answer)).await.is_ok()
            }
        }
    }

    /// The present revision, where it can be read.
    async fn header(&self) -> Option<pb::ResponseHeader> {
        header(self.store.revision().await.ok()?, self.store.incarnation())
    }

    fn id_next(&mut self) -> i64 {
        while self.watches.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }

    async fn begin(&self, id: i64, create: pb::WatchCreateRequest) -> Result<(Feed, Revision), Refusal> {
        if self.watches.contains_key(&id) {
            return Err(Refusal::said("etcdserver: mvcc: duplicate watch ID provided on the WatchStream"));
        }
        if self.watches.len() >= WATCHES_MAX {
            return Err(Refusal::said("etcdserver: too many requests: open another stream for more watches"));
        }
        if !create.filters.is_empty() || create.prev_kv {
            return Err(refused("a watch is not filtered, and does not tell values before").into());
        }
        let end = range_end(&create.key, create.range_end);
        self.caller.range(&create.key, end.as_deref())?;
        let from = match create.start_revision {
            0 => self.store.revision().await.map_err(Refusal::from)?,
            first => Revision(revision(first)?.0.saturating_sub(1)),
        };
        let prefix = prefix(&create.key, end.as_deref());
        let (watch, from, first) = match self.store.watch(&prefix, from).await {
            // The oldest revision that can be read can be watched from, as with etcd.
            Err(ReadError::Compacted { oldest }) if wire(oldest) == create.start_revision => {
                let watch = self.store.watch(&prefix, oldest).await?;
                (watch, oldest, puts_at(&self.store, &create.key, end.as_deref(), oldest).await?)
            }
            watch => (watch?, from, Vec::new()),
        };
        let feed = Feed {
            id,
            store: self.store.clone(),
            answers: self.answers.clone(),
            start: create.key,
            end,
            prefix,
            watch,
            passed: from,
            first,
            progress: Arc::default(),
            progress_notify: create.progress_notify,
        };
        Ok((feed, from))
    }

    async fn cancel(&mut self, id: i64) -> bool {
        if self.watches.remove(&id).is_none() {
            return true;
        }
        let revision = self.store.revision().await.unwrap_or_default();
        let answer = pb::WatchResponse {
            header: header(revision, self.store.incarnation()),
            watch_id: id,
            canceled: true,
            ..pb::WatchResponse::default()
        };
        self.answers.send(Ok(answer)).await.is_ok()
    }
}

/// Why there is no watch (any longer).
struct Refusal {
    /// Not 0: the oldest revision that can be read.
    oldest: i64,
    why: String,
}

impl Refusal {
    fn said(why: &str) -> Refusal {
        Refusal { oldest: 0, why: why.to_owned() }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::said(status.message())
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        match error {
            ReadError::Compacted { oldest } => {
                Refusal { oldest: wire(oldest).max(1), why: COMPACTED.to_owned() }
            }
            ReadError::Future { .. } => Refusal::said(FUTURE),
            error => read_status(error).into(),
        }
    }
}

/// What is left of the commit at the oldest revision that can be read: its puts, as with etcd.
async fn puts_at(
    store: &Store,
    start: &[u8],
    end: Option<&[u8]>,
    oldest: Revision,
) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    let mut after = None;
    loop {
        let query = RangeQuery::between(start.to_vec(), end.map(<[u8]>::to_vec)).at(oldest).after(after);
        let page = store.range(&query).await?;
        let puts = page.entries.into_iter().filter(|entry| entry.modified == oldest);
        events.extend(puts.map(|entry| event(entry.key.into(), Some(entry.value.into()), oldest)));
        if page.next.is_none() {
            return Ok(events);
        }
        after = page.next;
    }
}

/// What became of one key; no value: it was deleted.
fn event(key: Bytes, value: Option<Bytes>, revision: Revision) -> Event {
    let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
    let value = value.unwrap_or_default();
    let kv = KeyValue { key, value, mod_revision: wire(revision), ..KeyValue::default() };
    Event { r#type: kind.into(), kv: Some(kv), prev_kv: None }
}

/// What all keys of a range begin with.
fn prefix(start: &[u8], end: Option<&[u8]>) -> Vec<u8> {
    let Some(end) = end else { return Vec::new() };
    if end == [start, &[0]].concat() {
        return start.to_vec();
    }
    let common = start.iter().zip(end).take_while(|(one, other)| one == other).count();
    // Where the end is the next prefix (`a/` to `a0`), the byte before it is common too.
    let next = start.len() == end.len()
        && common + 1 == end.len()
        && start[common].checked_add(1) == Some(end[common]);
    start[..if next { common + 1 } else { common }].to_vec()
}

/// One watch.
struct Feed {
    id: i64,
    store: Store,
    answers: Answers,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    prefix: Vec<u8>,
    watch: metastore::Watch,
    /// Everything up to here was passed on.
    passed: Revision,
    /// What is told before anything else.
    first: Vec<Event>,
    progress: Arc<Notify>,
    progress_notify: bool,
}

impl Feed {
    async fn run(mut self) {
        let mut due = tokio::time::interval(PROGRESS_EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        due.reset();
        let first = std::mem::take(&mut self.first);
        if !self.answer(first).await {
            return;
        }
        loop {
            let going_on = tokio::select! {
                events = self.watch.next() => {
                    due.reset();
                    self.pass(events).await
                }
                () = self.progress.notified() => self.tell_progress().await,
                _ = due.tick(), if self.progress_notify => self.tell_progress().await,
            };
            if !going_on {
                return;
            }
        }
    }

    /// Passes on a commit, and what waits behind it.
    async fn pass(&mut self, first: Result<Arc<CommitEvents>, WatchEnd>) -> bool {
        let mut events = Vec::new();
        let mut next = first;
        loop {
            match next {
                Ok(commit) => self.take(&commit, &mut events),
                Err(end) => return self.answer(events).await && self.ended(end).await,
            }
            if events.len() >= ANSWER_EVENTS {
                break;
            }
            match self.watch.try_next() {
                Ok(None) => break,
                Ok(Some(commit)) => next = Ok(commit),
                Err(end) => next = Err(end),
            }
        }
        self.answer(events).await
    }

    fn take(&mut self, commit: &CommitEvents, events: &mut Vec<Event>) {
        self.passed = commit.revision;
        for change in &commit.changes {
            let key = change.key.as_ref();
            if key < self.start.as_slice() || self.end.as_deref().is_some_and(|end| key >= end) {
                continue;
            }
            events.push(event(change.key.clone(), change.value.clone(), commit.revision));
        }
    }

    async fn answer(&self, events: Vec<Event>) -> bool {
        events.is_empty() || self.send(pb::WatchResponse { events, ..pb::WatchResponse::default() }).await
    }

    async fn send(&self, answer: pb::WatchResponse) -> bool {
        let header = header(self.passed, self.store.incarnation());
        self.answers.send(Ok(pb::WatchResponse { header, watch_id: self.id, ..answer })).await.is_ok()
    }

    /// Says up to where nothing was missed: commits are in the queue before their revision can be read.
    async fn tell_progress(&mut self) -> bool {
        let Ok(revision) = self.store.revision().await else { return true };
        loop {
            match self.watch.try_next() {
                Ok(None) => break,
                Ok(Some(commit)) => {
                    if !self.pass(Ok(commit)).await {
                        return false;
                    }
                }
                Err(end) => return self.ended(end).await,
            }
        }
        self.passed = self.passed.max(revision);
        self.send(pb::WatchResponse::default()).await
    }

    /// The store's watch has ended: it is begun anew from the last commit that was passed on, if it can be.
    async fn ended(&mut self, end: WatchEnd) -> bool {
        let refusal = match end {
            WatchEnd::Lagged => match self.store.watch(&self.prefix, self.passed).await {
                Ok(watch) => {
                    self.watch = watch;
                    return true;
                }
                Err(error) => Refusal::from(error),
            },
            WatchEnd::Closed(why) | WatchEnd::Interrupted(why) => {
                let _ = self.answers.send(Err(Status::unavailable(why))).await;
                return false;
            }
        };
        let answer = pb::WatchResponse {
            canceled: true,
            compact_revision: refusal.oldest,
            cancel_reason: refusal.why,
            ..pb::WatchResponse::default()
        };
        self.send(answer).await;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranges_prefix_is_the_longest_that_holds_all_of_it() {
        let check = |start: &str, end: Option<&str>, expected: &str| {
            let found = prefix(start.as_bytes(), end.map(str::as_bytes));
            assert_eq!(found, expected.as_bytes(), "{start} to {end:?}");
        };
        check("cell/a/", Some("cell/a0"), "cell/a/");
        check("cell/a/x", Some("cell/a/x\0"), "cell/a/x");
        check("cell/a/x", Some("cell/a/z"), "cell/a/");
        check("cell/a/x1", Some("cell/a/x2"), "cell/a/x1");
        check("cell/a/x1", Some("cell/a/y1"), "cell/a/");
        check("cell/a/", Some("cell/b"), "cell/");
        check("a", None, "");
    }
}
