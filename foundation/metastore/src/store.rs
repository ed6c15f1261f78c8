//! The store of a process: the embedded engine on a thread of its own, behind a handle that every task may clone.
//!
//! Group commit: the thread takes whatever waits in its queue as one batch, so commits that arrive while a batch
//! is being written share the next one, and its single sync.
//!
//! Invariant: answers are given in the order in which the commits entered the queue, refusals included. A
//! conflict is answered only after the batch that it was judged against is durable.
//! Invariant: one process owns the directory, by a lock that the kernel drops with the process.

use crate::contract::{Commit, CommitError, Entry, Revision};
use crate::engine::{Engine, EngineOptions, Reader, Ticket};
use crate::map::{Page, RangeQuery, ReadError};
use crate::recovery::{OpenError, Recovery, io_error};
use crate::watch::Watch;
use base::disk::{Disk, RealDisk};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// The file whose lock the owner of the directory holds; it contains the owner's process id.
const LOCK: &str = "LOCK";
/// Commits in one batch.
const BATCH_COMMITS_MAX: usize = 4096;
/// A batch is closed when its record has reached this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What a synchronous owner wants done with its commit's answer. Called on the store's thread: it must neither
/// block nor panic.
pub type OnDone = Box<dyn FnOnce(Result<Revision, CommitError>) + Send>;

/// Sizes of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// The engine's.
    pub engine: EngineOptions,
    /// Commits that may wait for the store's thread. They are at most 1 MiB each.
    pub queue_commits: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { engine: EngineOptions::default(), queue_commits: 1024 }
    }
}

/// The queue is full: the commit was not taken, and is handed back.
pub struct Busy {
    /// The commit.
    pub commit: Commit,
    /// What was to be done with its answer.
    pub on_done: OnDone,
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Busy").field("commit", &self.commit).finish_non_exhaustive()
    }
}

/// A handle of the store; clones are handles of the same one. When the last is dropped, what is queued is still
/// committed, and the drop waits for that.
#[derive(Clone)]
pub struct Store {
    // Before `_thread`: the queue ends first, and with it the thread that is then waited for.
    queue: mpsc::Sender<Request>,
    reader: Reader,
    recovery: Arc<Recovery>,
    _thread: Arc<Thread>,
}

struct Request {
    commit: Commit,
    answer: Answer,
}

enum Answer {
    Future(oneshot::Sender<Result<Revision, CommitError>>),
    Callback(OnDone),
}

impl Answer {
    fn give(self, result: Result<Revision, CommitError>) {
        match self {
            // Whoever asked may have gone; the commit happened all the same.
            Answer::Future(sender) => drop(sender.send(result)),
            Answer::Callback(on_done) => on_done(result),
        }
    }
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

impl Store {
    /// Opens the store in this directory, which is made if it does not exist, and starts its thread. Reads all of
    /// the store: blocks for as long as that takes.
    pub fn open(directory: &Path) -> Result<Store, OpenError> {
        Self::open_with(directory, StoreOptions::default())
    }

    /// [`Store::open`], with sizes.
    pub fn open_with(directory: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        let disk = RealDisk::open(directory).map_err(io_error(format!("open {}", directory.display())))?;
        let lock = lock(directory)?;
        Self::start(Box::new(disk), options, Some(lock))
    }

    /// A store over any disk, which the caller alone must own.
    pub fn over(disk: Box<dyn Disk>, options: StoreOptions) -> Result<Store, OpenError> {
        Self::start(disk, options, None)
    }

    fn start(disk: Box<dyn Disk>, options: StoreOptions, lock: Option<File>) -> Result<Store, OpenError> {
        let engine = Engine::open(disk, options.engine)?;
        let recovery = engine.recovery().clone();
        if let Some(torn) = &recovery.torn {
            let (file, offset, bytes) = (&torn.file, torn.offset, torn.bytes);
            tracing::warn!(file, offset, bytes, "cut off a batch that a crash left unfinished");
        }
        let reader = engine.reader();
        let (queue, requests) = mpsc::channel(options.queue_commits.max(1));
        let run = move || {
            run(engine, requests);
            // Held until the engine is closed.
            drop(lock);
        };
        let thread = std::thread::Builder::new().name("metastore".to_owned()).spawn(run);
        let thread = Arc::new(Thread(Some(thread.map_err(io_error("start the store's thread"))?)));
        Ok(Store { queue, reader, recovery: Arc::new(recovery), _thread: thread })
    }

    /// Commits; resolves when the commit is durable and visible, or refused. If the queue has room the commit has
    /// its place in it when this returns, before the future is first polled; else the future waits for room.
    /// A commit in the queue happens even if the future is dropped.
    pub fn commit(
        &self,
        commit: Commit,
    ) -> impl Future<Output = Result<Revision, CommitError>> + Send + 'static + use<> {
        let (sender, answer) = oneshot::channel();
        let request = Request { commit, answer: Answer::Future(sender) };
        let waiting = match self.queue.try_send(request) {
            // With a whole handle: a sender alone would keep the thread running that a drop waits for.
            Err(mpsc::error::TrySendError::Full(request)) => Some((self.clone(), request)),
            // A closed queue has dropped the answer's sender, which the receiver tells.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        };
        async move {
            if let Some((store, request)) = waiting {
                let _ = store.queue.send(request).await;
            }
            answer.await.unwrap_or_else(|_| Err(stopped()))
        }
    }

    /// Commits, and calls `on_done` on the store's thread with the answer. Never blocks.
    pub fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy> {
        let (commit, answer) =
            match self.queue.try_send(Request { commit, answer: Answer::Callback(on_done) }) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(request)) => (request.commit, request.answer),
                Err(mpsc::error::TrySendError::Closed(request)) => {
                    request.answer.give(Err(stopped()));
                    return Ok(());
                }
            };
        match answer {
            Answer::Callback(on_done) => Err(Busy { commit, on_done }),
            Answer::Future(_) => Ok(()),
        }
    }

    /// See [`Reader::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        self.reader.get(key)
    }

    /// See [`Reader::get_at`].
    pub fn get_at(&self, key: &[u8], revision: Revision) -> Result<Option<Entry>, ReadError> {
        self.reader.get_at(key, revision)
    }

    /// See [`Reader::range`].
    pub fn range(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        self.reader.range(query)
    }

    /// See [`Reader::list`].
    pub fn list(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Revision), ReadError> {
        self.reader.list(prefix)
    }

    /// See [`Reader::watch`].
    pub fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, ReadError> {
        self.reader.watch(prefix, from)
    }

    /// See [`Reader::compact`].
    pub fn compact(&self, up_to: Revision) -> Result<Revision, ReadError> {
        self.reader.compact(up_to)
    }

    /// The last durable revision.
    pub fn revision(&self) -> Revision {
        self.reader.revision()
    }

    /// 1 for a new store; raised by a restore.
    pub fn incarnation(&self) -> u64 {
        self.reader.incarnation()
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }
}

/// The answer of a store whose thread has ended, which it does only by a panic while there are handles.
fn stopped() -> CommitError {
    CommitError::Failed("its thread has ended".to_owned())
}

/// The store's thread: batches until every handle is gone.
fn run(mut engine: Engine, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    let mut maintain = false;
    let mut failed = false;
    loop {
        let first = match maintain {
            true => match requests.try_recv() {
                Ok(request) => Some(request),
                Err(mpsc::error::TryRecvError::Empty) => {
                    maintain = engine.maintain();
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            },
            false => requests.blocking_recv(),
        };
        let Some(mut request) = first else { break };
        loop {
            let staged = engine.stage(request.commit);
            batch.push((request.answer, staged));
            if batch.len() >= BATCH_COMMITS_MAX || engine.staged_bytes() >= BATCH_BYTES_MAX {
                break;
            }
            match requests.try_recv() {
                Ok(next) => request = next,
                Err(_) => break,
            }
        }
        batch_finish(&mut engine, &mut batch);
        maintain = engine.maintain();
        if let Some(why) = engine.failed().filter(|_| !failed) {
            tracing::error!(why, "the store has failed");
            failed = true;
        }
    }
    engine.close();
}

/// Flushes, and gives every answer of the batch, in order.
fn batch_finish(engine: &mut Engine, batch: &mut Vec<(Answer, Result<Ticket, CommitError>)>) {
    let mut flushed = engine.flush().into_iter();
    let failed = engine.failed();
    for (answer, staged) in batch.drain(..) {
        let result = match staged {
            // The tickets are those of the flush, in the same order.
            Ok(_) => flushed.next().map_or_else(|| Err(stopped()), |(_, result)| result),
            // It was judged against commits that may not have happened.
            Err(CommitError::Conflict { key }) => match &failed {
                Some(why) => Err(CommitError::Failed(why.clone())),
                None => Err(CommitError::Conflict { key }),
            },
            Err(error) => Err(error),
        };
        answer.give(result);
    }
}

/// Takes the directory's lock, which lasts as long as the file is open.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let open =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join(LOCK));
    let mut file = open.map_err(io_error("open the lock file"))?;
    if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(io_error("lock the store")(error.into()));
        }
        let mut holder = String::new();
        // The holder may be writing its id just now; that it holds the lock is certain all the same.
        let _ = file.read_to_string(&mut holder);
        return Err(OpenError::Locked { pid: holder.trim().parse().ok() });
    }
    let written = (|| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    })();
    written.map_err(io_error("write the lock file"))?;
    Ok(file)
}
