//! CreateTags, DeleteTags and DescribeTags, and the rules that tags follow.

use super::filter::{Filtered, Filters};
use super::page::{self, Asked, Page};
use super::{Api, errors, parse};
use crate::model::Account;
use crate::request::Request;
use crate::security_group::record::SecurityGroupRecord;
use crate::tag::TAGS_MAX;
use crate::tag::record::TagRecord;
use aws::ec2::*;
use aws::{ApiError, Caller, codes};
use std::borrow::Cow;

/// The most characters of a tag's key and value. Source: Amazon EC2 User Guide, "Tag restrictions".
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// CreateTags: on all of the resources or on none.
pub async fn tags_create(api: &Api, caller: &Caller, input: CreateTagsRequest) -> Result<Return, ApiError> {
    let resources = resources(&input.resources)?;
    let tags = check(&input.tags)?;
    parse::dry_run(input.dry_run)?;
    api.change(caller, Request::TagsCreate { resources, tags }).await?;
    Ok(Return::TRUE)
}

/// DeleteTags: on all of the resources or on none.
pub async fn tags_delete(api: &Api, caller: &Caller, input: DeleteTagsRequest) -> Result<Return, ApiError> {
    let resources = resources(&input.resources)?;
    for tag in &input.tags {
        key_check(&tag.key)?;
    }
    parse::dry_run(input.dry_run)?;
    let tags = input.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    api.change(caller, Request::TagsDelete { resources, tags }).await?;
    Ok(Return::TRUE)
}

fn resources(ids: &[String]) -> Result<Vec<String>, ApiError> {
    let resources = parse::each_once(ids.iter().cloned().map(Ok))?;
    parse::change_bounded("ResourceId", resources.len())?;
    Ok(resources)
}

/// DescribeTags.
pub fn tags_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeTagsRequest,
) -> Result<DescribeTagsResponse, ApiError> {
    let filters = Filters::read::<Tagged<'_>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    let page = Page::open(api, caller, "DescribeTags", &input.filters, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let key = |tagged: &Tagged<'_>| format!("{} {}", tagged.resource, tagged.tag[0].key);
        let mut all: Vec<Tagged<'_>> = tagged(account).filter(|tagged| filters.hold(tagged)).collect();
        if page.after.is_some() {
            all.retain(|tagged| page.is_after(&key(tagged)));
        }
        all.sort_by(|one, other| {
            // The order of the cursor's keys: a resource's id has no space.
            (&one.resource, &one.tag[0].key).cmp(&(&other.resource, &other.tag[0].key))
        });
        let (tags, next_token) = page.take(all.into_iter(), key);
        let tags = tags.iter().map(|tagged| TagDescription {
            resource_id: tagged.resource.to_string(),
            resource_type: tagged.kind().to_owned(),
            key: tagged.tag[0].key.clone(),
            value: tagged.tag[0].value.clone(),
        });
        Ok(DescribeTagsResponse { tags: tags.collect(), next_token })
    })
}

/// One tag of one resource.
pub(super) struct Tagged<'a> {
    resource: Cow<'a, str>,
    /// Exactly one.
    tag: &'a [TagRecord],
}

impl Tagged<'_> {
    /// AWS's name of the resource's kind, which its id's prefix tells.
    fn kind(&self) -> &'static str {
        match self.resource.split_once('-').map(|(kind, _)| kind) {
            Some("i") => "instance",
            Some("ami") => "image",
            Some("acl") => "network-acl",
            Some("dopt") => "dhcp-options",
            Some("eipalloc") => "elastic-ip",
            Some("eni") => "network-interface",
            Some("igw") => "internet-gateway",
            Some("key") => "key-pair",
            Some("rtb") => "route-table",
            Some("sg") => "security-group",
            Some("sgr") => "security-group-rule",
            Some("subnet") => "subnet",
            Some("vpc") => "vpc",
            _ => "",
        }
    }
}

impl Filtered for Tagged<'_> {
    const NAMES: &'static [&'static str] = &["key", "resource-id", "resource-type", "value"];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "key" => is(&self.tag[0].key),
            "resource-id" => is(&self.resource),
            "resource-type" => is(self.kind()),
            "value" => is(&self.tag[0].value),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        self.tag
    }
}

fn tagged(account: &Account) -> impl Iterator<Item = Tagged<'_>> {
    let instances = account.instances_visible().filter_map(|record| {
        let template = record.template.as_ref()?;
        Some((Cow::Borrowed(record.instance_id.as_str()), template.tags.as_slice()))
    });
    let resources = account.tables.tagged().map(|(id, tags)| (Cow::Owned(id), tags));
    let groups = account.all::<SecurityGroupRecord>();
    let rules = groups.flat_map(|group| &group.rules);
    let rules = rules.map(|rule| (Cow::Borrowed(rule.rule_id.as_str()), rule.tags.as_slice()));
    let others = account.tags.values();
    let others = others.map(|record| (Cow::Borrowed(record.resource_id.as_str()), record.tags.as_slice()));
    let all = instances.chain(resources).chain(rules).chain(others);
    all.flat_map(|(resource, tags)| tags.chunks(1).map(move |tag| Tagged { resource: resource.clone(), tag }))
}

/// The tags of a resource that has no record of its own.
pub(super) fn of<'a>(account: &'a Account, resource: &str) -> &'a [TagRecord] {
    account.tags.get(resource).map(|record| record.tags.as_slice()).unwrap_or_default()
}

/// Tags as AWS shows them.
pub(super) fn shapes(tags: &[TagRecord]) -> Vec<Tag> {
    tags.iter().map(|tag| Tag { key: tag.key.clone(), value: tag.value.clone() }).collect()
}

/// The tags of an operation that makes resources of one kind.
pub(super) fn specified(specifications: &[TagSpecification], kind: &str) -> Result<Vec<TagRecord>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    for specification in specifications {
        match specification.resource_type.as_deref() {
            Some(one) if one == kind => tags.extend(specification.tags.iter().cloned()),
            Some("volume" | "spot-instances-request" | "elastic-gpu") => {
                let other = specification.resource_type.as_deref().unwrap_or_default();
                let message = format!("There is nothing of the kind {other} to tag: Nephos has none yet.");
                return Err(errors::unsupported(message));
            }
            Some(other) => {
                let message = format!(
                    "'{}' is not a valid taggable resource type for this operation.",
                    errors::shown(other)
                );
                return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
            }
            None => {
                let message = "Tag specification resource type must have a value";
                return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
            }
        }
    }
    check(&tags)
}

/// Tags by the rules: at most 50, no key twice, lengths in bounds, no reserved prefix. Sorted by key.
fn check(tags: &[Tag]) -> Result<Vec<TagRecord>, ApiError> {
    if tags.len() > TAGS_MAX {
        let message = format!("The maximum number of tags for a resource is {TAGS_MAX}.");
        return Err(ApiError::new(codes::TAG_LIMIT_EXCEEDED, message));
    }
    let mut records = Vec::with_capacity(tags.len());
    for tag in tags {
        key_check(&tag.key)?;
        if tag.value.chars().count() > VALUE_CHARS_MAX {
            let message = format!("Tag value exceeds the maximum length of {VALUE_CHARS_MAX} characters");
            return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
        }
        records.push(TagRecord { key: tag.key.clone(), value: tag.value.clone() });
    }
    records.sort();
    if let Some(pair) = records.windows(2).find(|pair| pair[0].key == pair[1].key) {
        let message = format!("Duplicate tag key '{}' specified.", pair[0].key);
        return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
    }
    Ok(records)
}

fn key_check(key: &str) -> Result<(), ApiError> {
    let message = if key.is_empty() {
        "Tag key cannot be empty".to_owned()
    } else if key.chars().count() > KEY_CHARS_MAX {
        format!("Tag key exceeds the maximum length of {KEY_CHARS_MAX} characters")
    } else if key.to_ascii_lowercase().starts_with("aws:") {
        "Tag keys starting with 'aws:' are reserved for internal use".to_owned()
    } else {
        return Ok(());
    };
    Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message))
}
