//! Reads of the store in an etcd: pages of bounded bytes out of ranges that etcd bounds by count alone, and what was
//! compacted.
//!
//! Invariant: without a revision a read is linearizable; the pages after the first are read at the first's revision.
//! Invariant: at revision 0 every store is empty. For etcd 0 means the present, so it is never asked for it.

use super::fault::Fault;
use super::link::Link;
use super::{Etcd, fault};
use crate::contract::{Entry, Key, Page, RangeQuery, ReadError, Revision, USER_KEYS_BEGIN};
use etcd_client::{CompactionOptions, GetOptions, GetResponse, WatchOptions};
use std::sync::Arc;

/// Entries of the first piece of a page; the next ones are measured by it. 32 MiB at most.
const PIECE_ENTRIES: usize = 64;
/// Entries of any piece, at most.
const PIECE_ENTRIES_MAX: usize = 4096;

impl Etcd {
    pub(super) async fn revision_read(&self) -> Result<Revision, ReadError> {
        self.probe(None).await.map_err(|fault| self.read_error_now(fault))
    }

    pub(super) async fn entry_read(
        &self,
        key: &[u8],
        at: Option<Revision>,
    ) -> Result<Option<Entry>, ReadError> {
        if key < USER_KEYS_BEGIN || at == Some(Revision(0)) {
            self.readable(at).await?;
            return Ok(None);
        }
        let read = self.range_ask(self.key(key), None, 1, at).await;
        let mut read = match read {
            Ok(read) => read,
            Err(fault) => return Err(self.read_error(fault, at).await),
        };
        Ok(read.take_kvs().into_iter().next().map(|entry| self.entry(entry)))
    }

    pub(super) async fn page_read(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        let limit = query.limit.clamp(1, RangeQuery::LIMIT_MAX);
        let end = query.end.as_deref();
        let mut start = query.start.clone().max(USER_KEYS_BEGIN.to_vec());
        if let Some(after) = &query.after {
            start = start.max(key_after(after));
        }
        if query.at == Some(Revision(0)) || end.is_some_and(|end| end <= &start[..]) {
            let revision = self.readable(query.at).await?;
            return Ok(Page { entries: vec![], revision: query.at.unwrap_or(revision), next: None });
        }
        let range_end = self.range_end(end);
        let (mut entries, mut bytes, mut at) = (Vec::new(), 0, query.at);
        loop {
            let left = piece_entries(limit - entries.len(), entries.len(), bytes);
            let read = self.range_ask(self.key(&start), Some(range_end.clone()), left, at).await;
            let mut read = match read {
                Ok(read) => read,
                Err(fault) => return Err(self.read_error(fault, at).await),
            };
            let revision = at.unwrap_or(self.revision_of(read.header()));
            at = Some(revision);
            let mut more = read.more();
            for entry in read.take_kvs() {
                if bytes >= RangeQuery::PAGE_BYTES_MAX {
                    more = true;
                    break;
                }
                let entry = self.entry(entry);
                bytes += entry.key.len() + entry.value.len();
                entries.push(entry);
            }
            let last = entries.last().map(|entry: &Entry| entry.key.clone());
            match last {
                Some(last) if more => {
                    if entries.len() >= limit || bytes >= RangeQuery::PAGE_BYTES_MAX {
                        return Ok(Page { entries, revision, next: Some(last) });
                    }
                    start = key_after(&last);
                }
                _ => return Ok(Page { entries, revision, next: None }),
            }
        }
    }

    pub(super) async fn compact_to(&self, up_to: Revision) -> Result<Revision, ReadError> {
        let newest = self.revision_read().await?;
        let up_to = up_to.min(newest);
        if up_to > Revision(0) {
            let done = self.retried(|link: Arc<Link>| async move {
                let done = link.kv.clone().compact(up_to.0 as i64, Some(CompactionOptions::new())).await;
                done.map_err(fault)
            });
            match done.await {
                Ok(_) => return Ok(up_to),
                // Somebody has compacted as far, or further.
                Err(Fault::Compacted) => {}
                Err(fault) => return Err(self.read_error_now(fault)),
            }
        }
        match self.probe(Some(Revision(1))).await {
            Ok(_) => Ok(Revision(0)),
            Err(Fault::Compacted) => self.oldest(Revision(1)).await,
            Err(fault) => Err(self.read_error_now(fault)),
        }
    }

    /// Whether this revision can be read; the present one.
    pub(super) async fn readable(&self, at: Option<Revision>) -> Result<Revision, ReadError> {
        match self.probe(at).await {
            Ok(revision) => Ok(revision),
            Err(fault) => Err(self.read_error(fault, at).await),
        }
    }

    /// Reads no user's key at this revision (0: the next one, which etcd can be asked for); the present revision.
    async fn probe(&self, at: Option<Revision>) -> Result<Revision, Fault> {
        let at = at.map(|at| at.max(Revision(1)));
        let options = &at_revision(GetOptions::new().with_count_only(), at);
        let read = self.retried(|link: Arc<Link>| async move {
            link.kv.clone().get(self.links.incarnation_key(), Some(options.clone())).await.map_err(fault)
        });
        Ok(self.revision_of(read.await?.header()))
    }

    async fn range_ask(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<GetResponse, Fault> {
        let mut options = at_revision(GetOptions::new().with_limit(limit as i64), at);
        if let Some(end) = end {
            options = options.with_range(end);
        }
        let (start, options) = (&start, &options);
        let read = self
            .retried(|link: Arc<Link>| async move {
                link.kv.clone().get(start.clone(), Some(options.clone())).await.map_err(fault)
            })
            .await?;
        self.revision_of(read.header());
        Ok(read)
    }

    fn entry(&self, entry: etcd_client::KeyValue) -> Entry {
        let modified = Revision(entry.mod_revision() as u64);
        let (mut key, value) = entry.into_key_value();
        key.drain(..self.links.options.prefix.len().min(key.len()));
        Entry { key, value, modified }
    }

    /// The end of a range of users' keys, as etcd takes it.
    pub(super) fn range_end(&self, end: Option<&[u8]>) -> Vec<u8> {
        match end {
            Some(end) => self.key(end),
            // The end of the prefix; a single zero is the end of all keys.
            None => RangeQuery::prefix(self.links.options.prefix.clone()).end.unwrap_or(vec![0]),
        }
    }

    /// The error, with the numbers that it must name.
    async fn read_error(&self, fault: Fault, at: Option<Revision>) -> ReadError {
        match fault {
            Fault::Compacted => match self.oldest(at.unwrap_or_default()).await {
                Ok(oldest) => ReadError::Compacted { oldest },
                Err(error) => error,
            },
            Fault::Future => match self.revision_read().await {
                Ok(newest) => ReadError::Future { newest },
                Err(error) => error,
            },
            fault => self.read_error_now(fault),
        }
    }

    fn read_error_now(&self, fault: Fault) -> ReadError {
        match fault {
            Fault::Gone(why) => ReadError::Failed(why),
            fault => ReadError::Unavailable(fault.said()),
        }
    }

    /// The oldest revision that can be read, when `compacted` cannot: a read is not told it, a watch is.
    async fn oldest(&self, compacted: Revision) -> Result<Revision, ReadError> {
        let from = compacted.max(Revision(1)).0 as i64;
        let oldest = self.retried(|link: Arc<Link>| async move {
            let options = WatchOptions::new().with_start_revision(from);
            let mut stream =
                link.watch.clone().watch(self.links.incarnation_key(), Some(options)).await.map_err(fault)?;
            while let Some(message) = stream.message().await.map_err(fault)? {
                if message.compact_revision() > 0 {
                    return Ok(Revision(message.compact_revision() as u64));
                }
            }
            Err(Fault::Unknown("the watch ended".to_owned()))
        });
        oldest.await.map_err(|fault| self.read_error_now(fault))
    }
}

fn at_revision(options: GetOptions, at: Option<Revision>) -> GetOptions {
    match at {
        None => options,
        // No revision is so high: etcd says so.
        Some(at) => options.with_revision(i64::try_from(at.0).unwrap_or(i64::MAX)),
    }
}

/// How many entries to ask for, when so many are left to read and those that were had so many bytes.
fn piece_entries(left: usize, entries: usize, bytes: usize) -> usize {
    if entries == 0 {
        return left.min(PIECE_ENTRIES);
    }
    let each = (bytes / entries).max(1);
    let room = RangeQuery::PAGE_BYTES_MAX.saturating_sub(bytes) / each + 1;
    left.min(room).clamp(1, PIECE_ENTRIES_MAX)
}

fn key_after(key: &[u8]) -> Key {
    [key, &[0]].concat()
}
