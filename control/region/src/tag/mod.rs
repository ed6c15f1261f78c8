//! Tags of any resource: kept in the resource's own record where it has one, else in a record of their own.

pub mod record;

use crate::owner::Tx;
use crate::record::{Name, Record, Resource, ResourceWork};
use crate::refusal::Refusal;
use crate::security_group::rule_retag;
use base::ids::{InstanceId, SecurityGroupRuleId};
use record::{TagRecord, TagsRecord};
use std::sync::Arc;

/// The most tags that a resource may have. Source: Amazon EC2 User Guide, "Tag restrictions".
pub const TAGS_MAX: usize = 50;

/// CreateTags on one resource. `exists` says whether a resource without a record of its own exists.
pub fn tags_put(tx: &mut Tx<'_>, resource: &str, tags: &[TagRecord], exists: bool) -> Result<(), Refusal> {
    tags_change(tx, resource, exists, |have| {
        for tag in tags {
            have.retain(|old| old.key != tag.key);
            have.push(tag.clone());
        }
    })
}

/// DeleteTags on one resource: no keys, all tags; a key with a value goes only if it has that value.
pub fn tags_delete(
    tx: &mut Tx<'_>,
    resource: &str,
    keys: &[(String, Option<String>)],
    exists: bool,
) -> Result<(), Refusal> {
    tags_change(tx, resource, exists, |have| {
        let goes = |tag: &TagRecord, key: &str, value: &Option<String>| {
            tag.key == key && value.as_ref().is_none_or(|value| *value == tag.value)
        };
        have.retain(|tag| !keys.is_empty() && !keys.iter().any(|(key, value)| goes(tag, key, value)));
    })
}

fn tags_change(
    tx: &mut Tx<'_>,
    resource: &str,
    exists: bool,
    change: impl FnOnce(&mut Vec<TagRecord>),
) -> Result<(), Refusal> {
    let not_found = || Refusal::ResourceNotFound(resource.to_owned());
    let apply = |tags: &mut Vec<TagRecord>| {
        change(tags);
        tags.sort();
        if tags.len() > TAGS_MAX {
            return Err(Refusal::TooManyTags { resource: resource.into(), count: tags.len(), max: TAGS_MAX });
        }
        Ok(())
    };
    if let Ok(id) = resource.parse::<InstanceId>() {
        let mut record = Arc::unwrap_or_clone(tx.instance_visible(id).ok_or_else(not_found)?);
        apply(&mut record.template.get_or_insert_default().tags)?;
        tx.put_instance(id, record);
    } else if let Ok(rule) = resource.parse::<SecurityGroupRuleId>() {
        rule_retag(tx, rule, apply)?;
    } else if let Some(name) = Name::of_resource(resource) {
        name.resource(Retag { tx, apply }).ok_or_else(not_found)??;
    } else if exists {
        let mut record = tx
            .tags(resource)
            .map(Arc::unwrap_or_clone)
            .unwrap_or_else(|| TagsRecord { resource_id: resource.to_owned(), tags: Vec::new() });
        apply(&mut record.tags)?;
        tx.put(Name::Tags(resource.to_owned()), Record::Tags(Arc::new(record)));
    } else {
        return Err(not_found());
    }
    Ok(())
}

/// A change of the tags of a resource that has a record.
struct Retag<'t, 'a, F> {
    tx: &'t mut Tx<'a>,
    apply: F,
}

impl<F: FnOnce(&mut Vec<TagRecord>) -> Result<(), Refusal>> ResourceWork for Retag<'_, '_, F> {
    type Output = Result<(), Refusal>;

    fn on<R: Resource>(self, id: R::Id) -> Result<(), Refusal> {
        let record = self.tx.get::<R>(id).ok_or_else(|| Refusal::ResourceNotFound(id.to_string()))?;
        let mut record = Arc::unwrap_or_clone(record);
        (self.apply)(record.tags_mut())?;
        self.tx.save(id, record);
        Ok(())
    }
}
