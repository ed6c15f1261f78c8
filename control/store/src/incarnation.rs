//! What a restore of the shared store means to those who share it.
//!
//! Each namespace is a store of its own to its owner, with an incarnation of its own: the key
//! `ROLE/INSTANCE/\0incarnation` of our etcd engine. A restored backup brings the former ones back, while everybody out
//! there has seen higher generations since. So the first start after a restore raises all of them by as much as the
//! whole store's incarnation was raised, before anybody is answered. How far that was done is a key in nobody's
//! namespace.

use base::generation::INCARNATION_MAX;
use metastore::{Commit, CommitError, Condition, Entry, Op, RangeQuery, ReadError, Store};

/// The whole store's incarnation that the namespaces' follow.
const FOLLOWED: &[u8] = b"store/incarnation";
/// What stands after a namespace's name.
const NAMESPACES: &[u8] = b"/\0incarnation";

/// Namespaces in one commit.
const AT_ONCE: usize = 64;

/// Why the incarnations could not be raised.
#[derive(Debug, thiserror::Error)]
pub enum IncarnationError {
    /// The store cannot be read.
    #[error("cannot read the incarnations")]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error("cannot raise the incarnations")]
    Write(#[from] CommitError),
    /// An incarnation is no number.
    #[error("the incarnation under {key} is no number")]
    Unreadable {
        /// Which.
        key: String,
    },
    /// There is no such incarnation.
    #[error(
        "{incarnation} under {key} would be too high for an incarnation: at most {INCARNATION_MAX}; restore with an \
         incarnation that is one higher than the last"
    )]
    TooHigh {
        /// Which.
        key: String,
        /// What it would be.
        incarnation: u64,
    },
}

/// Raises the namespaces' incarnations, if the store was restored since that was last done. After a crash in between
/// some are raised twice, which only leaves out numbers.
pub async fn follow(store: &Store) -> Result<(), IncarnationError> {
    let now = store.incarnation();
    let before = match store.get(FOLLOWED).await? {
        Some(entry) if number(&entry)? >= now => return Ok(()),
        Some(entry) => number(&entry)?,
        // A new store, whose namespaces are still to come.
        None => now,
    };
    for entries in namespaces(store).await?.chunks(AT_ONCE) {
        let mut commit = Commit::default();
        for entry in entries {
            let raised = number(entry)?.saturating_add(now - before);
            if raised > INCARNATION_MAX {
                let key = entry.key.escape_ascii().to_string();
                return Err(IncarnationError::TooHigh { key, incarnation: raised });
            }
            tracing::warn!(key = %entry.key.escape_ascii(), raised, "a restored store: the incarnation is raised");
            commit.conditions.push(Condition::Unchanged(entry.key.clone(), entry.modified));
            commit.ops.push(Op::Put(entry.key.clone(), raised.to_string().into_bytes()));
        }
        store.commit(commit).await?;
    }
    let done = Op::Put(FOLLOWED.to_vec(), now.to_string().into_bytes());
    store.commit(Commit { conditions: Vec::new(), ops: vec![done] }).await?;
    Ok(())
}

fn number(entry: &Entry) -> Result<u64, IncarnationError> {
    let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| IncarnationError::Unreadable { key: entry.key.escape_ascii().to_string() })
}

/// The incarnation of every namespace that there is.
async fn namespaces(store: &Store) -> Result<Vec<Entry>, IncarnationError> {
    let mut found = Vec::new();
    let mut from = vec![1];
    loop {
        let page = store.range(&RangeQuery::between(from.clone(), None).limit(1)).await?;
        let Some(first) = page.entries.first() else { return Ok(found) };
        let slashes = first.key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        // `ROLE/INSTANCE/`, or a key of the store's own that is in no namespace.
        let Some(end) = slashes.take(2).nth(1) else {
            from = [first.key.as_slice(), &[0]].concat();
            continue;
        };
        found.extend(store.get(&[&first.key[..end], NAMESPACES].concat()).await?);
        from = [&first.key[..end], b"0"].concat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::memory::MemoryDisk;
    use metastore::StoreOptions;

    #[tokio::test]
    async fn a_namespace_has_no_incarnation_that_cannot_be() {
        let namespace = || [b"cell/us-east-1a-c1".as_slice(), NAMESPACES].concat();
        let followed = |incarnation: u64| async move {
            let store = Store::over(MemoryDisk::new().mount(), StoreOptions::default()).unwrap();
            let key = namespace();
            let put = |key: &[u8], number: u64| Op::Put(key.to_vec(), number.to_string().into_bytes());
            // As if the whole store's had been one lower.
            let ops = vec![put(FOLLOWED, 0), put(&key, incarnation)];
            store.commit(Commit { conditions: vec![], ops }).await.unwrap();
            let followed = follow(&store).await;
            (followed, number(&store.get(&key).await.unwrap().unwrap()).unwrap())
        };
        let (done, number) = followed(INCARNATION_MAX - 1).await;
        assert!(done.is_ok() && number == INCARNATION_MAX, "{done:?}");
        let (refused, number) = followed(INCARNATION_MAX).await;
        let said = refused.map_err(|error| error.to_string()).unwrap_err();
        assert!(
            said.contains("too high") && said.contains(&namespace().escape_ascii().to_string()),
            "{said}"
        );
        assert_eq!(number, INCARNATION_MAX);
    }
}
