//! What the Describe operations of resources have in common: ids, filters and pages over an account's table.

use super::filter::{Filtered, Filters};
use super::page::{self, Asked, Page};
use super::{Api, errors, parse};
use crate::model::Account;
use crate::network::{NetworkChange, Token};
use crate::record::Resource;
use crate::request::{Answer, Request};
use aws::ec2::Filter;
use aws::shape::{Shape, Writer};
use aws::{ApiError, Caller, Protocol};
use aws_lc_rs::digest;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A resource, with what is told of it besides.
pub(super) struct Seen<'a, R> {
    pub api: &'a Api,
    pub caller: &'a Caller,
    pub account: &'a Account,
    pub record: &'a R,
}

impl<R> Clone for Seen<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Seen<'_, R> {}

impl<R> Seen<'_, R> {
    /// The account that owns it.
    pub fn owner_id(&self) -> String {
        self.caller.account.to_string()
    }
}

/// What a Describe operation is asked.
pub(super) struct Listing<'a> {
    pub operation: &'static str,
    /// The parameter with the ids, as AWS's errors call it.
    pub parameter: &'static str,
    pub ids: &'a [String],
    pub filters: &'a [Filter],
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
    pub dry_run: Option<bool>,
}

/// The resources that are asked for, on this page, sorted by id.
pub(super) fn list<R: Resource, T>(
    api: &Api,
    caller: &Caller,
    listing: Listing<'_>,
    shape: impl for<'b> Fn(Seen<'b, R>) -> T,
) -> Result<(Vec<T>, Option<String>), ApiError>
where
    for<'b> Seen<'b, R>: Filtered,
{
    let mut ids = BTreeSet::new();
    for text in listing.ids {
        ids.insert(parse::resource_id::<R>(text)?);
    }
    let filters = Filters::read::<Seen<'_, R>>(listing.filters)?;
    let asked = Asked { max_results: listing.max_results, next_token: listing.next_token };
    page::refuse_beside_ids(ids.len(), listing.parameter, &asked)?;
    let selection = (&listing.ids, &listing.filters);
    let page = Page::open(api, caller, listing.operation, &selection, page::USUAL, asked)?;
    parse::dry_run(listing.dry_run)?;
    api.read(caller, |account| {
        let see = |record| Seen { api, caller, account, record };
        let table = R::table(&account.tables);
        if let Some(id) = ids.iter().find(|id| !table.contains_key(id)) {
            return Err(errors::resource_not_found(&id.to_string()));
        }
        let wanted = |id: &R::Id| ids.is_empty() || ids.contains(id);
        let records = table.iter().filter(|(id, _)| wanted(id)).map(|(_, record)| see(record.as_ref()));
        let records = records.filter(|seen| page.is_after(seen.record.own_id()) && filters.hold(seen));
        let (page, next_token) = page.take(records, |seen| seen.record.own_id().to_owned());
        Ok((page.into_iter().map(&shape).collect(), next_token))
    })
}

/// One resource as it is told, whose record a change has given.
pub(super) fn told<R: Resource, T>(
    api: &Api,
    caller: &Caller,
    record: &R,
    shape: impl for<'b> Fn(Seen<'b, R>) -> T,
) -> Result<T, ApiError> {
    api.read(caller, |account| Ok(shape(Seen { api, caller, account, record })))
}

/// The record that a change has given, if it is of the kind that it must be.
pub(super) fn made<R: Resource>(answer: &Answer) -> Result<Arc<R>, ApiError> {
    match answer {
        Answer::Resource(record) => R::of(record).cloned().ok_or_else(|| super::unexpected(answer)),
        other => Err(super::unexpected(other)),
    }
}

/// Asks for a change of the network.
pub(super) async fn change(
    api: &Api,
    caller: &Caller,
    change: NetworkChange,
    token: Option<Token>,
) -> Result<Answer, ApiError> {
    api.change(caller, Request::Network(Box::new(change), token)).await
}

/// The token of an operation that has one; `input` are its parameters without token and dry run.
pub(super) fn token(
    operation: &str,
    token: Option<String>,
    input: &impl Shape,
) -> Result<Option<Token>, ApiError> {
    let token = parse::client_token(token)?;
    let name = format!("{operation}/{token}");
    Ok((!token.is_empty()).then(|| Token { name, parameters_sha256: fingerprint(input) }))
}

/// SHA-256 of the parameters. They are printed with AWS's names and absent ones left out, so that a version which knows
/// more parameters computes the same.
pub(super) fn fingerprint(input: &impl Shape) -> [u8; 32] {
    let mut writer = Writer::new(Protocol::Query);
    input.write(&mut writer);
    let digest = digest::digest(&digest::SHA256, writer.finish().as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The resource of this id, as the account has it.
pub(super) fn find<'a, R: Resource>(account: &'a Account, id: &str) -> Result<&'a Arc<R>, ApiError> {
    let parsed = parse::resource_id::<R>(id)?;
    account.get::<R>(parsed).ok_or_else(|| errors::resource_not_found(id))
}

/// The association that a change has made.
pub(super) fn association(answer: Answer) -> Result<String, ApiError> {
    match answer {
        Answer::Association(id) => Ok(id),
        other => Err(super::unexpected(&other)),
    }
}
