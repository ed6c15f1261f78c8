//! Takes in what documents say, and compiles again what it concerns.
//!
//! After a change each port of the VPC is bound again to the compiled pieces that it rests on; only where one of them
//! is another than before, its version rises. A mapping raises its own version when it is another than before.
//!
//! ```text
//!   host ─► mappings there, route tables with that edge
//!   prefix list ─► groups and route tables that name it
//!   group ─► sets of rules that contain it ─┐
//!   route table, ACL, subnet ───────────────┴─► ports
//! ```

use super::acl::Acl;
use super::classifier::{Classifier, Peer, Rule};
use super::mapping::Mapping;
use super::prefix::{Prefix, address_read};
use super::route::{Route, RouteTable, Target};
use super::traffic::Traffic;
use super::vpc::{Group, Subnet, SubnetPlaces, Vpc};
use super::{Bound, Port, VpcPolicy};
use crate::document::Act;
use crate::engine::verdict::PortIndex;
use crate::packet::Mac;
use base::ids::{NetworkInterfaceId, VpcId};
use contract::group_rule::Peer as StoredPeer;
use contract::{GroupRule, PortAssignment, VpcDocument};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The compiled rules of one set of groups of a VPC.
#[derive(Debug)]
pub(super) struct RuleSet {
    vpc: u32,
    set: u32,
    /// How many had been built when it was.
    stamp: u64,
    /// Ports that have this set.
    ports: u32,
    pub(super) ingress: Classifier,
    pub(super) egress: Classifier,
}

/// What a change concerns beyond what it says.
#[derive(Default)]
struct Touched {
    /// Interned groups with other rules than before.
    groups: BTreeSet<u32>,
    lists: BTreeSet<u32>,
    hosts: BTreeSet<u64>,
    cidrs: bool,
    /// A port may be bound to something else.
    ports: bool,
}

impl VpcPolicy {
    /// Takes in what a document has changed.
    pub fn act(&mut self, act: &Act) {
        match act {
            // One that cannot be read has no port, and passes nothing.
            Act::Port(assignment) => {
                self.port_set(assignment);
            }
            Act::PortRemove(interface) => self.port_remove(*interface),
            Act::Vpc(change) => self.vpc_apply(change),
            Act::VpcDrop(id) => self.vpc_remove(*id),
        }
    }

    /// Takes in a change of a VPC's document, or a whole one of a VPC that is unknown here. What cannot be read is left
    /// out, so that it allows nothing; [`crate::document`] refuses such documents before.
    pub fn vpc_apply(&mut self, change: &VpcDocument) {
        let Ok(id) = change.vpc_id.parse::<VpcId>() else { return };
        let at = self.vpc_ensure(id);
        // Taken out, so that what is shared by all VPCs can be changed beside it.
        let Some(mut vpc) = self.vpcs.get_mut(at as usize).and_then(Option::take) else { return };
        let mut touched = Touched { ports: !vpc.known, ..Touched::default() };
        self.head_apply(at, &mut vpc, change, &mut touched);
        self.hosts_apply(&mut vpc, change, &mut touched);
        for number in &change.gone_prefix_lists {
            vpc.lists.remove(number);
            touched.lists.insert(*number);
        }
        for list in &change.prefix_lists {
            if vpc.lists.get(&list.number) != Some(list) {
                vpc.lists.insert(list.number, list.clone());
                touched.lists.insert(list.number);
            }
        }
        self.groups_apply(&mut vpc, change, &mut touched);
        tables_apply(&mut vpc, change, &mut touched);
        acls_apply(&mut vpc, change, &mut touched);
        self.subnets_apply(&mut vpc, change, &mut touched);
        self.mappings_apply(&mut vpc, change);
        if let Some(slot) = self.vpcs.get_mut(at as usize) {
            *slot = Some(vpc);
        }
        self.rule_sets_build_again(at, &touched);
        if touched.ports || !touched.groups.is_empty() {
            self.ports_bind(at);
        }
    }

    /// Forgets a VPC's document. Ports that it still has pass nothing.
    pub fn vpc_remove(&mut self, id: VpcId) {
        let Some(at) = self.vpc_by_id.get(&id).copied() else { return };
        let Some(Some(vpc)) = self.vpcs.get_mut(at as usize) else { return };
        let local = std::mem::replace(vpc, Vpc::new(id, self.seed));
        vpc.ports = local.ports.clone();
        vpc.local = local.local.clone();
        for (_, mapping) in local.mappings.iter() {
            self.mapping_release(mapping);
        }
        local.groups.values().for_each(|group| self.groups.group_release(group.index));
        self.vpc_by_vni.retain(|_, vpc| *vpc != at);
        let groups = local.groups.values().map(|group| group.index).collect();
        self.rule_sets_build_again(at, &Touched { groups, ..Touched::default() });
        self.ports_bind(at);
        self.vpc_release(at);
    }

    /// Takes in what a port is: a new one, or another than before. `None` if it cannot be read.
    pub fn port_set(&mut self, assignment: &PortAssignment) -> Option<PortIndex> {
        let interface: NetworkInterfaceId = assignment.interface_id.parse().ok()?;
        let vpc_id: VpcId = assignment.vpc_id.parse().ok()?;
        let mac = Mac(*assignment.mac.first_chunk::<6>()?);
        let addresses: Vec<IpAddr> =
            assignment.addresses.iter().filter_map(|bytes| address_read(bytes)).collect();
        let held = self.port_by_interface.get(&interface).copied();
        let elsewhere = held
            .and_then(|index| self.port(index))
            .filter(|port| self.vpc(port.vpc).is_none_or(|vpc| vpc.id != vpc_id));
        if elsewhere.is_some() {
            self.port_remove(interface);
        }
        let vpc = self.vpc_ensure(vpc_id);
        let mut members = Vec::new();
        for id in assignment.group_ids.iter().filter_map(|id| id.parse().ok()) {
            members.push(self.groups.group_take(id));
        }
        let set = self.set_take(members.clone());
        members.into_iter().for_each(|group| self.groups.group_release(group));
        let index = self
            .port_by_interface
            .get(&interface)
            .copied()
            .unwrap_or_else(|| self.port_index_take(interface));
        let port = Port {
            interface,
            vpc,
            subnet_id: assignment.subnet_id.clone(),
            mac,
            addresses,
            check_source: assignment.check_source,
            set,
            bound: None,
        };
        // Held before the old one is let go, so that a set of rules that stays is not built again.
        self.rule_set_hold(vpc, set);
        let before = self.ports.get_mut(index.0 as usize).and_then(|slot| slot.replace(port));
        let unchanged = |before: &Port, port: &Port| {
            (before.mac, &before.addresses, before.check_source, &before.subnet_id, before.set)
                == (port.mac, &port.addresses, port.check_source, &port.subnet_id, port.set)
        };
        let same =
            before.as_ref().zip(self.port(index)).is_some_and(|(before, port)| unchanged(before, port));
        if let Some(before) = before {
            if !same {
                self.addresses_release(index, &before);
            }
            self.port_release(&before);
            if let Some(Some(port)) = self.ports.get_mut(index.0 as usize) {
                port.bound = before.bound;
            }
        }
        if !same {
            self.port_bump(index);
            self.addresses_take(index);
        }
        self.port_bind(index);
        Some(index)
    }

    /// Forgets a port.
    pub fn port_remove(&mut self, interface: NetworkInterfaceId) {
        let Some(index) = self.port_by_interface.remove(&interface) else { return };
        let Some(port) = self.ports.get_mut(index.0 as usize).and_then(Option::take) else { return };
        self.addresses_release(index, &port);
        self.port_release(&port);
        self.port_bump(index);
        self.ports_free.push(index);
        if let Some(Some(vpc)) = self.vpcs.get_mut(port.vpc as usize) {
            vpc.ports.remove(&index);
        }
        self.vpc_release(port.vpc);
    }

    fn port_index_take(&mut self, interface: NetworkInterfaceId) -> PortIndex {
        let index = self.ports_free.pop().unwrap_or_else(|| {
            self.ports.push(None);
            self.port_versions.push(0);
            PortIndex(self.ports.len() as u32 - 1)
        });
        self.port_by_interface.insert(interface, index);
        index
    }

    fn port_bump(&mut self, index: PortIndex) {
        if let Some(version) = self.port_versions.get_mut(index.0 as usize) {
            *version = version.wrapping_add(1);
        }
    }

    /// What a port held.
    fn port_release(&mut self, port: &Port) {
        self.rule_set_release(port.vpc, port.set);
        self.set_release(port.set);
    }

    fn addresses_take(&mut self, index: PortIndex) {
        let Some(Some(port)) = self.ports.get(index.0 as usize) else { return };
        let Some(Some(vpc)) = self.vpcs.get_mut(port.vpc as usize) else { return };
        vpc.ports.insert(index);
        for address in &port.addresses {
            vpc.local.insert(*address, index);
            if let Some(mapping) = vpc.mappings.get(*address) {
                self.mapping_versions.bump(mapping.slot);
            }
        }
    }

    fn addresses_release(&mut self, index: PortIndex, port: &Port) {
        let Some(Some(vpc)) = self.vpcs.get_mut(port.vpc as usize) else { return };
        for address in &port.addresses {
            if vpc.local.get(*address) == Some(&index) {
                vpc.local.remove(*address);
            }
            if let Some(mapping) = vpc.mappings.get(*address) {
                self.mapping_versions.bump(mapping.slot);
            }
        }
    }

    fn vpc_ensure(&mut self, id: VpcId) -> u32 {
        if let Some(at) = self.vpc_by_id.get(&id) {
            return *at;
        }
        let at = self.vpcs.iter().position(Option::is_none).unwrap_or_else(|| {
            self.vpcs.push(None);
            self.vpcs.len() - 1
        });
        if let Some(slot) = self.vpcs.get_mut(at) {
            *slot = Some(Vpc::new(id, self.seed));
        }
        self.vpc_by_id.insert(id, at as u32);
        at as u32
    }

    /// Forgets a VPC without document and ports.
    fn vpc_release(&mut self, at: u32) {
        if let Some(slot) = self.vpcs.get_mut(at as usize)
            && let Some(vpc) = slot.take_if(|vpc| !vpc.known && vpc.ports.is_empty())
        {
            self.vpc_by_id.remove(&vpc.id);
        }
    }

    fn head_apply(&mut self, at: u32, vpc: &mut Vpc, change: &VpcDocument, touched: &mut Touched) {
        if (!vpc.known || change.vpc_changed) && !change.cidrs.is_empty() {
            let cidrs: Vec<Prefix> = change.cidrs.iter().filter_map(Prefix::read).collect();
            touched.cidrs = cidrs != vpc.cidrs;
            vpc.cidrs = cidrs;
        }
        if change.vni != 0 && change.vni != vpc.vni {
            self.vpc_by_vni.retain(|_, vpc| *vpc != at);
            self.vpc_by_vni.insert(change.vni, at);
            vpc.vni = change.vni;
            for (_, mapping) in vpc.mappings.iter() {
                self.mapping_versions.bump(mapping.slot);
            }
            vpc.ports.iter().for_each(|port| self.port_bump(*port));
        }
        vpc.known = true;
    }

    fn hosts_apply(&mut self, vpc: &mut Vpc, change: &VpcDocument, touched: &mut Touched) {
        let mut slots = BTreeSet::new();
        for number in &change.gone_hosts {
            slots.extend(vpc.hosts.remove(*number));
            touched.hosts.insert(*number);
        }
        for host in &change.hosts {
            let Some((address, port)) = address_read(&host.address).zip(u16::try_from(host.port).ok()) else {
                continue;
            };
            if let Some(slot) = vpc.hosts.set(host.number, SocketAddr::new(address, port)) {
                slots.insert(slot);
                touched.hosts.insert(host.number);
            }
        }
        if slots.is_empty() {
            return;
        }
        for (_, mapping) in vpc.mappings.iter().filter(|(_, mapping)| slots.contains(&mapping.host)) {
            self.mapping_versions.bump(mapping.slot);
        }
    }

    fn groups_apply(&mut self, vpc: &mut Vpc, change: &VpcDocument, touched: &mut Touched) {
        let mut numbers = BTreeSet::new();
        for number in &change.gone_groups {
            if let Some(group) = vpc.groups.remove(number) {
                vpc.group_numbers.remove(&group.index);
                touched.groups.insert(group.index);
                numbers.insert(*number);
                self.groups.group_release(group.index);
            }
        }
        for stored in &change.groups {
            let held = vpc.groups.get(&stored.number);
            if held.is_some_and(|held| held.stored == *stored) {
                continue;
            }
            let Ok(id) = stored.group_id.parse() else { continue };
            let index = self.groups.group_take(id);
            touched.groups.insert(index);
            let group = Group { index, stored: stored.clone() };
            if let Some(before) = vpc.groups.insert(stored.number, group) {
                if before.index != index {
                    vpc.group_numbers.remove(&before.index);
                    touched.groups.insert(before.index);
                    numbers.insert(stored.number);
                }
                self.groups.group_release(before.index);
            } else {
                numbers.insert(stored.number);
            }
            vpc.group_numbers.insert(index, stored.number);
        }
        if numbers.is_empty() && touched.lists.is_empty() {
            return;
        }
        let concerns = |rule: &GroupRule| match &rule.peer {
            Some(StoredPeer::Group(number)) => numbers.contains(number),
            Some(StoredPeer::PrefixList(number)) => touched.lists.contains(number),
            Some(StoredPeer::Prefix(_)) | None => false,
        };
        let concerned = vpc
            .groups
            .values()
            .filter(|group| group.stored.ingress.iter().chain(&group.stored.egress).any(concerns));
        let concerned: Vec<u32> = concerned.map(|group| group.index).collect();
        touched.groups.extend(concerned);
    }

    fn subnets_apply(&mut self, vpc: &mut Vpc, change: &VpcDocument, touched: &mut Touched) {
        let mut changed = false;
        for id in &change.gone_subnets {
            changed |= vpc.subnets.remove(id).is_some();
        }
        for stored in &change.subnets {
            if vpc.subnets.get(&stored.subnet_id).is_none_or(|held| held.stored != *stored) {
                vpc.subnets.insert(stored.subnet_id.clone(), Subnet::build(stored.clone()));
                changed = true;
            }
        }
        if !changed {
            return;
        }
        touched.ports = true;
        let places = SubnetPlaces::build(vpc.subnets.values());
        if places != vpc.places {
            for (address, mapping) in vpc.mappings.iter() {
                if places.router(address) != vpc.places.router(address) {
                    self.mapping_versions.bump(mapping.slot);
                }
            }
            vpc.places = places;
        }
    }

    fn mappings_apply(&mut self, vpc: &mut Vpc, change: &VpcDocument) {
        for address in change.gone_mappings.iter().filter_map(|bytes| address_read(bytes)) {
            if let Some(mapping) = vpc.mappings.remove(address) {
                self.mapping_release(&mapping);
                self.redirected_bump(vpc, address);
            }
        }
        for stored in &change.mappings {
            let (Some(address), Some(mac)) = (address_read(&stored.address), stored.mac.first_chunk::<6>())
            else {
                continue;
            };
            let groups = stored.groups.iter().filter_map(|number| vpc.groups.get(number));
            let set = self.set_take(groups.map(|group| group.index).collect());
            let host = vpc.hosts.slot(stored.host);
            let held = vpc.mappings.get(address).copied();
            let slot = held.map_or_else(|| self.mapping_versions.take(), |held| held.slot);
            let mapping = Mapping { mac: Mac(*mac), host, set, slot };
            if held == Some(mapping) {
                self.set_release(set);
                continue;
            }
            vpc.mappings.insert(address, mapping);
            if let Some(held) = held {
                self.mapping_versions.bump(slot);
                self.set_release(held.set);
            }
            if held.is_none_or(|held| (held.set, held.mac) != (set, mapping.mac)) {
                self.redirected_bump(vpc, address);
            }
        }
    }

    fn mapping_release(&mut self, mapping: &Mapping) {
        self.mapping_versions.release(mapping.slot);
        self.set_release(mapping.set);
    }

    /// A flow to or from an address that routes lead elsewhere than to its interface (to an appliance, to an edge)
    /// rests on that interface, too, if there is one: for its groups. An answer has no place for a second mapping, so
    /// such an address raises the versions of the ports that see it so.
    fn redirected_bump(&mut self, vpc: &Vpc, address: IpAddr) {
        let inside = vpc.cidrs.iter().any(|cidr| cidr.contains(address));
        let redirects = |table: &RouteTable| {
            (!inside || table.overrides)
                && !matches!(
                    table.lookup(address),
                    Some(Route { target: Target::Local | Target::Peer(_), .. })
                )
        };
        for index in &vpc.ports {
            let bound = self.port(*index).and_then(|port| port.bound.as_ref());
            if bound.and_then(|bound| bound.table.as_deref()).is_some_and(redirects) {
                self.port_bump(*index);
            }
        }
    }

    /// A set's number, and all rules that refer to one of its groups know it.
    fn set_take(&mut self, members: Vec<u32>) -> u32 {
        let (set, new) = self.groups.set_take(members);
        if new {
            let members = self.groups.members(set);
            for rules in self.rule_sets.iter_mut().flatten() {
                rules.ingress.set_add(set, members);
                rules.egress.set_add(set, members);
            }
        }
        set
    }

    fn set_release(&mut self, set: u32) {
        if self.groups.set_release(set) {
            for rules in self.rule_sets.iter_mut().flatten() {
                rules.ingress.set_remove(set);
                rules.egress.set_remove(set);
            }
        }
    }

    fn rule_set_hold(&mut self, vpc: u32, set: u32) {
        let at = match self.rule_set_by_key.get(&(vpc, set)) {
            Some(at) => *at,
            None => {
                let rules = self.rule_set_build(vpc, set);
                let at = self.rule_sets.iter().position(Option::is_none).unwrap_or_else(|| {
                    self.rule_sets.push(None);
                    self.rule_sets.len() - 1
                });
                if let Some(slot) = self.rule_sets.get_mut(at) {
                    *slot = Some(rules);
                }
                self.rule_set_by_key.insert((vpc, set), at as u32);
                at as u32
            }
        };
        if let Some(Some(rules)) = self.rule_sets.get_mut(at as usize) {
            rules.ports += 1;
        }
    }

    fn rule_set_release(&mut self, vpc: u32, set: u32) {
        let Some(at) = self.rule_set_by_key.get(&(vpc, set)).copied() else { return };
        let Some(slot) = self.rule_sets.get_mut(at as usize) else { return };
        if let Some(rules) = slot {
            rules.ports -= 1;
        }
        if slot.take_if(|rules| rules.ports == 0).is_some() {
            self.rule_set_by_key.remove(&(vpc, set));
        }
    }

    fn rule_set_build(&mut self, at: u32, set: u32) -> RuleSet {
        let (mut ingress, mut egress) = (Vec::new(), Vec::new());
        if let Some(vpc) = self.vpc(at) {
            // By id, so that of several rules that allow something the same one is named whatever came first.
            let mut members = self.groups.members(set).to_vec();
            members.sort_unstable_by_key(|group| self.groups.group(*group));
            for index in &members {
                let number = vpc.group_numbers.get(index);
                let Some(group) = number.and_then(|number| vpc.groups.get(number)) else { continue };
                ingress.extend(group.stored.ingress.iter().filter_map(|rule| rule_read(vpc, *index, rule)));
                egress.extend(group.stored.egress.iter().filter_map(|rule| rule_read(vpc, *index, rule)));
            }
        }
        let (mut ingress, mut egress) = (Classifier::build(ingress), Classifier::build(egress));
        for (number, members) in self.groups.sets() {
            ingress.set_add(number, members);
            egress.set_add(number, members);
        }
        self.rule_sets_built += 1;
        RuleSet { vpc: at, set, stamp: self.rule_sets_built, ports: 0, ingress, egress }
    }

    /// Builds again what contains a group that is another than before. A group whose rules refer to one that came or
    /// went is such a group, too; what happens to the rules of a group that others refer to is nothing to them.
    fn rule_sets_build_again(&mut self, vpc: u32, touched: &Touched) {
        if touched.groups.is_empty() {
            return;
        }
        for at in 0..self.rule_sets.len() {
            let Some(Some(RuleSet { vpc: of, set, ports, .. })) = self.rule_sets.get(at) else { continue };
            let (of, set, ports) = (*of, *set, *ports);
            if of == vpc && self.groups.members(set).iter().any(|group| touched.groups.contains(group)) {
                let built = self.rule_set_build(vpc, set);
                if let Some(slot) = self.rule_sets.get_mut(at) {
                    *slot = Some(RuleSet { ports, ..built });
                }
            }
        }
    }

    fn ports_bind(&mut self, vpc: u32) {
        let ports: Vec<PortIndex> =
            self.vpc(vpc).map(|vpc| vpc.ports.iter().copied().collect()).unwrap_or_default();
        ports.into_iter().for_each(|port| self.port_bind(port));
    }

    /// Binds a port to what there is now; its version rises if that is something else than before.
    fn port_bind(&mut self, index: PortIndex) {
        let Some(port) = self.port(index) else { return };
        let bound = self.vpc(port.vpc).filter(|vpc| vpc.known).and_then(|vpc| {
            let at = *self.rule_set_by_key.get(&(port.vpc, port.set))?;
            let rules = self.rule_sets.get(at as usize)?.as_ref()?;
            let subnet = vpc.subnets.get(&port.subnet_id)?;
            Some(Bound {
                prefixes: subnet.prefixes.clone(),
                router: subnet.router,
                table: vpc.tables.get(&subnet.stored.route_table_id).cloned(),
                acl: vpc.acls.get(&subnet.stored.acl_id).cloned(),
                rules: (at, rules.stamp),
            })
        });
        let same = match (&port.bound, &bound) {
            (Some(before), Some(bound)) => before.is(bound),
            (None, None) => true,
            _ => false,
        };
        if let (false, Some(Some(port))) = (same, self.ports.get_mut(index.0 as usize)) {
            port.bound = bound;
            self.port_bump(index);
        }
    }
}

impl Bound {
    fn is(&self, other: &Bound) -> bool {
        fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
            match (a, b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            }
        }
        (&self.prefixes, self.router, self.rules) == (&other.prefixes, other.router, other.rules)
            && same(self.table.as_ref(), other.table.as_ref())
            && same(self.acl.as_ref(), other.acl.as_ref())
    }
}

fn tables_apply(vpc: &mut Vpc, change: &VpcDocument, touched: &mut Touched) {
    let mut changed = false;
    for id in &change.gone_route_tables {
        changed |= vpc.tables.remove(id).is_some();
    }
    let mut stored = change.route_tables.clone();
    stored.retain(|stored| vpc.tables.get(&stored.route_table_id).is_none_or(|held| held.stored != *stored));
    let concerned = vpc.tables.values().filter(|table| {
        touched.cidrs
            || touched.lists.iter().any(|list| table.refers_to_list(*list))
            || touched.hosts.iter().any(|host| table.refers_to_host(*host))
    });
    // Those that the change itself names come after, and count.
    let concerned: Vec<_> = concerned.map(|table| table.stored.clone()).collect();
    for stored in concerned.into_iter().chain(stored) {
        let id = stored.route_table_id.clone();
        let table = RouteTable::build(stored, &vpc.cidrs, &vpc.lists, |number| vpc.hosts.by_number(number));
        vpc.tables.insert(id, Arc::new(table));
        changed = true;
    }
    if changed {
        vpc.targets_gather();
        touched.ports = true;
    }
}

fn acls_apply(vpc: &mut Vpc, change: &VpcDocument, touched: &mut Touched) {
    for id in &change.gone_acls {
        touched.ports |= vpc.acls.remove(id).is_some();
    }
    for stored in &change.acls {
        if vpc.acls.get(&stored.acl_id).is_none_or(|held| held.stored != *stored) {
            vpc.acls.insert(stored.acl_id.clone(), Arc::new(Acl::build(stored.clone())));
            touched.ports = true;
        }
    }
}

fn rule_read(vpc: &Vpc, group: u32, stored: &GroupRule) -> Option<Rule> {
    let peer = match stored.peer.as_ref()? {
        StoredPeer::Prefix(prefix) => Peer::Prefixes(Arc::new([Prefix::read(prefix)?])),
        StoredPeer::Group(number) => Peer::Group(vpc.groups.get(number)?.index),
        StoredPeer::PrefixList(number) => {
            Peer::Prefixes(vpc.lists.get(number)?.prefixes.iter().filter_map(Prefix::read).collect())
        }
    };
    let traffic = Traffic::read(stored.traffic.as_ref()?)?;
    Some(Rule { id: stored.rule_id.as_str().into(), group, traffic, peer })
}
