//! DescribeInstances and DescribeInstanceStatus, and how an instance is told to customers.
//!
//! What does not exist is not invented: an instance from before there were networks has no interface, and none has a
//! volume behind its disk until volumes are built.

use super::filter::{Filtered, Filters};
use super::network_interface::group_name;
use super::page::{self, Asked, Page};
use super::{Api, errors, parse, resource, tag, zone};
use crate::image::Image;
use crate::instance;
use crate::instance::record::{InstanceRecord, ReservationRecord, TemplateRecord};
use crate::instance::state::{Stage, State};
use crate::model::Account;
use crate::network_interface::index::ipv6;
use crate::network_interface::record::InterfaceRecord;
use crate::tag::record::TagRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};
use base::clock::Timestamp;
use base::ids::{InstanceId, ReservationId};
use std::net::Ipv4Addr;
use std::ops::Bound;

/// DescribeInstances.
pub fn instances_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeInstancesRequest,
) -> Result<DescribeInstancesResponse, ApiError> {
    let ids = parse::instance_ids(&input.instance_ids)?;
    let filters = Filters::read::<Seen<'_>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(ids.len(), "instancesSet", &asked)?;
    let selection = (&ids, &input.filters);
    let page = Page::open(api, caller, "DescribeInstances", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let (seen, next_token) = select(api, caller, account, &ids, &page, |seen| filters.hold(seen))?;
        let mut reservations: Vec<Reservation> = Vec::new();
        for seen in &seen {
            match reservations.last_mut().filter(|last| last.reservation_id == seen.record.reservation_id) {
                Some(reservation) => reservation.instances.push(seen.shape()),
                None => reservations.push(Reservation {
                    reservation_id: seen.record.reservation_id.clone(),
                    owner_id: caller.account.to_string(),
                    instances: vec![seen.shape()],
                    ..Reservation::default()
                }),
            }
        }
        Ok(DescribeInstancesResponse { reservations, next_token })
    })
}

/// DescribeInstanceStatus.
///
/// The system's status is what the host reports. The instance's is `ok` while its virtual machine runs: nothing in
/// the guest or on a network is probed, so the answer names no check of it.
pub fn statuses_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeInstanceStatusRequest,
) -> Result<DescribeInstanceStatusResponse, ApiError> {
    let ids = parse::instance_ids(&input.instance_ids)?;
    let filters = Filters::read::<SeenStatus<'_>>(&input.filters)?;
    let all = input.include_all_instances.unwrap_or(false);
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(ids.len(), "instancesSet", &asked)?;
    let selection = (&ids, &input.filters, all);
    let page = Page::open(api, caller, "DescribeInstanceStatus", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let (seen, next_token) = select(api, caller, account, &ids, &page, |seen| {
            (all || seen.state() == State::Running) && filters.hold(&SeenStatus(seen))
        })?;
        let statuses = seen.iter().map(|seen| InstanceStatus {
            instance_id: seen.record.instance_id.clone(),
            availability_zone: seen.record.zone.clone(),
            availability_zone_id: seen.zone_id(),
            events: Vec::new(),
            instance_state: state_shape(seen.state()),
            instance_status: InstanceStatusSummary {
                status: checked(seen.record.stage()).to_owned(),
                details: Vec::new(),
            },
            system_status: InstanceStatusSummary {
                status: checked(seen.record.stage()).to_owned(),
                details: reachability(seen.record.stage())
                    .map(|status| InstanceStatusDetails {
                        name: "reachability".to_owned(),
                        status: status.to_owned(),
                        impaired_since: None,
                    })
                    .into_iter()
                    .collect(),
            },
        });
        Ok(DescribeInstanceStatusResponse { instance_statuses: statuses.collect(), next_token })
    })
}

/// An instance that customers can see, with what is told of it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    api: &'a Api,
    caller: &'a Caller,
    account: &'a Account,
    record: &'a InstanceRecord,
    reservation: &'a ReservationRecord,
}

impl<'a> Seen<'a> {
    pub fn new(
        api: &'a Api,
        caller: &'a Caller,
        account: &'a Account,
        record: &'a InstanceRecord,
        reservation: &'a ReservationRecord,
    ) -> Self {
        Seen { api, caller, account, record, reservation }
    }

    fn state(&self) -> State {
        self.record.stage().state()
    }

    fn template(&self, part: impl Fn(&'a TemplateRecord) -> &'a str) -> &'a str {
        self.record.template.as_ref().map(part).unwrap_or_default()
    }

    fn image(&self) -> Option<&'a Image> {
        self.api.image(self.template(|template| &template.image_id))
    }

    fn zone_id(&self) -> Option<String> {
        zone::zone_id(&self.api.facts, &self.record.zone)
    }

    /// Why it is in its state, as EC2 puts it: `User initiated (2026-01-02 03:04:05 GMT)`.
    fn transition_reason(&self) -> String {
        if !self.record.reason_code.starts_with("Client.User") {
            return self.record.reason_message.clone();
        }
        let changed = Timestamp::from_unix_ms(self.record.changed_unix_ms).iso8601();
        let changed = changed.split('.').next().unwrap_or_default().replace('T', " ");
        format!("User initiated ({changed} GMT)")
    }

    fn state_reason(&self) -> Option<InstanceStateReason> {
        let record = self.record;
        (!record.reason_code.is_empty()).then(|| InstanceStateReason {
            code: record.reason_code.clone(),
            message: format!("{}: {}", record.reason_code, record.reason_message),
        })
    }

    fn cpu_options(&self) -> Option<CpuOptions> {
        let shape = instance::catalogue::find(self.template(|template| &template.instance_type))?;
        Some(CpuOptions {
            core_count: i32::try_from(shape.vcpus / shape.threads_per_core).ok()?,
            threads_per_core: i32::try_from(shape.threads_per_core).ok()?,
        })
    }

    fn interfaces(&self) -> impl Iterator<Item = resource::Seen<'a, InterfaceRecord>> + use<'a> {
        let Seen { api, caller, account, record, .. } = *self;
        let see = move |record| resource::Seen { api, caller, account, record };
        account.interfaces_of(record.id()).map(see)
    }

    /// Whether it holds for one of the interfaces.
    fn interface(&self, holds: impl Fn(&InterfaceRecord) -> bool) -> bool {
        self.interfaces().any(|seen| holds(seen.record))
    }

    /// The first interface, and its first address.
    fn first(&self) -> Option<(resource::Seen<'a, InterfaceRecord>, u32)> {
        let seen = self.interfaces().next()?;
        Some((seen, *seen.record.addresses.first()?))
    }

    /// The instance as customers see it.
    pub fn shape(&self) -> Instance {
        let record = self.record;
        let image = self.image();
        let interfaces: Vec<InstanceNetworkInterface> =
            self.interfaces().map(|seen| interface_shape(&seen)).collect();
        let place = interfaces.first();
        // A guest without a card has no address, whatever is kept for it.
        let carried = self.api.facts.networks;
        let first = place.filter(|_| carried);
        let public = first.and_then(|first| first.association.as_ref());
        Instance {
            private_dns_name: first.and_then(|first| first.private_dns_name.clone()).unwrap_or_default(),
            public_dns_name: public.map(|public| public.public_dns_name.clone()).unwrap_or_default(),
            subnet_id: place.and_then(|place| place.subnet_id.clone()),
            vpc_id: place.and_then(|place| place.vpc_id.clone()),
            private_ip_address: first.and_then(|first| first.private_ip_address.clone()),
            public_ip_address: public.map(|public| public.public_ip.clone()),
            source_dest_check: first.and_then(|first| first.source_dest_check),
            security_groups: place.map(|place| place.groups.clone()).unwrap_or_default(),
            instance_id: record.instance_id.clone(),
            image_id: self.template(|template| &template.image_id).to_owned(),
            state: state_shape(self.state()),
            state_transition_reason: self.transition_reason(),
            key_name: present(self.template(|template| &template.key_name)),
            ami_launch_index: i32::try_from(record.launch_index).unwrap_or(i32::MAX),
            instance_type: self.template(|template| &template.instance_type).to_owned(),
            launch_time: Timestamp::from_unix_ms(record.launched_unix_ms),
            placement: InstancePlacement {
                availability_zone: record.zone.clone(),
                availability_zone_id: self.zone_id(),
                group_name: String::new(),
                tenancy: "default".to_owned(),
            },
            monitoring: Monitoring { state: "disabled".to_owned() },
            state_reason: self.state_reason(),
            architecture: architecture(image).to_owned(),
            root_device_type: ROOT_DEVICE_TYPE.to_owned(),
            root_device_name: image.map(|image| image.root_device.clone()),
            virtualization_type: VIRTUALIZATION_TYPE.to_owned(),
            client_token: present(&self.reservation.client_token),
            tags: tag::shapes(self.tags()),
            hypervisor: HYPERVISOR.to_owned(),
            cpu_options: self.cpu_options(),
            hibernation_options: Some(HibernationOptions { configured: false }),
            enclave_options: Some(EnclaveOptions { enabled: false }),
            platform_details: Some("Linux/UNIX".to_owned()),
            usage_operation: Some("RunInstances".to_owned()),
            usage_operation_update_time: Some(Timestamp::from_unix_ms(self.reservation.accepted_unix_ms)),
            network_interfaces: if carried { interfaces.clone() } else { Vec::new() },
            ..Instance::default()
        }
    }
}

fn interface_shape(seen: &resource::Seen<'_, InterfaceRecord>) -> InstanceNetworkInterface {
    let record = seen.record;
    let association = |private: u32| {
        let public = seen.public(private)?;
        Some(InstanceNetworkInterfaceAssociation {
            ip_owner_id: if public.allocation_id.is_some() { seen.owner_id() } else { "amazon".to_owned() },
            public_dns_name: public.name,
            public_ip: public.address.to_string(),
        })
    };
    let address = |(index, private): (usize, &u32)| InstancePrivateIpAddress {
        association: association(*private),
        primary: index == 0,
        private_dns_name: present(&seen.name(*private)),
        private_ip_address: Ipv4Addr::from_bits(*private).to_string(),
    };
    let first = record.addresses.first().copied();
    InstanceNetworkInterface {
        network_interface_id: record.interface_id.clone(),
        subnet_id: Some(record.subnet_id.clone()),
        vpc_id: Some(record.vpc_id.clone()),
        description: Some(record.description.clone()),
        owner_id: seen.owner_id(),
        status: seen.status().to_owned(),
        mac_address: seen.mac(),
        private_ip_address: first.map(|first| Ipv4Addr::from_bits(first).to_string()),
        private_dns_name: first.and_then(|first| present(&seen.name(first))),
        source_dest_check: Some(!record.forwards),
        groups: seen.groups(),
        interface_type: Some("interface".to_owned()),
        attachment: record.attachment.as_ref().map(|attachment| InstanceNetworkInterfaceAttachment {
            attach_time: Timestamp::from_unix_ms(attachment.attached_unix_ms),
            attachment_id: attachment.attachment_id.clone(),
            delete_on_termination: !attachment.keep,
            device_index: i32::try_from(attachment.device_index).unwrap_or(i32::MAX),
            status: "attached".to_owned(),
            network_card_index: 0,
        }),
        association: first.and_then(association),
        private_ip_addresses: record.addresses.iter().enumerate().map(address).collect(),
        ipv6_addresses: ipv6(record)
            .map(|address| InstanceIpv6Address { ipv6_address: Some(address.to_string()) })
            .collect(),
    }
}

/// AWS knows `ebs`, whose disk outlives a stop, and `instance-store`, whose disk does not. Ours outlives it; no
/// volume is listed for it until volumes exist.
pub(super) const ROOT_DEVICE_TYPE: &str = "ebs";
pub(super) const VIRTUALIZATION_TYPE: &str = "hvm";
/// AWS's word, whatever the hypervisor is.
pub(super) const HYPERVISOR: &str = "xen";

/// Hosts run x86-64 guests; an image that is not on offer any more was of that kind too.
fn architecture(image: Option<&Image>) -> &str {
    image.map_or("x86_64", |image| &image.architecture)
}

impl Filtered for Seen<'_> {
    const NAMES: &'static [&'static str] = &[
        "architecture",
        "availability-zone",
        "availability-zone-id",
        "block-device-mapping.volume-id",
        "client-token",
        "dns-name",
        "hypervisor",
        "iam-instance-profile.arn",
        "image-id",
        "instance-id",
        "instance-lifecycle",
        "instance-state-code",
        "instance-state-name",
        "instance-type",
        "instance.group-id",
        "instance.group-name",
        "ip-address",
        "kernel-id",
        "key-name",
        "launch-index",
        "launch-time",
        "monitoring-state",
        "network-interface.network-interface-id",
        "network-interface.subnet-id",
        "network-interface.vpc-id",
        "owner-id",
        "placement-group-name",
        "platform",
        "platform-details",
        "private-dns-name",
        "private-ip-address",
        "ramdisk-id",
        "reason",
        "requester-id",
        "reservation-id",
        "root-device-name",
        "root-device-type",
        "spot-instance-request-id",
        "state-reason-code",
        "state-reason-message",
        "subnet-id",
        "tenancy",
        "usage-operation",
        "virtualization-type",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let record = self.record;
        Some(match name {
            "architecture" => is(architecture(self.image())),
            "availability-zone" => is(&record.zone),
            "availability-zone-id" => self.zone_id().is_some_and(|id| is(&id)),
            "client-token" => is(&self.reservation.client_token),
            "hypervisor" => is(HYPERVISOR),
            "image-id" => is(self.template(|template| &template.image_id)),
            "instance-id" => is(&record.instance_id),
            "instance-state-code" => is(&self.state().code().to_string()),
            "instance-state-name" => is(self.state().as_str()),
            "instance-type" => is(self.template(|template| &template.instance_type)),
            "key-name" => present(self.template(|template| &template.key_name)).is_some_and(|n| is(&n)),
            "launch-index" => is(&record.launch_index.to_string()),
            "launch-time" => is(&Timestamp::from_unix_ms(record.launched_unix_ms).iso8601()),
            "monitoring-state" => is("disabled"),
            "owner-id" => is(&self.caller.account.to_string()),
            "platform-details" => is("Linux/UNIX"),
            "reason" => is(&self.transition_reason()),
            "reservation-id" => is(&record.reservation_id),
            "root-device-name" => self.image().is_some_and(|image| is(&image.root_device)),
            "root-device-type" => is(ROOT_DEVICE_TYPE),
            "state-reason-code" => self.state_reason().is_some_and(|reason| is(&reason.code)),
            "state-reason-message" => self.state_reason().is_some_and(|reason| is(&reason.message)),
            "tenancy" => is("default"),
            "usage-operation" => is("RunInstances"),
            "virtualization-type" => is(VIRTUALIZATION_TYPE),
            "dns-name" => self
                .first()
                .is_some_and(|(seen, private)| seen.public(private).is_some_and(|public| is(&public.name))),
            "instance.group-id" => self.interface(|one| one.group_ids.iter().any(|id| is(id))),
            "instance.group-name" => {
                self.interface(|one| one.group_ids.iter().any(|id| is(&group_name(self.account, id))))
            }
            "ip-address" => self.first().is_some_and(|(seen, private)| {
                seen.public(private).is_some_and(|public| is(&public.address.to_string()))
            }),
            "network-interface.network-interface-id" => self.interface(|one| is(&one.interface_id)),
            "network-interface.subnet-id" | "subnet-id" => self.interface(|one| is(&one.subnet_id)),
            "network-interface.vpc-id" | "vpc-id" => self.interface(|one| is(&one.vpc_id)),
            "private-dns-name" => self.first().is_some_and(|(seen, private)| is(&seen.name(private))),
            "private-ip-address" => {
                self.first().is_some_and(|(_, private)| is(&Ipv4Addr::from_bits(private).to_string()))
            }
            // AWS's own filters on what no instance here has: they hold for none.
            "block-device-mapping.volume-id"
            | "iam-instance-profile.arn"
            | "instance-lifecycle"
            | "kernel-id"
            | "placement-group-name"
            | "platform"
            | "ramdisk-id"
            | "requester-id"
            | "spot-instance-request-id" => false,
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        self.record.template.as_ref().map(|template| template.tags.as_slice()).unwrap_or_default()
    }
}

/// An instance as the filters of DescribeInstanceStatus see it.
pub(super) struct SeenStatus<'a>(&'a Seen<'a>);

impl Filtered for SeenStatus<'_> {
    const NAMES: &'static [&'static str] = &[
        "availability-zone",
        "availability-zone-id",
        "event.code",
        "event.description",
        "event.not-after",
        "event.not-before",
        "instance-state-code",
        "instance-state-name",
        "instance-status.reachability",
        "instance-status.status",
        "system-status.reachability",
        "system-status.status",
    ];
    const TAGGED: bool = false;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let stage = self.0.record.stage();
        Some(match name {
            "instance-status.status" | "system-status.status" => is(checked(stage)),
            "system-status.reachability" => reachability(stage).is_some_and(is),
            "event.code"
            | "event.description"
            | "event.not-after"
            | "event.not-before"
            | "instance-status.reachability" => false,
            other => return self.0.any(other, is),
        })
    }
}

fn checked(stage: Stage) -> &'static str {
    match stage.state() {
        State::Running => "ok",
        State::Pending => "initializing",
        State::Stopping | State::Stopped | State::ShuttingDown | State::Terminated => "not-applicable",
    }
}

/// What the host's reports say of the system.
fn reachability(stage: Stage) -> Option<&'static str> {
    match stage.state() {
        State::Running => Some("passed"),
        State::Pending => Some("initializing"),
        State::Stopping | State::Stopped | State::ShuttingDown | State::Terminated => None,
    }
}

pub(super) fn state_shape(state: State) -> InstanceState {
    InstanceState { code: state.code(), name: state.as_str().to_owned() }
}

fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The instances of the account with these ids (of any id, if there are none) that `wanted` holds for, on this page:
/// by reservation, then by index of launch.
fn select<'a>(
    api: &'a Api,
    caller: &'a Caller,
    account: &'a Account,
    ids: &[InstanceId],
    page: &Page,
    wanted: impl Fn(&Seen<'a>) -> bool,
) -> Result<(Vec<Seen<'a>>, Option<String>), ApiError> {
    let after = page.after.as_deref().map(|key| key_parse(key).ok_or_else(page::invalid_cursor));
    let after = after.transpose()?;
    let key = |seen: &Seen<'_>| format!("{}/{}", seen.record.reservation_id, seen.record.launch_index);
    if ids.is_empty() {
        let all = listed(api, caller, account, after);
        return Ok(page.take(all.filter(|seen| wanted(seen)), key));
    }
    let mut seen = found(api, caller, account, ids)?;
    seen.retain(|seen| wanted(seen));
    seen.sort_by_key(|seen| (seen.reservation_id(), seen.record.launch_index));
    seen.retain(|seen| after.is_none_or(|after| (seen.reservation_id(), seen.record.launch_index) > after));
    Ok(page.take(seen.into_iter(), key))
}

impl Seen<'_> {
    fn reservation_id(&self) -> ReservationId {
        self.record.reservation_id.parse().unwrap_or(ReservationId::from_bits(0))
    }
}

fn key_parse(key: &str) -> Option<(ReservationId, u32)> {
    let (reservation, index) = key.split_once('/')?;
    Some((reservation.parse().ok()?, index.parse().ok()?))
}

/// Every instance that customers can see, starting after a key. (A launch is kept as long as one of its members.)
fn listed<'a>(
    api: &'a Api,
    caller: &'a Caller,
    account: &'a Account,
    after: Option<(ReservationId, u32)>,
) -> impl Iterator<Item = Seen<'a>> {
    let from = after.map_or(Bound::Unbounded, |(reservation, _)| Bound::Included(reservation));
    let reservations = account.reservations.range((from, Bound::Unbounded));
    reservations.flat_map(move |(id, reservation)| {
        let members = instance::members(reservation);
        let members = members.filter(move |(index, _)| after.is_none_or(|after| (*id, *index) > after));
        members.filter_map(move |(_, member)| {
            let record = account.instances.get(&member)?;
            let visible = account.instance_is_visible(record);
            visible.then(|| Seen::new(api, caller, account, record, reservation))
        })
    })
}

/// The instances of these ids, or who is missing.
fn found<'a>(
    api: &'a Api,
    caller: &'a Caller,
    account: &'a Account,
    ids: &[InstanceId],
) -> Result<Vec<Seen<'a>>, ApiError> {
    let mut seen = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for id in ids {
        match see(api, caller, account, *id) {
            Some(instance) => seen.push(instance),
            None => missing.push(id),
        }
    }
    if missing.is_empty() { Ok(seen) } else { Err(errors::instances_not_found(&missing)) }
}

fn see<'a>(api: &'a Api, caller: &'a Caller, account: &'a Account, id: InstanceId) -> Option<Seen<'a>> {
    let record = account.instances.get(&id).filter(|record| account.instance_is_visible(record))?;
    let reservation = account.reservations.get(&record.reservation_id.parse().ok()?)?;
    Some(Seen::new(api, caller, account, record, reservation))
}

/// The record of one instance that customers can see.
pub(super) fn record_find(account: &Account, id: InstanceId) -> Result<&InstanceRecord, ApiError> {
    let record = account.instances.get(&id).filter(|record| account.instance_is_visible(record));
    record.map(|record| record.as_ref()).ok_or_else(|| errors::instances_not_found(&[id]))
}
