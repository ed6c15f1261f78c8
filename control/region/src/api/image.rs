//! DescribeImages.
//!
//! The images that a cloud comes with belong to the cloud itself: the account 000000000000, which no customer can
//! have, with AWS's alias for its own images, `amazon`, so that templates written for AWS find them. They are public.

use super::filter::{Filtered, Filters};
use super::page::{self, Asked, Page};
use super::{Api, errors, instance, parse, tag};
use crate::image::Image as Offered;
use crate::tag::record::TagRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};
use base::ids::ImageId;

/// Who owns the images that a cloud comes with.
pub const OWNER: &str = "000000000000";
/// AWS's alias for the cloud's own images.
pub const OWNER_ALIAS: &str = "amazon";

/// DescribeImages.
pub fn images_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeImagesRequest,
) -> Result<DescribeImagesResponse, ApiError> {
    let ids = parse::each_once(input.image_ids.iter().map(|id| parse::image_id(id)))?;
    let unknown = |id: &&ImageId| !api.facts.images.iter().any(|image| image.id == **id);
    let missing: Vec<_> = ids.iter().filter(unknown).collect();
    if !missing.is_empty() {
        return Err(errors::images_not_found(&missing));
    }
    let owned = input.owners.is_empty() || input.owners.iter().any(|o| o == OWNER || o == OWNER_ALIAS);
    // `self` and account ids are about images that are shared with an account; these are shared with all.
    let executable = input.executable_users.is_empty() || input.executable_users.iter().any(|u| u == "all");
    let filters = Filters::read::<Seen<'_>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(ids.len(), "imageId", &asked)?;
    let selection = (&ids, &input.owners, &input.executable_users, &input.filters);
    let page = Page::open(api, caller, "DescribeImages", &selection, 1..=1000, asked)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        // Sorted by id as they are read, and a page's key is the id.
        let seen = api
            .facts
            .images
            .iter()
            .filter(|image| owned && executable && (ids.is_empty() || ids.contains(&image.id)));
        let seen = seen.map(|image| Seen { image, tags: tag::of(account, &image.id.to_string()) });
        let seen = seen.filter(|seen| page.is_after(&seen.image.id.to_string()) && filters.hold(seen));
        let (seen, next_token) = page.take(seen, |seen| seen.image.id.to_string());
        Ok(DescribeImagesResponse { images: seen.iter().map(Seen::shape).collect(), next_token })
    })
}

/// An image with the caller's tags.
pub(super) struct Seen<'a> {
    image: &'a Offered,
    tags: &'a [TagRecord],
}

impl Seen<'_> {
    fn location(&self) -> String {
        format!("{OWNER_ALIAS}/{}", self.image.name)
    }

    fn shape(&self) -> Image {
        let image = self.image;
        Image {
            image_id: image.id.to_string(),
            image_location: self.location(),
            state: "available".to_owned(),
            owner_id: OWNER.to_owned(),
            image_owner_alias: Some(OWNER_ALIAS.to_owned()),
            creation_date: image.created.clone(),
            public: true,
            architecture: image.architecture.clone(),
            image_type: "machine".to_owned(),
            name: image.name.clone(),
            description: Some(image.description.clone()),
            platform_details: Some("Linux/UNIX".to_owned()),
            usage_operation: Some("RunInstances".to_owned()),
            hypervisor: instance::HYPERVISOR.to_owned(),
            root_device_name: Some(image.root_device.clone()),
            root_device_type: instance::ROOT_DEVICE_TYPE.to_owned(),
            virtualization_type: instance::VIRTUALIZATION_TYPE.to_owned(),
            tags: tag::shapes(self.tags),
            ..Image::default()
        }
    }
}

impl Filtered for Seen<'_> {
    const NAMES: &'static [&'static str] = &[
        "architecture",
        "creation-date",
        "description",
        "hypervisor",
        "image-id",
        "image-type",
        "is-public",
        "manifest-location",
        "name",
        "owner-alias",
        "owner-id",
        "platform",
        "root-device-name",
        "root-device-type",
        "state",
        "virtualization-type",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let image = self.image;
        Some(match name {
            "architecture" => is(&image.architecture),
            "creation-date" => is(&image.created),
            "description" => is(&image.description),
            "hypervisor" => is(instance::HYPERVISOR),
            "image-id" => is(&image.id.to_string()),
            "image-type" => is("machine"),
            "is-public" => is("true"),
            "manifest-location" => is(&self.location()),
            "name" => is(&image.name),
            "owner-alias" => is(OWNER_ALIAS),
            "owner-id" => is(OWNER),
            // Only Windows images have one.
            "platform" => false,
            "root-device-name" => is(&image.root_device),
            "root-device-type" => is(instance::ROOT_DEVICE_TYPE),
            "state" => is("available"),
            "virtualization-type" => is(instance::VIRTUALIZATION_TYPE),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        self.tags
    }
}
