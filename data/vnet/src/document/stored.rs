//! What a frame of a document's file holds. Field numbers are for ever: a field that goes leaves its number unused.

use super::ports::PortsRecord;
use super::vpc::VpcRecord;
use super::{DocumentName, Limits};
use base::generation::Term;
use contract::{PortAssignment, PortsDocument, VpcDocument};
use prost::Message;

/// The payload of a frame.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Frame {
    /// Each a [`Stored`]: the first frame holds one, further ones the changes that were written together.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) stored: Vec<Vec<u8>>,
}

/// A whole document, or a change.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Stored {
    /// The highest term seen when it was written.
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    /// In the ports' file: the whole document, then changes.
    #[prost(message, optional, tag = "2")]
    pub(super) ports: Option<PortsDocument>,
    /// Beside a whole document: ports that go on without it.
    #[prost(message, repeated, tag = "3")]
    pub(super) orphans: Vec<PortAssignment>,
    /// In a VPC's file: the whole document, then changes.
    #[prost(message, optional, tag = "4")]
    pub(super) vpc: Option<VpcDocument>,
}

/// A record that frames are made to, one after the other.
#[derive(Debug)]
pub(super) enum Record {
    Ports(PortsRecord),
    Vpc(Box<VpcRecord>),
}

impl Record {
    /// Takes in the first frame.
    pub(super) fn begin(name: DocumentName, stored: Stored) -> Result<Record, String> {
        match name {
            DocumentName::Ports => {
                let document = stored.ports.unwrap_or_default();
                PortsRecord::restore(document, stored.orphans).map(Record::Ports)
            }
            DocumentName::Vpc(id) => {
                let document =
                    stored.vpc.filter(|vpc| vpc.base.is_none()).ok_or("it holds no whole document")?;
                if document.vpc_id != id.to_string() {
                    return Err(format!("it is of {}", document.vpc_id));
                }
                let mut record = VpcRecord::default();
                let read = record.read(document, &Limits::none());
                record.apply(&read.map_err(|refusal| refusal.to_string())?);
                Ok(Record::Vpc(Box::new(record)))
            }
        }
    }

    /// Takes in a further frame.
    pub(super) fn go_on(&mut self, stored: Stored) -> Result<(), String> {
        match (self, stored.ports, stored.vpc) {
            (Record::Ports(record), Some(document), None) => {
                let generation = contract::convert::generation(document.generation);
                if document.base.map(Into::into) != Some(record.generation) {
                    return Err(format!("it changes a generation other than {}", record.generation));
                }
                let change = record.read(document, &Limits::none()).map_err(|refusal| refusal.to_string())?;
                record.apply(generation, change);
                Ok(())
            }
            (Record::Vpc(record), None, Some(document)) => {
                if document.base.map(Into::into) != Some(record.generation) {
                    return Err(format!("it changes a generation other than {}", record.generation));
                }
                let change = record.read(document, &Limits::none()).map_err(|refusal| refusal.to_string())?;
                record.apply(&change);
                Ok(())
            }
            // A term alone.
            (Record::Ports(_), None, None) => Ok(()),
            _ => Err(String::from("it is of another document")),
        }
    }

    /// All of it, for a first frame.
    pub(super) fn whole(&self, name: DocumentName, term: Term) -> Stored {
        match (self, name) {
            (Record::Ports(record), _) => ports_whole(record, term),
            (Record::Vpc(record), DocumentName::Vpc(id)) => {
                Stored { term: term.0, vpc: Some(record.whole(id)), ..Stored::default() }
            }
            (Record::Vpc(_), DocumentName::Ports) => Stored::default(),
        }
    }
}

pub(super) fn ports_whole(record: &PortsRecord, term: Term) -> Stored {
    let (ports, orphans) = record.whole();
    Stored { term: term.0, ports: Some(ports), orphans, vpc: None }
}
