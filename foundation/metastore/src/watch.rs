//! Watches: whole commits in the order of their revisions, each watcher with its own bounded queue.
//!
//! Invariant: a commit never waits for a watcher. One whose queue is full gets what is in it, and then the end,
//! [`WatchEnd::Lagged`]; it lists anew and watches from there.

use crate::contract::{Key, Revision};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// What one commit did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value; `None`: it was deleted.
    pub value: Option<Bytes>,
}

/// What one commit did, to the keys under a watch's prefix. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEvents {
    /// The commit's revision.
    pub revision: Revision,
    /// Its changes, in the order of its operations; no key twice.
    pub changes: Vec<Change>,
}

impl CommitEvents {
    /// Keys and values together.
    pub(crate) fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// The watcher was slower than the commits for too long and has missed some: list anew, watch from there.
    #[error("the watcher lagged behind and has missed commits: list anew")]
    Lagged,
    /// The store was closed or has failed; nothing more will come from it.
    #[error("the store is closed: {0}")]
    Closed(String),
}

/// A stream of commits. Made by `watch` of the engine or the store; needs no runtime for [`Watch::try_next`].
#[derive(Debug)]
pub struct Watch {
    prefix: Key,
    /// Commits that were history when the watch began; shared with the store's history, filtered when read.
    backlog: VecDeque<Arc<CommitEvents>>,
    queue: mpsc::Receiver<Arc<CommitEvents>>,
    end: Arc<OnceLock<WatchEnd>>,
}

impl Watch {
    /// The next commit that changed a key under the prefix; waits for it. Cancel-safe.
    pub async fn next(&mut self) -> Result<Arc<CommitEvents>, WatchEnd> {
        if let Some(events) = self.backlog_next() {
            return Ok(events);
        }
        self.queue.recv().await.ok_or_else(|| self.ended())
    }

    /// The next commit that changed a key under the prefix, `None` if there is none yet.
    pub fn try_next(&mut self) -> Result<Option<Arc<CommitEvents>>, WatchEnd> {
        if let Some(events) = self.backlog_next() {
            return Ok(Some(events));
        }
        match self.queue.try_recv() {
            Ok(events) => Ok(Some(events)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(self.ended()),
        }
    }

    fn backlog_next(&mut self) -> Option<Arc<CommitEvents>> {
        while let Some(events) = self.backlog.pop_front() {
            if let Some(events) = events_under(&self.prefix, &events) {
                return Some(events);
            }
        }
        None
    }

    fn ended(&self) -> WatchEnd {
        self.end.get().cloned().unwrap_or_else(|| WatchEnd::Closed("its engine is gone".to_owned()))
    }
}

/// The store's ends of all watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    prefix: Key,
    queue: mpsc::Sender<Arc<CommitEvents>>,
    end: Arc<OnceLock<WatchEnd>>,
}

impl Watchers {
    /// A new watch, which gets `backlog` first and then what is published from now on.
    pub(crate) fn add(
        &mut self,
        prefix: &[u8],
        backlog: VecDeque<Arc<CommitEvents>>,
        queue_max: usize,
    ) -> Watch {
        let (sender, queue) = mpsc::channel(queue_max.max(1));
        let end = Arc::new(OnceLock::new());
        self.0.push(Watcher { prefix: prefix.to_vec(), queue: sender, end: end.clone() });
        Watch { prefix: prefix.to_vec(), backlog, queue, end }
    }

    /// Gives a commit to every watcher whose prefix it touches.
    pub(crate) fn publish(&mut self, events: &Arc<CommitEvents>) {
        self.0.retain(|watcher| {
            if watcher.queue.is_closed() {
                return false;
            }
            let Some(events) = events_under(&watcher.prefix, events) else {
                return true;
            };
            let sent = watcher.queue.try_send(events).is_ok();
            if !sent {
                let _ = watcher.end.set(WatchEnd::Lagged);
            }
            sent
        });
    }

    /// Ends all watches.
    pub(crate) fn close(&mut self, why: &str) {
        for watcher in self.0.drain(..) {
            let _ = watcher.end.set(WatchEnd::Closed(why.to_owned()));
        }
    }
}

/// The commit's part under the prefix; the commit itself, shared, if that is all of it.
fn events_under(prefix: &[u8], events: &Arc<CommitEvents>) -> Option<Arc<CommitEvents>> {
    let under = |change: &&Change| change.key.starts_with(prefix);
    match events.changes.iter().filter(under).count() {
        0 => None,
        count if count == events.changes.len() => Some(events.clone()),
        _ => {
            let changes = events.changes.iter().filter(under).cloned().collect();
            Some(Arc::new(CommitEvents { revision: events.revision, changes }))
        }
    }
}
