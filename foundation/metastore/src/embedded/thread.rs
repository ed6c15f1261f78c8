//! The embedded engine behind the store's handle: on a thread of its own, with group commit, a clock, and the lock
//! on its directory.
//!
//! Group commit: the thread takes whatever waits in its queue as one batch, so commits that arrive while a batch
//! is being written share the next one, and its single sync.
//!
//! Invariant: answers are given in the order in which the commits entered the queue, refusals included. A
//! refusal that was judged against staged commits is answered only after they are durable.
//! Invariant: one process owns the directory, by a lock that the kernel drops with the process.
//! Invariant: while there is no lease, the thread sleeps until something is queued.

use super::backup::{Backup, BackupError};
use super::engine::{Engine, EngineOptions};
use super::reader::Reader;
use super::recovery::{OpenError, io_error};
use crate::contract::{
    Commit, CommitError, Entry, LeaseError, LeaseId, Page, RangeQuery, ReadError, Revision,
};
use crate::store::{Backend, Busy, OnDone, Pending};
use crate::watch::Watch;
use base::clock::{SteadyClock, Timestamp};
use base::disk::{Disk, RealDisk};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// The file whose lock the owner of the directory holds; it contains the owner's process id.
pub(super) const LOCK: &str = "LOCK";
/// Commits in one batch.
const BATCH_COMMITS_MAX: usize = 4096;
/// A batch is closed when its record has reached this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Sizes of an embedded store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// The engine's.
    pub engine: EngineOptions,
    /// Commits that may wait for the store's thread.
    pub queue_commits: usize,
    /// Keys and values of these, at most (but one commit may always wait).
    pub queue_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { engine: EngineOptions::default(), queue_commits: 1024, queue_bytes: 64 << 20 }
    }
}

impl StoreOptions {
    /// The sizes that fit most, but for the state's bound ([`EngineOptions::state_bytes_max`]).
    pub fn bounded(state_bytes_max: u64) -> StoreOptions {
        let engine = EngineOptions { state_bytes_max, ..EngineOptions::default() };
        StoreOptions { engine, ..StoreOptions::default() }
    }
}

/// A handle of the thread; when the last is dropped, what is queued still happens, and the drop waits for that.
#[derive(Clone)]
pub(crate) struct Embedded {
    // Before `_thread`: the queue ends first, and with it the thread that is then waited for.
    queue: mpsc::Sender<Request>,
    /// A permit is a byte of a commit that waits in the queue.
    room: Arc<Semaphore>,
    room_max: usize,
    reader: Reader,
    _thread: Arc<Thread>,
}

enum Request {
    Commit(Commit, OnDone, OwnedSemaphorePermit),
    LeaseGrant(Duration, oneshot::Sender<Result<LeaseId, LeaseError>>),
    LeaseKeepAlive(LeaseId, oneshot::Sender<Result<(), LeaseError>>),
    LeaseRevoke(LeaseId, oneshot::Sender<Result<(), LeaseError>>),
}

struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        let Some(handle) = self.0.take() else { return };
        // An answer's callback may have held the last handle: the thread does not wait for itself.
        if handle.thread().id() != std::thread::current().id() && handle.join().is_err() {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl Embedded {
    pub(crate) fn open(directory: &Path, options: StoreOptions) -> Result<Embedded, OpenError> {
        let disk = RealDisk::open(directory).map_err(io_error(format!("open {}", directory.display())))?;
        let lock = lock(directory)?;
        Self::start(Box::new(disk), options, Some(lock))
    }

    pub(crate) fn over(disk: Box<dyn Disk>, options: StoreOptions) -> Result<Embedded, OpenError> {
        Self::start(disk, options, None)
    }

    fn start(disk: Box<dyn Disk>, options: StoreOptions, lock: Option<File>) -> Result<Embedded, OpenError> {
        let engine = Engine::open(disk, options.engine)?;
        if let Some(torn) = &engine.recovery().torn {
            let (file, offset, bytes) = (&torn.file, torn.offset, torn.bytes);
            tracing::warn!(file, offset, bytes, "cut off a batch that a crash left unfinished");
        }
        let reader = engine.reader();
        let (queue, requests) = mpsc::channel(options.queue_commits.max(1));
        let room_max = options.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let room = Arc::new(Semaphore::new(room_max));
        let run = move || {
            Owner { engine, requests, clock: SteadyClock::start(), batch: Vec::new() }.run();
            // Held until the engine is closed.
            drop(lock);
        };
        let thread = std::thread::Builder::new().name("metastore".to_owned()).spawn(run);
        let thread = Arc::new(Thread(Some(thread.map_err(io_error("start the store's thread"))?)));
        Ok(Embedded { queue, room, room_max, reader, _thread: thread })
    }

    /// The bytes that a commit takes in the queue.
    fn permits(&self, commit: &Commit) -> u32 {
        commit.bytes().clamp(1, self.room_max) as u32
    }

    /// Queues a commit if there is room at once; else gives it back.
    fn queue_try(&self, commit: Commit, on_done: OnDone) -> Result<(), (Commit, OnDone)> {
        let Ok(room) = self.room.clone().try_acquire_many_owned(self.permits(&commit)) else {
            return Err((commit, on_done));
        };
        match self.queue.try_send(Request::Commit(commit, on_done, room)) {
            Err(mpsc::error::TrySendError::Full(Request::Commit(commit, on_done, _))) => {
                Err((commit, on_done))
            }
            Err(mpsc::error::TrySendError::Closed(Request::Commit(_, on_done, _))) => {
                on_done(Err(stopped()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Queues a commit, and waits for room if it must.
    async fn queue_wait(&self, commit: Commit, on_done: OnDone) {
        // Neither is ever closed; a thread that has panicked drops the request, and with it the answer's sender.
        if let Ok(room) = self.room.clone().acquire_many_owned(self.permits(&commit)).await {
            let _ = self.queue.send(Request::Commit(commit, on_done, room)).await;
        }
    }

    /// Queues a request about a lease, and waits for its answer.
    fn lease<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, LeaseError>>) -> Request + Send + 'static,
    ) -> Pending<'_, Result<T, LeaseError>> {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let _ = self.queue.send(request(sender)).await;
            answer.await.unwrap_or_else(|_| Err(stopped().into()))
        })
    }
}

impl Backend for Embedded {
    fn incarnation(&self) -> u64 {
        self.reader.incarnation()
    }

    fn commit(&self, commit: Commit) -> Pending<'static, Result<Revision, CommitError>> {
        let (sender, answer) = oneshot::channel();
        // Whoever asked may have gone; the commit happens all the same.
        let on_done: OnDone = Box::new(move |result| drop(sender.send(result)));
        // With a whole handle: a sender alone would keep the thread running that a drop waits for.
        let waiting = self.queue_try(commit, on_done).err().map(|refused| (self.clone(), refused));
        Box::pin(async move {
            if let Some((embedded, (commit, on_done))) = waiting {
                embedded.queue_wait(commit, on_done).await;
            }
            answer.await.unwrap_or_else(|_| Err(stopped()))
        })
    }

    fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy> {
        self.queue_try(commit, on_done).map_err(|(commit, on_done)| Busy { commit, on_done })
    }

    fn revision(&self) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(async { Ok(self.reader.revision()) })
    }

    fn get<'a>(
        &'a self,
        key: &'a [u8],
        at: Option<Revision>,
    ) -> Pending<'a, Result<Option<Entry>, ReadError>> {
        Box::pin(async move {
            match at {
                None => self.reader.get(key),
                Some(revision) => self.reader.get_at(key, revision),
            }
        })
    }

    fn range<'a>(&'a self, query: &'a RangeQuery) -> Pending<'a, Result<Page, ReadError>> {
        Box::pin(async { self.reader.range(query) })
    }

    fn watch<'a>(&'a self, prefix: &'a [u8], from: Revision) -> Pending<'a, Result<Watch, ReadError>> {
        Box::pin(async move { self.reader.watch(prefix, from) })
    }

    fn compact(&self, up_to: Revision) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(async move { self.reader.compact(up_to) })
    }

    fn backup(&self) -> Result<Backup, BackupError> {
        self.reader.backup(Timestamp::now()).map_err(|error| BackupError::Failed(error.to_string()))
    }

    fn lease_grant(&self, ttl: Duration) -> Pending<'_, Result<LeaseId, LeaseError>> {
        self.lease(move |answer| Request::LeaseGrant(ttl, answer))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        self.lease(move |answer| Request::LeaseKeepAlive(id, answer))
    }

    fn lease_revoke(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        self.lease(move |answer| Request::LeaseRevoke(id, answer))
    }
}

/// The answer of a store whose thread has ended, which it does only by a panic while there are handles.
fn stopped() -> CommitError {
    CommitError::Failed("its thread has ended".to_owned())
}

/// A request's answer, given after the flush: with the next of the flush's results, or with what is known already.
struct Answer {
    on_done: OnDone,
    known: Option<Result<Revision, CommitError>>,
}

/// What the thread owns.
struct Owner {
    engine: Engine,
    requests: mpsc::Receiver<Request>,
    clock: SteadyClock,
    batch: Vec<Answer>,
}

/// What the thread is woken by.
enum Next {
    Request(Request),
    /// A lease may have ended, or there is maintenance to go on with.
    Time,
    /// Every handle is gone.
    End,
}

impl Owner {
    /// Batches until every handle is gone.
    fn run(mut self) {
        let mut maintain = false;
        let mut failed = false;
        loop {
            match self.next(maintain) {
                Next::Request(request) => self.batch_stage(request),
                Next::Time => {}
                Next::End => break,
            }
            // After what was queued, which may have kept it alive.
            if self.engine.lease_next().is_some() {
                self.engine.expire(self.clock.now());
            }
            self.batch_finish();
            maintain = self.engine.maintain();
            if let Some(why) = self.engine.failed().filter(|_| !failed) {
                tracing::error!(why, "the store has failed");
                failed = true;
            }
        }
        self.engine.close();
    }

    fn next(&mut self, maintain: bool) -> Next {
        if maintain {
            return match self.requests.try_recv() {
                Ok(request) => Next::Request(request),
                Err(mpsc::error::TryRecvError::Empty) => Next::Time,
                Err(mpsc::error::TryRecvError::Disconnected) => Next::End,
            };
        }
        let received = match self.engine.lease_next() {
            None => Poll::Ready(self.requests.blocking_recv()),
            Some(deadline) => receive_within(&mut self.requests, deadline.since(self.clock.now())),
        };
        match received {
            Poll::Ready(Some(request)) => Next::Request(request),
            Poll::Ready(None) => Next::End,
            Poll::Pending => Next::Time,
        }
    }

    fn batch_stage(&mut self, first: Request) {
        let mut request = first;
        loop {
            self.stage(request);
            if self.batch.len() >= BATCH_COMMITS_MAX || self.engine.staged_bytes() >= BATCH_BYTES_MAX {
                return;
            }
            match self.requests.try_recv() {
                Ok(next) => request = next,
                Err(_) => return,
            }
        }
    }

    fn stage(&mut self, request: Request) {
        let answer = match request {
            Request::Commit(commit, on_done, _room) => {
                let known = self.engine.stage(commit).err().map(Err);
                Answer { on_done, known }
            }
            Request::LeaseGrant(ttl, answer) => match self.engine.lease_grant(ttl, self.clock.now()) {
                Ok((_, id)) => lease_answer(answer, id, None),
                Err(error) => lease_answer(answer, LeaseId(0), Some(Err(error))),
            },
            Request::LeaseKeepAlive(id, answer) => {
                let kept = self.engine.lease_keep_alive(id, self.clock.now());
                lease_answer(answer, (), Some(kept.map(|()| Revision::default())))
            }
            Request::LeaseRevoke(id, answer) => {
                let known = self.engine.lease_revoke(id).err().map(Err);
                lease_answer(answer, (), known)
            }
        };
        self.batch.push(answer);
    }

    /// Flushes, and gives every answer of the batch, in order.
    fn batch_finish(&mut self) {
        let mut flushed = self.engine.flush().into_iter();
        let failed = self.engine.failed();
        for Answer { on_done, known } in self.batch.drain(..) {
            let result = match known {
                // The tickets are those of the flush, in the same order.
                None => flushed.next().map_or_else(|| Err(stopped()), |(_, result)| result),
                // It was judged against commits that may not have happened.
                Some(
                    Ok(_)
                    | Err(CommitError::Conflict { .. } | CommitError::LeaseExpired(_) | CommitError::Full(_)),
                ) if failed.is_some() => Err(CommitError::Failed(failed.clone().unwrap_or_default())),
                Some(known) => known,
            };
            on_done(result);
        }
    }
}

/// An answer about a lease: `granted` if all goes well.
fn lease_answer<T: Send + 'static>(
    answer: oneshot::Sender<Result<T, LeaseError>>,
    granted: T,
    known: Option<Result<Revision, CommitError>>,
) -> Answer {
    let on_done: OnDone = Box::new(move |result| {
        let _ = answer.send(result.map(|_| granted).map_err(LeaseError::from));
    });
    Answer { on_done, known }
}

/// Waits for a request, for so long at most; `Pending`: there was none.
fn receive_within(requests: &mut mpsc::Receiver<Request>, wait: Duration) -> Poll<Option<Request>> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let begun = Instant::now();
    loop {
        if let Poll::Ready(received) = requests.poll_recv(&mut Context::from_waker(&waker)) {
            return Poll::Ready(received);
        }
        match wait.checked_sub(begun.elapsed()) {
            Some(left) if !left.is_zero() => std::thread::park_timeout(left),
            _ => return Poll::Pending,
        }
    }
}

/// Takes the directory's lock as a reader among others; none if no process has ever owned the directory.
pub(super) fn lock_shared(directory: &Path) -> Result<Option<File>, OpenError> {
    let mut file = match File::open(directory.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io_error("open the lock file"))?,
    };
    lock_take(&mut file, FlockOperation::NonBlockingLockShared)?;
    Ok(Some(file))
}

fn lock_take(file: &mut File, operation: FlockOperation) -> Result<(), OpenError> {
    match rustix::fs::flock(&*file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // The holder may be writing its id just now; that it holds the lock is certain all the same.
            let _ = file.read_to_string(&mut holder);
            Err(OpenError::Locked { pid: holder.trim().parse().ok() })
        }
        Err(error) => Err(io_error("lock the store")(error.into())),
    }
}

/// Takes the directory's lock, which lasts as long as the file is open.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let open =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join(LOCK));
    let mut file = open.map_err(io_error("open the lock file"))?;
    lock_take(&mut file, FlockOperation::NonBlockingLockExclusive)?;
    let written = (|| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    })();
    written.map_err(io_error("write the lock file"))?;
    Ok(file)
}
