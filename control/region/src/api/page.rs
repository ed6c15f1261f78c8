//! Pages: bounds of MaxResults, and the cursor that a NextToken is.
//!
//! A cursor names the last key that was given out, so a page goes on after it whatever was inserted or removed in
//! between. It is signed together with account, operation and selection (ids and filters): a cursor that is
//! altered, or taken to another request, is `InvalidNextToken`.
//!
//! ```text
//!   base64url( version 1 (1 byte) | HMAC-SHA256 (32 bytes) | last key (UTF-8) )
//! ```

use super::{Api, errors};
use aws::{ApiError, Caller, codes};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Debug;
use std::ops::RangeInclusive;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Longer than any cursor that is given out.
const CURSOR_CHARS_MAX: usize = 4096;

/// The bounds of MaxResults that most operations have.
pub const USUAL: RangeInclusive<i32> = 5..=1000;

/// What a page is asked with.
#[derive(Clone, Debug)]
pub struct Asked {
    /// MaxResults.
    pub max_results: Option<i32>,
    /// NextToken.
    pub next_token: Option<String>,
}

/// One page of an answer. Every page is bounded: without MaxResults it holds the most that MaxResults can ask for.
#[derive(Debug)]
pub struct Page {
    /// The key after which the page starts; `None` at the first page.
    pub after: Option<String>,
    max: usize,
    key: hmac::Key,
    scope: Vec<u8>,
}

impl Page {
    /// The page that is asked for. `selection` is all that must be the same from page to page.
    pub fn open(
        api: &Api,
        caller: &Caller,
        operation: &'static str,
        selection: &dyn Debug,
        bounds: RangeInclusive<i32>,
        asked: Asked,
    ) -> Result<Page, ApiError> {
        let max = asked.max_results.unwrap_or(*bounds.end());
        if !bounds.contains(&max) {
            let reason = format!("Expecting a value between {} and {}.", bounds.start(), bounds.end());
            return Err(errors::invalid_value("maxResults", &max, &reason));
        }
        let mut scope = Vec::new();
        for part in [caller.account.to_string(), operation.to_owned(), format!("{selection:?}")] {
            scope.extend((part.len() as u64).to_be_bytes());
            scope.extend(part.as_bytes());
        }
        let mut page =
            Page { after: None, max: usize::try_from(max).unwrap_or(1), key: api.cursor_key.clone(), scope };
        // An empty token is how some clients ask for the first page.
        if let Some(token) = asked.next_token.filter(|token| !token.is_empty()) {
            page.after = Some(page.cursor_open(&token).ok_or_else(invalid_cursor)?);
        }
        Ok(page)
    }

    /// Whether `key` is of this page or a later one.
    pub fn is_after(&self, key: &str) -> bool {
        self.after.as_deref().is_none_or(|after| key > after)
    }

    /// The page's items, and the cursor of the next page if there are more. `items` come in the order of their
    /// keys, and start after [`Page::after`].
    pub fn take<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let mut items = items.fuse();
        let page: Vec<T> = items.by_ref().take(self.max).collect();
        let more = page.len() == self.max && items.next().is_some();
        let last = page.last().filter(|_| more);
        let cursor = last.map(|last| self.cursor(&key(last)));
        (page, cursor)
    }

    fn mac(&self, key: &str) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[VERSION]);
        context.update(&self.scope);
        context.update(key.as_bytes());
        context
    }

    fn cursor(&self, key: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.mac(key).sign().as_ref());
        bytes.extend(key.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn cursor_open(&self, token: &str) -> Option<String> {
        if token.len() > CURSOR_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, key) = bytes.strip_prefix(&[VERSION])?.split_at_checked(MAC_BYTES)?;
        let key = std::str::from_utf8(key).ok()?;
        let expected = self.mac(key).sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), mac).ok()?;
        Some(key.to_owned())
    }
}

/// `InvalidNextToken`.
pub fn invalid_cursor() -> ApiError {
    let message = "The NextToken is not one that this request was given.";
    ApiError::new(codes::INVALID_NEXT_TOKEN, message)
}

/// Refuses MaxResults beside a list of ids, where AWS refuses it.
pub fn refuse_beside_ids(ids: usize, list: &str, asked: &Asked) -> Result<(), ApiError> {
    if ids > 0 && asked.max_results.is_some() {
        return Err(errors::excluded(list, "maxResults"));
    }
    Ok(())
}
