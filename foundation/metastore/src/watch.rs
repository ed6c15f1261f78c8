//! Watches: whole commits in the order of their revisions, each watcher with its own bounded queue, which any engine
//! can feed.
//!
//! Invariant: a commit never waits for a watcher. One whose queue is full gets what is in it, and then the end,
//! [`WatchEnd::Lagged`]; it lists anew and watches from there.
//! Invariant: what engines keep for themselves (keys that begin with byte 0) no watch gives.

use crate::contract::{Key, Revision, USER_KEYS_BEGIN};
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
    /// The way to the store broke, or its server ended: list anew, watch from there. Never said by the embedded
    /// engine.
    #[error("the watch was interrupted: {0}")]
    Interrupted(String),
    /// The store was closed or has failed; nothing more will come from it.
    #[error("the store is closed: {0}")]
    Closed(String),
}

/// A stream of commits. Made by [`Watch::fed`] for an engine; needs no runtime for [`Watch::try_next`].
#[derive(Debug)]
pub struct Watch {
    prefix: Key,
    /// Commits that were history when the watch began; shared with the store's history, filtered when read.
    backlog: VecDeque<Arc<CommitEvents>>,
    queue: mpsc::Receiver<Arc<CommitEvents>>,
    end: Arc<OnceLock<WatchEnd>>,
}

/// An engine's end of a watch. Dropped without an end, it leaves the watch [`WatchEnd::Closed`].
#[derive(Debug)]
pub struct WatchFeed {
    prefix: Key,
    queue: mpsc::Sender<Arc<CommitEvents>>,
    end: Arc<OnceLock<WatchEnd>>,
}

impl WatchFeed {
    /// Gives the watch the commit's part under its prefix, if there is one. False: the watch is over, because it was
    /// dropped or is full now ([`WatchEnd::Lagged`]), and so is the use of this.
    pub fn try_send(&self, events: &Arc<CommitEvents>) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        let Some(events) = events_under(&self.prefix, events) else {
            return true;
        };
        let sent = self.queue.try_send(events).is_ok();
        if !sent {
            let _ = self.end.set(WatchEnd::Lagged);
        }
        sent
    }

    /// As [`WatchFeed::try_send`], but waits while the watch is full: for engines whose server bounds the lag.
    pub async fn send(&self, events: &Arc<CommitEvents>) -> bool {
        match events_under(&self.prefix, events) {
            Some(events) => self.queue.send(events).await.is_ok(),
            None => !self.queue.is_closed(),
        }
    }

    /// Resolves when the watch was dropped.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Ends the watch, after what it was given.
    pub fn end(self, end: WatchEnd) {
        let _ = self.end.set(end);
    }
}

impl Watch {
    /// A watch of the keys under `prefix`, and what feeds it: it gives `backlog` first and then what the feed is
    /// given, of which `queue_max` commits may wait.
    pub fn fed(prefix: &[u8], backlog: VecDeque<Arc<CommitEvents>>, queue_max: usize) -> (WatchFeed, Watch) {
        let (sender, queue) = mpsc::channel(queue_max.max(1));
        let end = Arc::new(OnceLock::new());
        let feed = WatchFeed { prefix: prefix.to_vec(), queue: sender, end: end.clone() };
        (feed, Watch { prefix: prefix.to_vec(), backlog, queue, end })
    }

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

/// The embedded engine's ends of all watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<WatchFeed>);

impl Watchers {
    pub(crate) fn add(&mut self, feed: WatchFeed) {
        self.0.push(feed);
    }

    /// Gives a commit to every watcher whose prefix it touches.
    pub(crate) fn publish(&mut self, events: &Arc<CommitEvents>) {
        self.0.retain(|feed| feed.try_send(events));
    }

    /// Ends all watches.
    pub(crate) fn close(&mut self, why: &str) {
        for feed in self.0.drain(..) {
            feed.end(WatchEnd::Closed(why.to_owned()));
        }
    }
}

/// The commit's part under the prefix; the commit itself, shared, if that is all of it.
fn events_under(prefix: &[u8], events: &Arc<CommitEvents>) -> Option<Arc<CommitEvents>> {
    let under = |change: &&Change| change.key.starts_with(prefix) && &change.key[..] >= USER_KEYS_BEGIN;
    match events.changes.iter().filter(under).count() {
        0 => None,
        count if count == events.changes.len() => Some(events.clone()),
        _ => {
            let changes = events.changes.iter().filter(under).cloned().collect();
            Some(Arc::new(CommitEvents { revision: events.revision, changes }))
        }
    }
}
