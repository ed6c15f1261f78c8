//! What the cell stores of a VPC: its head, a record for each of its parts, and the tombstones of ports.
//!
//! ```text
//!   cell/vpc/VPC/head                 generation, VNI, prefixes, options; whether the rest is whole
//!   cell/vpc/VPC/KIND/ID              a subnet, a route table, an ACL, a group, a prefix list, names, an interface
//!   cell/port/HOST/ENI                the switch of the host is to remove this port
//! ```
//!
//! A part is stored as the region said it, so that a change of one group writes one group.

use base::ids::{HostId, IdError, NetworkInterfaceId, VpcId};
use contract::{
    DnsRecord, InterfacePublication, NetworkAcl, PortAssignment, PrefixList, RouteTable, SecurityGroup,
    Subnet, VpcDocument,
};
use metastore::Key;
use metastore::table::Record;
use prost::Message;

/// Of all records of VPCs.
pub(crate) const VPC_PREFIX: &str = "cell/vpc/";
/// Of the tombstones of ports.
pub(crate) const PORT_PREFIX: &str = "cell/port/";

/// A stored record that is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Not a record's bytes.
    #[error("the record's bytes are damaged")]
    Damaged(#[from] prost::DecodeError),
    /// An id that is none.
    #[error("the record's key names something impossible")]
    Id(#[from] IdError),
    /// Of a newer version, or no key of these at all.
    #[error("the record's key has no form that this version knows")]
    Key,
}

/// Field numbers are for ever.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Head {
    /// The VPC's document with no parts: its generation is that of the last publication that is durable whole.
    #[prost(message, optional, tag = "1")]
    pub(crate) document: Option<VpcDocument>,
    /// Whose it is.
    #[prost(string, tag = "2")]
    pub(crate) account_id: String,
    /// A publication was too large for one commit, and not all of its commits are there: the parts are a mixture.
    #[prost(bool, tag = "3")]
    pub(crate) partial: bool,
}

/// What tells a VPC's parts apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PartId {
    Subnet(String),
    RouteTable(String),
    Acl(String),
    Group(u32),
    PrefixList(u32),
    Dns(String, u32),
    Interface(String),
}

/// A part of a VPC.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Subnet(Subnet),
    RouteTable(RouteTable),
    Acl(NetworkAcl),
    Group(SecurityGroup),
    PrefixList(PrefixList),
    Dns(DnsRecord),
    Interface(Box<InterfacePublication>),
}

impl PartId {
    fn path(&self) -> String {
        match self {
            PartId::Subnet(id) => format!("subnet/{id}"),
            PartId::RouteTable(id) => format!("route-table/{id}"),
            PartId::Acl(id) => format!("acl/{id}"),
            PartId::Group(number) => format!("group/{number}"),
            PartId::PrefixList(number) => format!("prefix-list/{number}"),
            PartId::Dns(name, kind) => format!("dns/{kind}/{name}"),
            PartId::Interface(id) => format!("interface/{id}"),
        }
    }

    /// The key of the part.
    pub(crate) fn key(&self, vpc: VpcId) -> Key {
        format!("{VPC_PREFIX}{vpc}/{}", self.path()).into_bytes()
    }
}

impl Part {
    pub(crate) fn id(&self) -> PartId {
        match self {
            Part::Subnet(part) => PartId::Subnet(part.subnet_id.clone()),
            Part::RouteTable(part) => PartId::RouteTable(part.route_table_id.clone()),
            Part::Acl(part) => PartId::Acl(part.acl_id.clone()),
            Part::Group(part) => PartId::Group(part.number),
            Part::PrefixList(part) => PartId::PrefixList(part.number),
            Part::Dns(part) => PartId::Dns(part.name.clone(), part.r#type),
            Part::Interface(part) => PartId::Interface(interface_id(part).to_owned()),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Part::Subnet(part) => part.encode_to_vec(),
            Part::RouteTable(part) => part.encode_to_vec(),
            Part::Acl(part) => part.encode_to_vec(),
            Part::Group(part) => part.encode_to_vec(),
            Part::PrefixList(part) => part.encode_to_vec(),
            Part::Dns(part) => part.encode_to_vec(),
            Part::Interface(part) => part.encode_to_vec(),
        }
    }
}

/// The `eni-...` of a published interface; empty if it has none.
pub(crate) fn interface_id(interface: &InterfacePublication) -> &str {
    interface.port.as_ref().map_or("", |port| &port.interface_id)
}

/// The key of a VPC's head.
pub(crate) fn head_key(vpc: VpcId) -> Key {
    format!("{VPC_PREFIX}{vpc}/head").into_bytes()
}

/// What a stored key and its value are.
pub(crate) enum Stored {
    Head(VpcId, Box<Head>),
    Part(VpcId, Part),
}

/// Reads a record below [`VPC_PREFIX`].
pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Stored, RecordError> {
    let text = std::str::from_utf8(key).map_err(|_| RecordError::Key)?;
    let (vpc, path) =
        text.strip_prefix(VPC_PREFIX).and_then(|rest| rest.split_once('/')).ok_or(RecordError::Key)?;
    let vpc: VpcId = vpc.parse()?;
    let part = match path.split_once('/').map_or(path, |(kind, _)| kind) {
        "head" => return Ok(Stored::Head(vpc, Box::new(Head::decode(value)?))),
        "subnet" => Part::Subnet(Subnet::decode(value)?),
        "route-table" => Part::RouteTable(RouteTable::decode(value)?),
        "acl" => Part::Acl(NetworkAcl::decode(value)?),
        "group" => Part::Group(SecurityGroup::decode(value)?),
        "prefix-list" => Part::PrefixList(PrefixList::decode(value)?),
        "dns" => Part::Dns(DnsRecord::decode(value)?),
        "interface" => Part::Interface(Box::new(InterfacePublication::decode(value)?)),
        _ => return Err(RecordError::Key),
    };
    match part.id().key(vpc) == key {
        true => Ok(Stored::Part(vpc, part)),
        false => Err(RecordError::Key),
    }
}

/// The tombstone of a port: the switch of this host is to remove it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PortGrave(pub(crate) PortAssignment);

impl Record for PortGrave {
    const PREFIX: &'static str = PORT_PREFIX;
    type Id = (HostId, NetworkInterfaceId);

    fn key((host, interface): &Self::Id) -> Key {
        format!("{PORT_PREFIX}{host}/{interface}").into_bytes()
    }

    fn id(key: &[u8]) -> Result<Self::Id, String> {
        let rest = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(PORT_PREFIX));
        let (host, interface) = rest.and_then(|rest| rest.split_once('/')).ok_or("its key is no port's")?;
        let said = |error: IdError| error.to_string();
        Ok((host.parse().map_err(said)?, interface.parse().map_err(said)?))
    }

    fn encode(&self) -> metastore::Value {
        self.0.encode_to_vec()
    }

    fn decode((_, interface): &Self::Id, bytes: &[u8]) -> Result<Self, String> {
        let port = PortAssignment::decode(bytes).map_err(|error| error.to_string())?;
        match port.interface_id == interface.to_string() && port.removed {
            true => Ok(PortGrave(port)),
            false => Err(format!("it is about {}", port.interface_id)),
        }
    }
}
