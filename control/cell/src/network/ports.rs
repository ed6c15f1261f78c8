//! The switches of the hosts: the ports that each shall have, which documents it holds, and what it is sent.
//!
//! The generation of a host's ports is (store incarnation, the leader's term and a count), as that of its VMs' document
//! is; that of a VPC's document is the region's. A switch that stays behind gets the whole.

use super::Vpc;
use crate::cell::{Cell, Effect, RESEND_AFTER, Subject};
use crate::host::document_first;
use base::clock::Timestamp;
use base::generation::Generation;
use base::ids::{HostId, NetworkInterfaceId, VpcId};
use bytes::Bytes;
use contract::{
    FromSwitch, PortAssignment, PortsDocument, SwitchHello, SwitchStatus, ToSwitch, from_switch, to_switch,
};
use metastore::table::Record;
use metastore::{Commit, CommitError, Op};
use std::collections::{BTreeMap, BTreeSet};

/// A port of a host.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Port {
    /// An interface of this VPC, as that says.
    Assigned(VpcId),
    /// It is to go; while its tombstone's end is being stored, it stays.
    Grave { assignment: Box<PortAssignment>, ending: bool },
}

/// All that the owner knows of one host's switch.
#[derive(Default)]
pub(crate) struct Switch {
    up: bool,
    ports: BTreeMap<NetworkInterfaceId, Port>,
    /// How many assigned ports it has in a VPC.
    vpcs: BTreeMap<VpcId, u32>,
    /// Of the ports that it shall hold.
    document: Generation,
    sent: Option<Generation>,
    held: Generation,
    /// Since when it is awaited that it holds what it was sent.
    awaited: Option<Timestamp>,
    vpcs_sent: BTreeMap<VpcId, Generation>,
    vpcs_held: BTreeMap<VpcId, Generation>,
    /// What it last complained of.
    complaint: (Vec<String>, Vec<String>),
}

impl Port {
    pub(super) fn grave(assignment: PortAssignment) -> Port {
        Port::Grave { assignment: Box::new(assignment), ending: false }
    }
}

impl Cell {
    /// The host's switch, as a new one if the cell does not know it.
    pub(super) fn switch_entry(&mut self, host: &HostId) -> &mut Switch {
        let document = document_first(self.incarnation, self.term);
        self.switches.entry(host.clone()).or_insert_with(|| Switch { document, ..Switch::default() })
    }

    /// Changes one port of a host and, with it, the index of the switches of each VPC.
    pub(super) fn port_set(&mut self, host: &HostId, interface: NetworkInterfaceId, port: Option<Port>) {
        let switch = self.switch_entry(host);
        let after = if let Some(Port::Assigned(vpc)) = &port { Some(*vpc) } else { None };
        let before = match port {
            Some(port) => switch.ports.insert(interface, port),
            None => switch.ports.remove(&interface),
        };
        if let Some(vpc) = after {
            *switch.vpcs.entry(vpc).or_default() += 1;
        }
        let mut left = None;
        if let Some(Port::Assigned(vpc)) = before
            && let Some(count) = switch.vpcs.get_mut(&vpc)
        {
            *count -= 1;
            if *count == 0 {
                switch.vpcs.remove(&vpc);
                switch.vpcs_sent.remove(&vpc);
                left = Some(vpc);
            }
        }
        if let Some(vpc) = after {
            self.vpc_switches.entry(vpc).or_default().insert(host.clone());
        }
        if let Some(vpc) = left
            && let Some(switches) = self.vpc_switches.get_mut(&vpc)
        {
            switches.remove(host);
            if switches.is_empty() {
                self.vpc_switches.remove(&vpc);
            }
        }
    }

    pub(crate) fn switch_up(&mut self, host: &HostId) {
        let switch = self.switch_entry(host);
        switch.up = true;
        // What it holds is said by its hello.
        (switch.sent, switch.held, switch.awaited) = (None, Generation::ZERO, None);
        switch.vpcs_sent.clear();
        switch.vpcs_held.clear();
    }

    pub(crate) fn switch_down(&mut self, host: &HostId) {
        if let Some(switch) = self.switches.get_mut(host) {
            switch.up = false;
        }
    }

    pub(crate) fn switch_message(
        &mut self,
        now: Timestamp,
        host: HostId,
        message: FromSwitch,
        out: &mut Vec<Effect>,
    ) {
        match message.message {
            Some(from_switch::Message::Hello(hello)) => self.switch_hello(now, host, hello, out),
            Some(from_switch::Message::Status(status)) => self.switch_status(&host, status, out),
            None => {
                tracing::warn!(%host, "a message of the switch is of a kind that this version does not know")
            }
        }
    }

    fn switch_hello(&mut self, now: Timestamp, host: HostId, hello: SwitchHello, out: &mut Vec<Effect>) {
        if hello.host_id != host.as_str() {
            return tracing::warn!(%host, claims = hello.host_id, "a switch speaks for another host");
        }
        self.host_underlay(&host, hello.address, hello.port, out);
        let held = hello.vpcs.iter().filter_map(|held| {
            Some((held.vpc_id.parse().ok()?, contract::convert::generation(held.generation)))
        });
        let held: BTreeMap<VpcId, Generation> = held.collect();
        let switch = self.switch_entry(&host);
        // A VPC's generation means one content; the ports' may be those of another life of the cell.
        switch.vpcs_sent.clone_from(&held);
        switch.vpcs_held = held;
        self.switch_send_due(now, &host, out);
    }

    fn switch_status(&mut self, host: &HostId, status: SwitchStatus, out: &mut Vec<Effect>) {
        let incarnation = self.incarnation;
        let Some(switch) = self.switches.get_mut(host) else { return };
        let held = contract::convert::generation(status.ports);
        switch.held = if held.incarnation > incarnation { Generation::ZERO } else { held };
        let vpcs = status.vpcs.iter().filter_map(|held| {
            Some((held.vpc_id.parse().ok()?, contract::convert::generation(held.generation)))
        });
        switch.vpcs_held = vpcs.collect();
        let complaint = (status.held, status.orphans);
        if complaint != switch.complaint {
            for why in &complaint.0 {
                tracing::warn!(%host, why, "a switch holds a document back");
            }
            if !complaint.1.is_empty() {
                tracing::warn!(%host, orphans = ?complaint.1, "ports are served that no document names");
            }
            switch.complaint = complaint;
        }
        let mut ended = Vec::new();
        for port in status.port_statuses.iter().filter(|port| port.removed) {
            let Ok(interface) = port.interface_id.parse::<NetworkInterfaceId>() else { continue };
            if let Some(Port::Grave { ending, assignment }) = switch.ports.get_mut(&interface)
                && !*ending
                && contract::convert::generation(port.generation)
                    >= contract::convert::generation(assignment.generation)
                && let Ok(vpc) = assignment.vpc_id.parse::<VpcId>()
                // Commits have no order: a tombstone ends and one is made, but not both at once. It is said again.
                && self.vpcs.get(&vpc).is_none_or(|vpc| vpc.storing.is_none())
            {
                *ending = true;
                *self.graves_ending.entry(vpc).or_default() += 1;
                ended.push(interface);
            }
        }
        for interface in ended {
            let key = super::PortGrave::key(&(host.clone(), interface));
            let commit = Commit { conditions: Vec::new(), ops: vec![Op::Delete(key)] };
            self.commit_whole(Subject::Grave(host.clone(), interface), commit, out);
        }
    }

    /// A tombstone's end is durable.
    pub(crate) fn grave_committed(
        &mut self,
        now: Timestamp,
        host: &HostId,
        interface: NetworkInterfaceId,
        result: Result<(), CommitError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(switch) = self.switches.get_mut(host) else { return };
        let Some(Port::Grave { ending, assignment }) = switch.ports.get_mut(&interface) else { return };
        *ending = false;
        let vpc = assignment.vpc_id.parse::<VpcId>().ok();
        if result.is_ok() {
            self.graves_stored.remove(&(host.clone(), interface));
            self.port_set(host, interface, None);
            self.ports_changed(now, host, &BTreeSet::from([interface]), out);
        }
        if let Some(vpc) = vpc
            && let Some(count) = self.graves_ending.get_mut(&vpc)
        {
            *count -= 1;
            if *count == 0 {
                self.graves_ending.remove(&vpc);
                self.vpc_next(vpc, out);
            }
        }
    }

    /// What the host's document says of a port; `None`: nothing.
    fn port_line(&self, interface: NetworkInterfaceId, port: &Port) -> Option<PortAssignment> {
        match port {
            Port::Assigned(vpc) => self.vpcs.get(vpc)?.interface(&interface.to_string())?.port.clone(),
            Port::Grave { assignment, .. } => Some((**assignment).clone()),
        }
    }

    /// The host's ports are others now: the switch is told what has changed.
    pub(super) fn ports_changed(
        &mut self,
        now: Timestamp,
        host: &HostId,
        interfaces: &BTreeSet<NetworkInterfaceId>,
        out: &mut Vec<Effect>,
    ) {
        let switch = self.switch_entry(host);
        let generation = Generation::new(switch.document.incarnation, switch.document.revision + 1);
        switch.document = generation;
        // Also a VPC that is new to the host, before its ports.
        self.vpcs_send_due(now, host, out);
        let Some(switch) = self.switches.get_mut(host) else { return };
        let Some(base) = switch.sent.filter(|_| switch.up) else { return };
        switch.sent = Some(generation);
        switch.awaited.get_or_insert(now);
        let Some(switch) = self.switches.get(host) else { return };
        let (mut ports, mut gone) = (Vec::new(), Vec::new());
        for interface in interfaces {
            match switch.ports.get(interface).and_then(|port| self.port_line(*interface, port)) {
                Some(line) => ports.push(line),
                None => gone.push(interface.to_string()),
            }
        }
        let document =
            PortsDocument { generation: Some(generation.into()), base: Some(base.into()), ports, gone };
        self.switch_send(host, to_switch::Message::Ports(document), out);
    }

    /// Sends a change to the switches that have a port in the VPC: as it is to those that hold its base.
    pub(super) fn vpc_send(
        &mut self,
        now: Timestamp,
        id: VpcId,
        base: Option<Generation>,
        news: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) {
        let Some(generation) = self.vpcs.get(&id).map(Vpc::generation) else { return };
        let mut whole = None;
        for host in self.vpc_switches.get(&id).into_iter().flatten() {
            let Some(switch) = self.switches.get_mut(host).filter(|switch| switch.up) else { continue };
            let sent = switch.vpcs_sent.get(&id).copied();
            let message = match &news {
                Some(news) if sent.is_some() && sent == base => Some(news.clone()),
                _ => {
                    let vpc = self.vpcs.get_mut(&id);
                    whole.get_or_insert_with(|| vpc.and_then(Vpc::whole)).clone()
                }
            };
            if let Some(message) = message {
                switch.vpcs_sent.insert(id, generation);
                switch.awaited.get_or_insert(now);
                let message = Some(to_switch::Message::Vpc(message));
                out.push(Effect::ToSwitch(host.clone(), ToSwitch { term: self.term.0, message }));
            }
        }
    }

    /// Sends the VPCs that the switch needs and was not sent.
    fn vpcs_send_due(&mut self, now: Timestamp, host: &HostId, out: &mut Vec<Effect>) {
        let Some(switch) = self.switches.get_mut(host).filter(|switch| switch.up) else { return };
        for id in switch.vpcs.keys() {
            let Some(vpc) = self.vpcs.get_mut(id) else { continue };
            let generation = vpc.generation();
            if switch.vpcs_sent.get(id) == Some(&generation) {
                continue;
            }
            if let Some(whole) = vpc.whole() {
                switch.vpcs_sent.insert(*id, generation);
                switch.awaited.get_or_insert(now);
                let message = Some(to_switch::Message::Vpc(whole));
                out.push(Effect::ToSwitch(host.clone(), ToSwitch { term: self.term.0, message }));
            }
        }
    }

    /// Everything that the switch lacks: its VPCs, then its ports, whole.
    fn switch_send_due(&mut self, now: Timestamp, host: &HostId, out: &mut Vec<Effect>) {
        self.vpcs_send_due(now, host, out);
        let Some(switch) = self.switches.get(host).filter(|switch| switch.up) else { return };
        let lines = switch.ports.iter().filter_map(|(interface, port)| self.port_line(*interface, port));
        let generation = switch.document;
        let document = PortsDocument {
            generation: Some(generation.into()),
            ports: lines.collect(),
            ..PortsDocument::default()
        };
        self.switch_send(host, to_switch::Message::Ports(document), out);
        if let Some(switch) = self.switches.get_mut(host) {
            switch.sent = Some(generation);
            switch.awaited = Some(now);
        }
    }

    fn switch_send(&self, host: &HostId, message: to_switch::Message, out: &mut Vec<Effect>) {
        let message = ToSwitch { term: self.term.0, message: Some(message) };
        out.push(Effect::ToSwitch(host.clone(), message));
    }

    /// Sends the whole to those who do not hold what they were sent although they had time to.
    pub(crate) fn switches_resend(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let mut due = Vec::new();
        for (host, switch) in &mut self.switches {
            // Before its hello nothing was sent, and nothing is awaited.
            if !switch.up || switch.sent.is_none() {
                continue;
            }
            let lags = |id: &VpcId| switch.vpcs_held.get(id) != switch.vpcs_sent.get(id);
            if switch.held >= switch.document && !switch.vpcs.keys().any(lags) {
                switch.awaited = None;
            } else if switch.awaited.is_none_or(|since| now.since(since) >= RESEND_AFTER) {
                switch.vpcs_sent.clone_from(&switch.vpcs_held);
                due.push(host.clone());
            }
        }
        for host in due {
            self.switch_send_due(now, &host, out);
        }
    }
}
