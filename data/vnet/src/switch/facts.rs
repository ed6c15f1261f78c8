//! What the services and the engine are told of a port, from the documents.

use crate::document::Act;
use crate::engine::limit::Limit;
use crate::engine::port::{PortConfig, Router};
use crate::engine::verdict::PortIndex;
use crate::packet::Mac;
use crate::policy::{VpcPolicy, address_read, router_mac};
use crate::service::classify;
use crate::service::facts::{
    DhcpFacts, Directory, InstanceFacts, InterfaceFacts, MetadataOptions, PortFacts, Prefix, Record,
    SubnetFacts, VpcFacts,
};
use base::ids::{NetworkInterfaceId, VpcId};
use contract::{PortAssignment, VpcDocument};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;
use std::sync::Arc;

/// What is known of one VPC beside policy.
#[derive(Default)]
struct Network {
    facts: Arc<VpcFacts>,
    subnets: BTreeMap<String, SubnetFacts>,
    /// Names with their labels the other way round, so that all below one are neighbours.
    names: BTreeMap<String, Vec<Record>>,
}

/// The VPCs of a switch.
pub(super) struct Networks {
    region: String,
    mtu: u16,
    vpcs: BTreeMap<VpcId, Network>,
}

fn prefix(stored: Option<&contract::Prefix>) -> Option<Prefix> {
    let stored = stored?;
    let address = address_read(&stored.address)?;
    let length = u8::try_from(stored.length).ok()?;
    Some(Prefix { address, length })
}

fn reversed(name: &str) -> String {
    let labels: Vec<&str> = name.split('.').rev().collect();
    labels.join(".")
}

/// Whether a change concerns what ports are told.
pub(super) fn concerns_ports(document: &VpcDocument) -> bool {
    let whole = document.base.is_none() || document.vpc_changed;
    whole || !document.subnets.is_empty() || !document.gone_subnets.is_empty()
}

impl Networks {
    pub(super) fn new(region: String, mtu: u16) -> Networks {
        Networks { region, mtu, vpcs: BTreeMap::new() }
    }

    pub(super) fn act(&mut self, act: &Act) {
        match act {
            Act::Vpc(document) => self.vpc(document),
            Act::VpcDrop(id) => drop(self.vpcs.remove(id)),
            Act::Port(_) | Act::PortRemove(_) => {}
        }
    }

    fn vpc(&mut self, document: &VpcDocument) {
        let Ok(id) = document.vpc_id.parse::<VpcId>() else { return };
        let network = self.vpcs.entry(id).or_default();
        if document.base.is_none() || document.vpc_changed {
            let dhcp = document.dhcp.clone().unwrap_or_default();
            let addresses =
                |list: &[Vec<u8>]| list.iter().filter_map(|bytes| address_read(bytes)).collect::<Vec<_>>();
            let ipv4s = |list: &[Vec<u8>]| {
                let only = |address| if let IpAddr::V4(address) = address { Some(address) } else { None };
                addresses(list).into_iter().filter_map(only).collect()
            };
            network.facts = Arc::new(VpcFacts {
                vpc_id: document.vpc_id.clone(),
                region: self.region.clone(),
                cidrs: document.cidrs.iter().filter_map(|cidr| prefix(Some(cidr))).collect(),
                dns_support: document.dns_support,
                dns_hostnames: document.dns_hostnames,
                dhcp: DhcpFacts {
                    domain_name: dhcp.domain_name,
                    domain_name_servers: addresses(&dhcp.domain_name_servers),
                    ntp_servers: addresses(&dhcp.ntp_servers),
                    netbios_name_servers: ipv4s(&dhcp.netbios_name_servers),
                    netbios_node_type: u8::try_from(dhcp.netbios_node_type).unwrap_or(0),
                },
            });
        }
        for id in &document.gone_subnets {
            network.subnets.remove(id);
        }
        for subnet in &document.subnets {
            let facts = SubnetFacts {
                subnet_id: subnet.subnet_id.clone(),
                cidr: prefix(subnet.cidr.as_ref()),
                cidr_ipv6: prefix(subnet.cidr_ipv6.as_ref()),
            };
            network.subnets.insert(subnet.subnet_id.clone(), facts);
        }
        for gone in document.gone_dns.iter().chain(&document.dns) {
            if let Some(records) = network.names.get_mut(&reversed(&gone.name)) {
                records.retain(|record| u32::from(record.kind) != gone.r#type);
            }
        }
        for record in document.dns.iter().filter(|record| !record.data.is_empty()) {
            let Ok(kind) = u16::try_from(record.r#type) else { continue };
            let record_facts = Record { kind, ttl_s: record.ttl_s, data: record.data.clone() };
            network.names.entry(reversed(&record.name)).or_default().push(record_facts);
        }
        network.names.retain(|_, records| !records.is_empty());
    }

    /// What a port is told, who is one of `all`; `None` while its VPC or its subnet is not known.
    pub(super) fn port_facts<'a>(
        &self,
        assignment: &PortAssignment,
        all: impl Iterator<Item = &'a PortAssignment>,
    ) -> Option<Arc<PortFacts>> {
        let interface = self.interface(assignment)?;
        // Without an instance a port has nobody's metadata but its own.
        let siblings: Vec<&PortAssignment> = all
            .filter(|other| match assignment.instance_id.is_empty() {
                true => other.interface_id == assignment.interface_id,
                false => other.instance_id == assignment.instance_id,
            })
            .collect();
        let instance = siblings.iter().find_map(|port| port.metadata.as_ref()).map(|metadata| {
            let mut interfaces: Vec<InterfaceFacts> =
                siblings.iter().filter_map(|port| self.interface(port)).collect();
            interfaces.sort_by_key(|interface| interface.device_index);
            let tags = metadata.tags.iter().map(|(key, value)| (key.clone(), value.clone()));
            let mut tags: Vec<(String, String)> = tags.collect();
            tags.sort();
            Arc::new(InstanceFacts {
                instance_id: assignment.instance_id.clone(),
                account_id: metadata.account_id.clone(),
                zone: metadata.zone.clone(),
                image_id: metadata.image_id.clone(),
                instance_type: metadata.instance_type.clone(),
                reservation_id: metadata.reservation_id.clone(),
                launch_index: metadata.launch_index,
                user_data: metadata.user_data.clone(),
                key_name: metadata.key_name.clone(),
                ssh_public_key: metadata.ssh_public_key.clone(),
                group_names: metadata.group_names.clone(),
                interfaces,
                launched_unix_ms: metadata.launched_unix_ms,
                options: MetadataOptions {
                    endpoint: metadata.endpoint_enabled,
                    tokens_required: metadata.tokens_required,
                    hop_limit: u8::try_from(metadata.hop_limit).unwrap_or(64).clamp(1, 64),
                    ipv6: metadata.ipv6_enabled,
                    tags: metadata.tags_enabled,
                },
                tags,
            })
        });
        let router_mac = router_mac(&assignment.subnet_id);
        Some(Arc::new(PortFacts { interface, instance, mtu: self.mtu, router_mac }))
    }

    fn interface(&self, assignment: &PortAssignment) -> Option<InterfaceFacts> {
        let network = self.vpcs.get(&assignment.vpc_id.parse().ok()?)?;
        let public = <[u8; 4]>::try_from(&assignment.public_address[..]).ok();
        Some(InterfaceFacts {
            interface_id: assignment.interface_id.clone(),
            mac: Mac(*assignment.mac.first_chunk::<6>()?),
            addresses: assignment.addresses.iter().filter_map(|bytes| address_read(bytes)).collect(),
            public_address: public.map(Ipv4Addr::from),
            group_ids: assignment.group_ids.clone(),
            device_index: assignment.device_index,
            subnet: network.subnets.get(&assignment.subnet_id)?.clone(),
            vpc: network.facts.clone(),
        })
    }

    /// The VPC of a port, for look-ups.
    pub(super) fn directory<'a>(
        &'a self,
        policy: &'a VpcPolicy,
        port: PortIndex,
        facts: &PortFacts,
    ) -> VpcDirectory<'a> {
        let vpc = facts.interface.vpc.vpc_id.parse().ok();
        let names = vpc.and_then(|vpc: VpcId| self.vpcs.get(&vpc)).map(|network| &network.names);
        VpcDirectory { policy, port, names }
    }
}

/// See [`Directory`].
pub(super) struct VpcDirectory<'a> {
    policy: &'a VpcPolicy,
    port: PortIndex,
    names: Option<&'a BTreeMap<String, Vec<Record>>>,
}

impl Directory for VpcDirectory<'_> {
    fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        self.policy.mac_of(self.port, address)
    }

    fn records(&self, name: &str) -> &[Record] {
        self.names.and_then(|names| names.get(&reversed(name))).map_or(&[], Vec::as_slice)
    }

    fn has_below(&self, name: &str) -> bool {
        let below = format!("{}.", reversed(name));
        let range = (Bound::Included(below.clone()), Bound::Unbounded);
        let next = self.names.and_then(|names| names.range(range).next());
        next.is_some_and(|(name, _)| name.starts_with(&below))
    }
}

/// What the engine must know of a port.
pub(super) fn port_config(assignment: &PortAssignment, facts: &PortFacts) -> PortConfig {
    let limit = Limit {
        bits_per_second: assignment.bits_per_second,
        packets_per_second: assignment.packets_per_second,
    };
    let mut services: Vec<IpAddr> = vec![
        classify::METADATA_V4.into(),
        classify::METADATA_V6.into(),
        classify::RESOLVER_V4.into(),
        classify::RESOLVER_V6.into(),
        classify::TIME_V4.into(),
        classify::TIME_V6.into(),
    ];
    services.extend(facts.interface.vpc.resolver().map(IpAddr::from));
    let id: Option<NetworkInterfaceId> = assignment.interface_id.parse().ok();
    PortConfig {
        // 64 of the id's 68 random bits.
        id: id.map_or(0, |id| id.bits() as u64),
        mac: facts.interface.mac,
        mtu: facts.mtu,
        router: Router {
            mac: facts.router_mac,
            ipv4: facts.interface.subnet.router().unwrap_or(Ipv4Addr::UNSPECIFIED),
            ipv6: crate::service::wire::link_local(facts.router_mac),
        },
        services,
        send: limit,
        receive: limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{InstanceMetadata, Subnet};

    #[test]
    fn metadata_is_the_instance_s_own() {
        let mut networks = Networks::new("us-east-1".into(), 1438);
        let subnet = Subnet { subnet_id: "subnet-1".into(), ..Subnet::default() };
        networks.act(&Act::Vpc(Box::new(VpcDocument {
            vpc_id: "vpc-0000000000000000a".into(),
            subnets: vec![subnet],
            ..VpcDocument::default()
        })));
        let port = |interface: &str, instance: &str, user_data: &str| PortAssignment {
            interface_id: interface.into(),
            instance_id: instance.into(),
            vpc_id: "vpc-0000000000000000a".into(),
            subnet_id: "subnet-1".into(),
            mac: vec![2, 0, 0, 0, 0, 1],
            metadata: (!user_data.is_empty())
                .then(|| InstanceMetadata { user_data: user_data.into(), ..InstanceMetadata::default() }),
            ..PortAssignment::default()
        };
        let all = [
            port("eni-1", "i-1", "one"),
            port("eni-2", "i-1", ""),
            port("eni-3", "i-2", "two"),
            port("eni-4", "", "of nobody"),
            port("eni-5", "", ""),
        ];
        let told = |at: usize| {
            let facts = networks.port_facts(&all[at], all.iter()).expect("its subnet is known");
            facts.instance.as_ref().map(|own| (own.user_data.clone(), own.interfaces.len()))
        };
        assert_eq!(told(0), Some((b"one".to_vec(), 2)));
        assert_eq!(told(1), told(0), "a second card is the same instance's");
        assert_eq!(told(2), Some((b"two".to_vec(), 1)));
        assert_eq!(told(4), None, "what is of no instance is not of another either");
    }
}
