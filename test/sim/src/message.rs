//! Every contract message that goes over a link, as one type: to hash it, and to say in a line what it says.

use contract::prost::Message as _;
use contract::{
    CellSummary, FromCell, FromHost, Generation, ToCell, ToHost, ZoneSummary, from_cell, from_host, to_cell,
    to_host,
};

/// A message on a link.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    ToCell(ToCell),
    FromCell(FromCell),
    ToHost(ToHost),
    FromHost(FromHost),
    CellSummary(CellSummary),
    ZoneSummary(ZoneSummary),
}

impl Message {
    /// Its bytes on the wire, appended.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let encoded = match self {
            Message::ToCell(message) => message.encode(out),
            Message::FromCell(message) => message.encode(out),
            Message::ToHost(message) => message.encode(out),
            Message::FromHost(message) => message.encode(out),
            Message::CellSummary(message) => message.encode(out),
            Message::ZoneSummary(message) => message.encode(out),
        };
        debug_assert!(encoded.is_ok(), "a vector grows");
    }

    /// In a line.
    pub(crate) fn describe(&self) -> String {
        match self {
            Message::ToCell(message) => format!("term {} {}", message.term, to_cell(message)),
            Message::FromCell(message) => from_cell(message),
            Message::ToHost(message) => format!("term {} {}", message.term, to_host(message)),
            Message::FromHost(message) => from_host(message),
            Message::CellSummary(summary) => {
                format!("summary: {} hosts, {} vCPU free", summary.hosts_healthy, summary.vcpus_free)
            }
            Message::ZoneSummary(summary) => format!("summary of {} cells", summary.cells.len()),
        }
    }
}

fn at(attempt: u32, generation: Option<Generation>) -> String {
    format!("(attempt {attempt}, generation {})", generation.unwrap_or_default().revision)
}

fn to_cell(message: &ToCell) -> String {
    match &message.message {
        Some(to_cell::Message::Intent(intent)) => {
            let instance = intent.spec.as_ref().map(|spec| spec.instance_id.as_str()).unwrap_or_default();
            let (target, at) = (intent.target().as_str_name(), at(intent.attempt, intent.generation));
            format!("intent {instance} {target} {at} pin `{}`", intent.host_id)
        }
        Some(to_cell::Message::Ack(ack)) => {
            let at = at(ack.attempt, ack.generation);
            format!("ack {} {} {at}", ack.instance_id, ack.phase().as_str_name())
        }
        other => format!("{other:?}"),
    }
}

fn from_cell(message: &FromCell) -> String {
    match &message.message {
        Some(from_cell::Message::Report(report)) => {
            let (phase, at) = (report.phase().as_str_name(), at(report.attempt, report.generation));
            let (host, cause) = (&report.host_id, report.stop_cause().as_str_name());
            format!("report {} {phase} {at} on `{host}` {cause} {}", report.instance_id, report.message)
        }
        other => format!("{other:?}"),
    }
}

fn to_host(message: &ToHost) -> String {
    match &message.message {
        Some(to_host::Message::Document(document)) => {
            let mut line = format!("document {}:", document.generation.unwrap_or_default().revision);
            for vm in &document.vms {
                let instance = vm.spec.as_ref().map(|spec| spec.instance_id.as_str()).unwrap_or_default();
                let (target, at) = (vm.target().as_str_name(), at(vm.attempt, vm.generation));
                line.push_str(&format!(" {instance} {target} {at}"));
            }
            line
        }
        other => format!("{other:?}"),
    }
}

fn from_host(message: &FromHost) -> String {
    match &message.message {
        Some(from_host::Message::Status(status)) => {
            let held = status.document_generation.unwrap_or_default().revision;
            let mut line = format!("status, holds {held}{}", status.document_held);
            for vm in &status.vms {
                let (phase, at) = (vm.phase().as_str_name(), at(vm.attempt, vm.generation));
                line.push_str(&format!(" {} {phase} {at} {}", vm.instance_id, vm.message));
            }
            for orphan in &status.orphans {
                line.push_str(&format!(" orphan {orphan}"));
            }
            line
        }
        other => format!("{other:?}"),
    }
}
