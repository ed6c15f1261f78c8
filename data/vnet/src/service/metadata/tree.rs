//! What an instance can read of itself, as a tree of names.
//!
//! The names, and the version in which each appeared, are those of the EC2 User Guide's "Instance metadata categories";
//! what is not known here, or would be false (block devices, profiles, public host names, signatures), is not in the
//! tree, and so answered 404, as AWS answers for a category that an instance does not have.

use crate::service::facts::{InstanceFacts, InterfaceFacts, Prefix};
use base::clock::Timestamp;
use std::net::IpAddr;

/// The versions that AWS's service has, oldest first. One shows what had appeared by then.
pub const VERSIONS: [&str; 30] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-07-09",
    "2022-09-24",
    "2024-04-11",
    "latest",
];

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Names, those of directories with a `/` behind.
    Directory(Vec<String>),
    /// A value.
    Leaf(Vec<u8>),
}

/// A category: since when it is shown, where, and what it says.
struct Entry {
    since: &'static str,
    path: String,
    value: Vec<u8>,
}

/// Reads a path of a version, without the version. A directory may be read with or without a `/` at the end, as
/// `slash` says; a value only without.
pub fn read(instance: &InstanceFacts, version: &str, path: &[&str], slash: bool) -> Option<Node> {
    let entries = match path.first() {
        None => top(instance),
        Some(&"meta-data") => meta_data(instance),
        Some(&"dynamic") => dynamic(instance),
        Some(&"user-data") => user_data(instance),
        Some(_) => return None,
    };
    // The version's own order: `1.0` before all, `latest` behind all.
    let place = |version: &str| VERSIONS.iter().position(|other| *other >= version).unwrap_or(VERSIONS.len());
    let limit = VERSIONS.iter().position(|other| *other == version)?;
    let wanted = path.join("/");
    let mut names: Vec<String> = Vec::new();
    for entry in entries.iter().filter(|entry| place(entry.since) <= limit) {
        if entry.path == wanted {
            return (!slash).then(|| Node::Leaf(entry.value.clone()));
        }
        let below = match wanted.as_str() {
            "" => Some(entry.path.as_str()),
            wanted => entry.path.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('/')),
        };
        let Some(below) = below else { continue };
        let name = match below.split_once('/') {
            Some((directory, _)) => format!("{directory}/"),
            None => below.to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Keys are listed with their names: `0=my-key` (EC2 User Guide, "Retrieve instance metadata").
    if path == ["meta-data", "public-keys"] && !names.is_empty() {
        names = vec![format!("0={}", instance.key_name)];
    }
    names.sort();
    (!names.is_empty()).then_some(Node::Directory(names))
}

fn entry(since: &'static str, path: impl Into<String>, value: impl Into<Vec<u8>>) -> Entry {
    Entry { since, path: path.into(), value: value.into() }
}

fn top(instance: &InstanceFacts) -> Vec<Entry> {
    let mut entries = vec![entry("1.0", "meta-data", ""), entry("2009-04-04", "dynamic", "")];
    if !instance.user_data.is_empty() {
        entries.push(entry("1.0", "user-data", ""));
    }
    entries
}

fn user_data(instance: &InstanceFacts) -> Vec<Entry> {
    match instance.user_data.is_empty() {
        true => Vec::new(),
        false => vec![entry("1.0", "user-data", instance.user_data.clone())],
    }
}

fn dynamic(instance: &InstanceFacts) -> Vec<Entry> {
    let primary = primary(instance).and_then(InterfaceFacts::primary_ipv4);
    let region = primary_region(instance);
    let or_null = |text: &str| if text.is_empty() { serde_json::Value::Null } else { text.into() };
    let launched = Timestamp::from_unix_ms(instance.launched_unix_ms / 1000 * 1000).iso8601();
    // The architecture is not known here, and left out; kernels and RAM disks of its own no instance has.
    let document = serde_json::json!({
        "accountId": instance.account_id,
        "availabilityZone": instance.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": or_null(&instance.image_id),
        "instanceId": instance.instance_id,
        "instanceType": instance.instance_type,
        "kernelId": null,
        "pendingTime": launched.replace(".000Z", "Z"),
        "privateIp": primary.map(|address| address.to_string()),
        "ramdiskId": null,
        "region": region,
        "version": "2017-09-30",
    });
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    vec![entry("2009-04-04", "dynamic/instance-identity/document", text)]
}

fn primary(instance: &InstanceFacts) -> Option<&InterfaceFacts> {
    instance.interfaces.iter().find(|interface| interface.device_index == 0)
}

fn primary_region(instance: &InstanceFacts) -> &str {
    instance.interfaces.first().map_or("", |interface| &interface.vpc.region)
}

fn meta_data(instance: &InstanceFacts) -> Vec<Entry> {
    let mut entries = vec![
        entry("1.0", "ami-launch-index", instance.launch_index.to_string()),
        entry("1.0", "ami-manifest-path", "(unknown)"),
        entry("2008-09-01", "instance-action", "none"),
        entry("1.0", "instance-id", instance.instance_id.as_str()),
        entry("2019-10-01", "instance-life-cycle", "on-demand"),
        entry("2015-10-20", "services/partition", "aws"),
    ];
    let mut known = |since, path: &str, value: &str| {
        if !value.is_empty() {
            entries.push(entry(since, path, value));
        }
    };
    known("1.0", "ami-id", &instance.image_id);
    known("2007-08-29", "instance-type", &instance.instance_type);
    known("1.0", "reservation-id", &instance.reservation_id);
    known("1.0", "security-groups", &instance.group_names.join("\n"));
    known("2008-02-01", "placement/availability-zone", &instance.zone);
    known("2020-08-24", "placement/region", primary_region(instance));
    known("1.0", "public-keys/0/openssh-key", &instance.ssh_public_key);
    if let Some(primary) = primary(instance) {
        known("2011-01-01", "mac", &primary.mac.to_string());
        known("2021-01-03", "ipv6", &primary.ipv6s().next().map(|a| a.to_string()).unwrap_or_default());
        if let Some(address) = primary.primary_ipv4() {
            known("1.0", "hostname", &private_name(primary));
            known("2007-01-19", "local-hostname", &private_name(primary));
            known("1.0", "local-ipv4", &address.to_string());
        }
        known(
            "2007-01-19",
            "public-ipv4",
            &primary.public_address.map(|a| a.to_string()).unwrap_or_default(),
        );
    }
    for interface in &instance.interfaces {
        interface_entries(&mut entries, instance, interface);
    }
    if instance.options.tags {
        // A key with a `/` could not be told from a directory; EC2 refuses such tags where this is enabled.
        let shown = instance.tags.iter().filter(|(key, _)| !key.is_empty() && !key.contains('/'));
        entries.extend(
            shown.map(|(key, value)| entry("2021-03-23", format!("tags/instance/{key}"), value.as_str())),
        );
    }
    for entry in &mut entries {
        entry.path.insert_str(0, "meta-data/");
    }
    entries
}

fn private_name(interface: &InterfaceFacts) -> String {
    interface.short_name().map(|name| format!("{name}.{}", interface.vpc.zone())).unwrap_or_default()
}

fn lines<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join("\n")
}

fn interface_entries(entries: &mut Vec<Entry>, instance: &InstanceFacts, interface: &InterfaceFacts) {
    let mut known = |since, name: &str, value: String| {
        if !value.is_empty() {
            entries.push(entry(since, format!("network/interfaces/macs/{}/{name}", interface.mac), value));
        }
    };
    let prefixes = |family: fn(&IpAddr) -> bool| {
        let of_family = interface.vpc.cidrs.iter().filter(move |cidr: &&Prefix| family(&cidr.address));
        lines(of_family)
    };
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    known("2011-01-01", "device-number", interface.device_index.to_string());
    known("2011-01-01", "interface-id", interface.interface_id.clone());
    known("2016-06-30", "ipv6s", lines(interface.ipv6s()));
    known("2011-01-01", "local-hostname", private_name(interface));
    known("2011-01-01", "local-ipv4s", lines(interface.ipv4s()));
    known("2011-01-01", "mac", interface.mac.to_string());
    known("2020-11-01", "network-card", "0".into());
    known("2011-01-01", "owner-id", instance.account_id.clone());
    if let (Some(public), Some(private)) = (interface.public_address, interface.primary_ipv4()) {
        known("2011-01-01", "public-ipv4s", public.to_string());
        known("2011-01-01", &format!("ipv4-associations/{public}"), private.to_string());
    }
    known("2011-01-01", "security-group-ids", lines(&interface.group_ids));
    if interface.device_index == 0 {
        known("2011-01-01", "security-groups", lines(&instance.group_names));
    }
    known("2011-01-01", "subnet-id", interface.subnet.subnet_id.clone());
    known("2011-01-01", "subnet-ipv4-cidr-block", lines(interface.subnet.cidr));
    known("2016-06-30", "subnet-ipv6-cidr-blocks", lines(interface.subnet.cidr_ipv6));
    known("2011-01-01", "vpc-id", interface.vpc.vpc_id.clone());
    known("2011-01-01", "vpc-ipv4-cidr-block", first(&prefixes(IpAddr::is_ipv4)));
    known("2016-06-30", "vpc-ipv4-cidr-blocks", prefixes(IpAddr::is_ipv4));
    known("2016-06-30", "vpc-ipv6-cidr-blocks", prefixes(IpAddr::is_ipv6));
}
