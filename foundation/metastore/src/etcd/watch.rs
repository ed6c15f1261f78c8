//! Watches of the store in an etcd: each its own stream, its events put together to whole commits, taken up again
//! where it was when the stream breaks.
//!
//! etcd never divides a revision between two messages (unless it is asked to fragment them), so the events of one
//! revision in one message are the whole commit.
//!
//! A watch begins at the revision that was read, not at the one after it, and what it says of that one is dropped:
//! etcd then refuses exactly what the contract calls compacted, and no deletion is missed that was made by the very
//! revision to which etcd was compacted.
//!
//! Invariant: the stream is always read; a watcher that does not keep up is ended, and holds up nobody.

use super::fault::Fault;
use super::link::Link;
use super::{Etcd, TRY_PAUSE, fault};
use crate::contract::{Key, RangeQuery, ReadError, Revision, USER_KEYS_BEGIN};
use crate::watch::{Change, CommitEvents, Watch, WatchEnd, WatchFeed};
use bytes::Bytes;
use etcd_client::proto::PbEvent;
use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout};

/// How etcd writes a deletion.
const DELETE: i32 = 1;

/// What is watched, and how far it has come.
struct Watching {
    etcd: Etcd,
    start: Vec<u8>,
    end: Vec<u8>,
    /// Everything up to it was given to the watch.
    delivered: Revision,
}

/// Why a stream is not read any more.
enum StreamEnd {
    /// It broke; another may go on.
    Broken(String),
    /// The watch is over: nobody reads it, or it has lagged by itself.
    Over,
    /// What comes next is compacted.
    Compacted,
    /// The store is not there any more.
    Gone(String),
}

impl Etcd {
    pub(super) async fn watch_begin(&self, prefix: &[u8], from: Revision) -> Result<Watch, ReadError> {
        self.readable(Some(from)).await?;
        let query = RangeQuery::prefix(prefix);
        let start = query.start.max(USER_KEYS_BEGIN.to_vec());
        let (feed, watch) = Watch::fed(prefix, VecDeque::new(), self.links.options.watch_queue_commits);
        if query.end.as_deref().is_some_and(|end| end <= &start[..]) {
            // Reserved keys: nothing ever comes.
            self.runtime.spawn(async move { feed.closed().await });
            return Ok(watch);
        }
        let mut watching = Watching {
            etcd: self.clone(),
            start: self.key(&start),
            end: self.range_end(query.end.as_deref()),
            delivered: from,
        };
        let opened = &watching;
        let stream = self.retried(|link: Arc<Link>| async move {
            let opened = opened.open(&link).await?;
            Ok((link, opened))
        });
        let (link, opened) = stream.await.map_err(|fault| match fault {
            Fault::Gone(why) => ReadError::Failed(why),
            fault => ReadError::Unavailable(fault.said()),
        })?;
        self.runtime.spawn(async move { watching.run(link, opened, feed).await });
        Ok(watch)
    }
}

impl Watching {
    /// Opens a stream from where the watch is; gives its first answer too, which may say already that it is over.
    async fn open(&self, link: &Link) -> Result<(WatchStream, WatchResponse), Fault> {
        let from = self.delivered.0.max(1) as i64;
        let mut stream = self.open_at(link, from).await?;
        let created = stream.message().await.map_err(fault)?;
        let created = created.ok_or_else(|| Fault::Unknown("the watch ended at once".to_owned()))?;
        match created.canceled() && created.compact_revision() == 0 {
            true => Err(Fault::Refused(created.cancel_reason().to_owned())),
            false => Ok((stream, created)),
        }
    }

    async fn open_at(&self, link: &Link, from: i64) -> Result<WatchStream, Fault> {
        let options =
            WatchOptions::new().with_range(self.end.clone()).with_start_revision(from).with_progress_notify();
        link.watch.clone().watch(self.start.clone(), Some(options)).await.map_err(fault)
    }

    async fn run(&mut self, mut link: Arc<Link>, mut opened: (WatchStream, WatchResponse), feed: WatchFeed) {
        let links = self.etcd.links.clone();
        loop {
            let mut why = match self.read(opened, &feed).await {
                StreamEnd::Over => return,
                StreamEnd::Compacted => return feed.end(WatchEnd::Lagged),
                StreamEnd::Gone(why) => return feed.end(WatchEnd::Closed(why)),
                StreamEnd::Broken(why) => why,
            };
            links.drop_link(&link);
            // A stream that opens and breaks at once is not opened again at once.
            sleep(TRY_PAUSE).await;
            let deadline = links.patience_end();
            opened = loop {
                if Instant::now() >= deadline {
                    return feed.end(WatchEnd::Interrupted(why));
                }
                match links.link(deadline).await {
                    Ok(next) => link = next,
                    Err(Fault::Gone(why)) => return feed.end(WatchEnd::Closed(why)),
                    Err(fault) => return feed.end(WatchEnd::Interrupted(fault.said())),
                }
                match timeout(links.options.answer_timeout, self.open(&link)).await {
                    Ok(Ok(opened)) => break opened,
                    Ok(Err(fault)) => why = fault.said(),
                    Err(_) => why = self.etcd.late().said(),
                }
                links.drop_link(&link);
                sleep(TRY_PAUSE).await;
            };
        }
    }

    /// Gives the watch what the stream says, until one of them ends.
    async fn read(
        &mut self,
        (mut stream, created): (WatchStream, WatchResponse),
        feed: &WatchFeed,
    ) -> StreamEnd {
        if let Some(end) = self.deliver(created, feed) {
            return end;
        }
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = feed.closed() => return StreamEnd::Over,
            };
            match message {
                Ok(Some(message)) => {
                    if let Some(end) = self.deliver(message, feed) {
                        return end;
                    }
                }
                Ok(None) => return StreamEnd::Broken("the watch's stream ended".to_owned()),
                Err(error) => {
                    return match Fault::of(&error) {
                        Fault::Gone(why) => StreamEnd::Gone(why),
                        fault => StreamEnd::Broken(fault.said()),
                    };
                }
            }
        }
    }

    fn deliver(&mut self, message: WatchResponse, feed: &WatchFeed) -> Option<StreamEnd> {
        let revision = message.header().map_or(0, |header| header.revision() as u64);
        if message.compact_revision() > 0 {
            return Some(StreamEnd::Compacted);
        }
        if message.canceled() {
            return Some(StreamEnd::Broken(message.cancel_reason().to_owned()));
        }
        if message.created() {
            return None;
        }
        if message.0.events.is_empty() {
            // Progress: everything up to it has been said.
            self.delivered = self.delivered.max(Revision(revision));
            return None;
        }
        let prefix = self.etcd.links.options.prefix.len();
        for commit in commits(message.0.events, prefix) {
            if commit.revision <= self.delivered {
                continue;
            }
            self.delivered = commit.revision;
            self.etcd.links.revision_see(commit.revision.0);
            if !feed.try_send(&Arc::new(commit)) {
                return Some(StreamEnd::Over);
            }
        }
        None
    }
}

/// Events, in the order of their revisions, put together to commits.
fn commits(events: Vec<PbEvent>, prefix: usize) -> Vec<CommitEvents> {
    let mut commits: Vec<CommitEvents> = Vec::new();
    for event in events {
        let Some(entry) = event.kv else { continue };
        let revision = Revision(entry.mod_revision as u64);
        let key: Key = entry.key;
        let key = Bytes::from(key);
        let value = (event.r#type != DELETE).then(|| Bytes::from(entry.value));
        let change = Change { key: key.slice(prefix.min(key.len())..), value };
        match commits.last_mut() {
            Some(commit) if commit.revision == revision => commit.changes.push(change),
            _ => commits.push(CommitEvents { revision, changes: vec![change] }),
        }
    }
    commits
}
