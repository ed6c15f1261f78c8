//! What a switch holds of one VPC: reads a document, judges it, and makes a change of it. A document is taken whole or
//! not at all.
//!
//! Numbers of groups, hosts and prefix lists may be given anew, so that a number which names nothing, or is taken away
//! from under what names it, would come to mean something else later: such a document contradicts itself.

use super::table::{Changed, Element, Table};
use super::{Limits, Refusal};
use crate::policy::Prefix;
use base::generation::Generation;
use base::ids::VpcId;
use contract::group_rule::Peer;
use contract::route::{Destination, Target};
use contract::{
    DhcpOptions, DnsRecord, Mapping, NetworkAcl, PrefixList, RouteTable, SecurityGroup, Subnet, UnderlayHost,
    VpcDocument,
};
use std::collections::BTreeSet;

/// Geneve's network identifiers have 24 bits.
const VNI_MAX: u32 = (1 << 24) - 1;

/// A VPC's document, as it is held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VpcRecord {
    pub(super) generation: Generation,
    vni: u32,
    cidrs: Vec<contract::Prefix>,
    dhcp: DhcpOptions,
    dns_support: bool,
    dns_hostnames: bool,
    subnets: Table<Subnet>,
    route_tables: Table<RouteTable>,
    acls: Table<NetworkAcl>,
    groups: Table<SecurityGroup>,
    prefix_lists: Table<PrefixList>,
    mappings: Table<Mapping>,
    hosts: Table<UnderlayHost>,
    dns: Table<DnsRecord>,
    /// VPCs that a route leads to.
    pub(super) peers: BTreeSet<VpcId>,
}

/// The names in a change, kind by kind.
struct Names {
    subnets: Changed<Subnet>,
    route_tables: Changed<RouteTable>,
    acls: Changed<NetworkAcl>,
    groups: Changed<SecurityGroup>,
    prefix_lists: Changed<PrefixList>,
    mappings: Changed<Mapping>,
    hosts: Changed<UnderlayHost>,
    dns: Changed<DnsRecord>,
}

fn set<K: Ord + Clone>(gone: &[K]) -> BTreeSet<K> {
    gone.iter().cloned().collect()
}

fn addresses(gone: &[Vec<u8>]) -> BTreeSet<Box<[u8]>> {
    gone.iter().map(|address| address.as_slice().into()).collect()
}

fn dns_keys(gone: &[DnsRecord]) -> BTreeSet<(String, u32)> {
    gone.iter().map(Element::key).collect()
}

impl VpcRecord {
    /// What a document changes here: of a whole one what is different from what is held, of a change itself. Or why it
    /// is not taken.
    pub(super) fn read(&self, document: VpcDocument, limits: &Limits) -> Result<VpcDocument, Refusal> {
        let restored =
            contract::convert::generation(document.generation).incarnation > self.generation.incarnation;
        let whole = document.base.is_none();
        if whole && document.cidrs.is_empty() {
            return Err(Refusal(String::from("it has no prefix")));
        }
        let change = if whole { self.difference(document) } else { document };
        let names = self.check(&change, limits).map_err(|why| Refusal(why.to_owned()))?;
        if whole && !restored {
            names.judge(self, limits).map_err(Refusal)?;
        }
        Ok(change)
    }

    /// Makes a change that was [`read`](Self::read) here.
    pub(super) fn apply(&mut self, change: &VpcDocument) {
        self.generation = contract::convert::generation(change.generation);
        if change.vni != 0 {
            self.vni = change.vni;
        }
        if change.vpc_changed {
            if !change.cidrs.is_empty() {
                self.cidrs = change.cidrs.clone();
            }
            (self.dns_support, self.dns_hostnames) = (change.dns_support, change.dns_hostnames);
        }
        if let Some(dhcp) = &change.dhcp {
            self.dhcp = dhcp.clone();
        }
        self.subnets.apply(&change.subnets, &set(&change.gone_subnets));
        self.route_tables.apply(&change.route_tables, &set(&change.gone_route_tables));
        self.acls.apply(&change.acls, &set(&change.gone_acls));
        self.groups.apply(&change.groups, &set(&change.gone_groups));
        self.prefix_lists.apply(&change.prefix_lists, &set(&change.gone_prefix_lists));
        self.mappings.apply(&change.mappings, &addresses(&change.gone_mappings));
        self.hosts.apply(&change.hosts, &set(&change.gone_hosts));
        self.dns.apply(&change.dns, &dns_keys(&change.gone_dns));
        if !change.route_tables.is_empty() || !change.gone_route_tables.is_empty() {
            let routes = self.route_tables.all().flat_map(|table| table.routes);
            let peer = |target: Option<Target>| match target {
                Some(Target::PeerVpcId(vpc)) => vpc.parse().ok(),
                _ => None,
            };
            self.peers = routes.filter_map(|route| peer(route.target)).collect();
        }
    }

    /// All of it.
    pub(super) fn whole(&self, id: VpcId) -> VpcDocument {
        VpcDocument {
            vpc_id: id.to_string(),
            generation: Some(self.generation.into()),
            vni: self.vni,
            cidrs: self.cidrs.clone(),
            subnets: self.subnets.all().collect(),
            route_tables: self.route_tables.all().collect(),
            acls: self.acls.all().collect(),
            groups: self.groups.all().collect(),
            prefix_lists: self.prefix_lists.all().collect(),
            mappings: self.mappings.all().collect(),
            hosts: self.hosts.all().collect(),
            dhcp: Some(self.dhcp.clone()),
            dns: self.dns.all().collect(),
            dns_support: self.dns_support,
            dns_hostnames: self.dns_hostnames,
            vpc_changed: true,
            ..VpcDocument::default()
        }
    }

    /// The change that makes this what `whole` says.
    fn difference(&self, whole: VpcDocument) -> VpcDocument {
        let (subnets, gone_subnets) = self.subnets.difference(whole.subnets);
        let (route_tables, gone_route_tables) = self.route_tables.difference(whole.route_tables);
        let (acls, gone_acls) = self.acls.difference(whole.acls);
        let (groups, gone_groups) = self.groups.difference(whole.groups);
        let (prefix_lists, gone_prefix_lists) = self.prefix_lists.difference(whole.prefix_lists);
        let (mappings, gone_mappings) = self.mappings.difference(whole.mappings);
        let (hosts, gone_hosts) = self.hosts.difference(whole.hosts);
        let (dns, gone_dns) = self.dns.difference(whole.dns);
        let named = |(name, kind): (String, u32)| DnsRecord { name, r#type: kind, ..DnsRecord::default() };
        VpcDocument {
            vpc_id: whole.vpc_id,
            generation: whole.generation,
            base: Some(self.generation.into()),
            vni: whole.vni,
            cidrs: whole.cidrs,
            dhcp: Some(whole.dhcp.unwrap_or_default()),
            dns_support: whole.dns_support,
            dns_hostnames: whole.dns_hostnames,
            vpc_changed: true,
            subnets,
            route_tables,
            acls,
            groups,
            prefix_lists,
            mappings,
            hosts,
            dns,
            gone_subnets: gone_subnets.into_iter().collect(),
            gone_route_tables: gone_route_tables.into_iter().collect(),
            gone_acls: gone_acls.into_iter().collect(),
            gone_groups: gone_groups.into_iter().collect(),
            gone_prefix_lists: gone_prefix_lists.into_iter().collect(),
            gone_mappings: gone_mappings.into_iter().map(Vec::from).collect(),
            gone_hosts: gone_hosts.into_iter().collect(),
            gone_dns: gone_dns.into_iter().map(named).collect(),
        }
    }

    /// Why a change cannot be made here, if so.
    fn check(&self, change: &VpcDocument, limits: &Limits) -> Result<Names, &'static str> {
        if change.vni > VNI_MAX || (self.vni == 0 && change.vni == 0) {
            return Err("its VNI is none");
        }
        if self.vni != 0 && change.vni != 0 && self.vni != change.vni {
            return Err("its VNI is another than before");
        }
        if change.cidrs.iter().any(|prefix| Prefix::read(prefix).is_none()) {
            return Err("a prefix cannot be read");
        }
        let names = Names {
            subnets: Changed::read(&change.subnets, set(&change.gone_subnets))?,
            route_tables: Changed::read(&change.route_tables, set(&change.gone_route_tables))?,
            acls: Changed::read(&change.acls, set(&change.gone_acls))?,
            groups: Changed::read(&change.groups, set(&change.gone_groups))?,
            prefix_lists: Changed::read(&change.prefix_lists, set(&change.gone_prefix_lists))?,
            mappings: Changed::read(&change.mappings, addresses(&change.gone_mappings))?,
            hosts: Changed::read(&change.hosts, set(&change.gone_hosts))?,
            dns: Changed::read(&change.dns, dns_keys(&change.gone_dns))?,
        };
        let elements = names.subnets.count(&self.subnets)
            + names.route_tables.count(&self.route_tables)
            + names.acls.count(&self.acls)
            + names.groups.count(&self.groups)
            + names.prefix_lists.count(&self.prefix_lists)
            + names.mappings.count(&self.mappings)
            + names.hosts.count(&self.hosts)
            + names.dns.count(&self.dns);
        if elements > limits.elements_max {
            return Err("it has more elements than a switch takes");
        }
        self.check_new(change, &names)?;
        self.check_staying(change, &names)?;
        Ok(names)
    }

    /// What is set names nothing that is not there.
    fn check_new(&self, change: &VpcDocument, names: &Names) -> Result<(), &'static str> {
        for mapping in &change.mappings {
            if !names.hosts.leaves(&self.hosts, &mapping.host) {
                return Err("a mapping names a host that is not in it");
            }
            if !mapping.groups.iter().all(|group| names.groups.leaves(&self.groups, group)) {
                return Err("a mapping names a group that is not in it");
            }
        }
        self.check_rules(change.groups.iter(), names)?;
        self.check_routes(change.route_tables.iter(), names)
    }

    /// What stays names nothing that goes, or becomes something else.
    fn check_staying(&self, change: &VpcDocument, names: &Names) -> Result<(), &'static str> {
        let renamed = |group: &SecurityGroup| {
            self.groups.get(&group.number).is_some_and(|held| held.group_id != group.group_id)
        };
        let mut groups: BTreeSet<u32> =
            change.groups.iter().filter(|group| renamed(group)).map(|g| g.number).collect();
        groups.extend(names.groups.gone());
        let hosts = names.hosts.gone();
        if !groups.is_empty() || !hosts.is_empty() {
            for mapping in self.mappings.staying(&names.mappings) {
                if hosts.contains(&mapping.host) {
                    return Err("it lacks a host that a mapping names");
                }
                if mapping.groups.iter().any(|group| groups.contains(group)) {
                    return Err("it lacks a group that a mapping names");
                }
            }
        }
        let lists_go = !names.prefix_lists.gone().is_empty();
        if !names.groups.gone().is_empty() || lists_go {
            self.check_rules(self.groups.staying(&names.groups), names)?;
        }
        if !hosts.is_empty() || lists_go {
            self.check_routes(self.route_tables.staying(&names.route_tables), names)?;
        }
        Ok(())
    }

    fn check_rules<G: std::borrow::Borrow<SecurityGroup>>(
        &self,
        groups: impl Iterator<Item = G>,
        names: &Names,
    ) -> Result<(), &'static str> {
        for group in groups {
            let group = group.borrow();
            for rule in group.ingress.iter().chain(&group.egress) {
                let named = match &rule.peer {
                    Some(Peer::Group(number)) => names.groups.leaves(&self.groups, number),
                    Some(Peer::PrefixList(number)) => names.prefix_lists.leaves(&self.prefix_lists, number),
                    Some(Peer::Prefix(_)) | None => true,
                };
                if !named {
                    return Err("a rule names a group or prefix list that is not in it");
                }
            }
        }
        Ok(())
    }

    fn check_routes<T: std::borrow::Borrow<RouteTable>>(
        &self,
        tables: impl Iterator<Item = T>,
        names: &Names,
    ) -> Result<(), &'static str> {
        for table in tables {
            for route in &table.borrow().routes {
                if let Some(Destination::PrefixList(number)) = &route.destination
                    && !names.prefix_lists.leaves(&self.prefix_lists, number)
                {
                    return Err("a route names a prefix list that is not in it");
                }
                if let Some(Target::Edge(edge)) = &route.target
                    && !edge.hosts.iter().all(|host| names.hosts.leaves(&self.hosts, host))
                {
                    return Err("a route names a host that is not in it");
                }
            }
        }
        Ok(())
    }

    /// Its Geneve virtual network identifier.
    pub fn vni(&self) -> u32 {
        self.vni
    }

    /// Its own prefixes.
    pub fn cidrs(&self) -> &[contract::Prefix] {
        &self.cidrs
    }

    /// What its instances are told by DHCP.
    pub fn dhcp(&self) -> &DhcpOptions {
        &self.dhcp
    }

    /// Whether its resolver answers.
    pub fn dns_support(&self) -> bool {
        self.dns_support
    }

    /// Whether its instances have names.
    pub fn dns_hostnames(&self) -> bool {
        self.dns_hostnames
    }

    /// A subnet by its id.
    pub fn subnet(&self, id: &str) -> Option<Subnet> {
        self.subnets.get(&id.to_owned())
    }

    /// A record by its name (lower case, without the dot at the end) and type.
    pub fn dns(&self, name: &str, kind: u32) -> Option<DnsRecord> {
        self.dns.get(&(name.to_owned(), kind))
    }

    /// Where an address (4 bytes or 16) is.
    pub fn mapping(&self, address: &[u8]) -> Option<Mapping> {
        self.mappings.get(&address.into())
    }
}

impl Names {
    /// Why a whole document that can be read is not taken, if so: it lacks too much of one kind to be meant. Hosts
    /// that nothing names may always be missing.
    fn judge(&self, held: &VpcRecord, limits: &Limits) -> Result<(), String> {
        let kinds = [
            ("mappings", self.mappings.gone().len(), held.mappings.len()),
            ("subnets", self.subnets.gone().len(), held.subnets.len()),
            ("route tables", self.route_tables.gone().len(), held.route_tables.len()),
            ("ACLs", self.acls.gone().len(), held.acls.len()),
            ("groups", self.groups.gone().len(), held.groups.len()),
        ];
        kinds.into_iter().try_for_each(|(kind, missing, total)| limits.judge(kind, missing, total))
    }
}
