//! What the region stores: one key and one encoded record for each thing that it must remember.
//!
//! ```text
//!   a/0/ACCOUNT/account
//!   a/0/ACCOUNT/instance/i-...
//!   a/0/ACCOUNT/reservation/r-...
//!   a/0/ACCOUNT/tags/RESOURCE
//!   a/0/ACCOUNT/token/OPERATION/TOKEN
//!   a/0/ACCOUNT/vni/NUMBER
//!   a/0/ACCOUNT/key-pair/key-...               and so on, for each row of `resources!` below
//!   region/cursor-secret, region/leader, region/term
//! ```
//!
//! `a/0` is the shard (`metastore::shard`): an account's is fixed, and there is one until a region needs more. Records
//! are prost messages (numbered fields, so that old bytes are read by new code), each written beside its resource.
//!
//! Most things are *resources*: they have an id of their own and tags, and are nothing but a record in a table. Adding
//! one is a row here and a folder for its rules. Launches and their instances are not: see [`crate::model`].

use crate::account::record::AccountRecord;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::tag::record::{TagRecord, TagsRecord};
use crate::vpc::record::VniRecord;
use base::ids::*;
use metastore::shard::{Shard, account_key};
use metastore::table::{self, TableError};
use metastore::{Key, Value};
use prost::Message;
use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::Arc;

/// Where all accounts are.
const SHARD: Shard = Shard(0);
/// The key of the term.
pub const TERM_KEY: &str = "region/term";
/// The key that exists while a process leads, where several share the store.
pub const LEADER_KEY: &str = "region/leader";
/// The key of the secret that cursors are signed with.
pub const CURSOR_SECRET_KEY: &str = "region/cursor-secret";

/// A record that has an id of its own and tags, and is kept in a table.
pub trait Resource: Message + Default + Clone + PartialEq + 'static {
    /// Its id.
    type Id: Copy + Ord + Debug + Display + FromStr + 'static;

    /// What its ids begin with.
    const PREFIX: &'static str;

    /// Its name within its account.
    fn name(id: Self::Id) -> Name;
    /// It as one of all records.
    fn record(self: Arc<Self>) -> Record;
    /// The record, if it is of this kind.
    fn of(record: &Record) -> Option<&Arc<Self>>;
    /// The id, if the name is of this kind.
    fn id(name: &Name) -> Option<Self::Id>;
    /// Where those of an account are.
    fn table(tables: &Tables) -> &BTreeMap<Self::Id, Arc<Self>>;
    /// Its id, as it is stored.
    fn own_id(&self) -> &str;
    /// Its tags, sorted by key.
    fn tags(&self) -> &[TagRecord];
    /// The same, to be changed.
    fn tags_mut(&mut self) -> &mut Vec<TagRecord>;
}

macro_rules! resources {
    ($($(#[$doc:meta])* $kind:ident($id:ident) in $table:ident, $word:literal: $record:path, $own:ident;)*) => {
        /// The name of a record within its account.
        // In the order in which the model takes the records of a commit: members of launches before their launch.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Name {
            /// The account itself.
            Account,
            /// An instance.
            Instance(InstanceId),
            $($(#[$doc])* $kind($id),)*
            /// A launch.
            Reservation(ReservationId),
            /// The tags of a resource that has no record of its own.
            Tags(String),
            /// An idempotency token of an operation.
            Token(String),
            /// A network identifier whose VPC is gone.
            Vni(u32),
        }

        /// A record of an account.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            /// The account itself.
            Account(Arc<AccountRecord>),
            /// An instance.
            Instance(Arc<InstanceRecord>),
            $($(#[$doc])* $kind(Arc<$record>),)*
            /// A launch.
            Reservation(Arc<ReservationRecord>),
            /// The tags of a resource that has no record of its own.
            Tags(Arc<TagsRecord>),
            /// An idempotency token.
            Token(Arc<TokenRecord>),
            /// A network identifier whose VPC is gone.
            Vni(Arc<VniRecord>),
        }

        /// The resources of an account, each kind in a table of its own.
        #[derive(Clone, Debug, Default)]
        pub struct Tables {
            $($(#[$doc])* pub $table: BTreeMap<$id, Arc<$record>>,)*
        }

        impl Tables {
            /// Puts (`Some`) or removes (`None`) a resource; what is none is left alone.
            pub(crate) fn apply(&mut self, name: &Name, record: Option<&Record>) {
                match (name, record) {
                    $((Name::$kind(id), Some(Record::$kind(record))) => {
                        self.$table.insert(*id, record.clone());
                    }
                    (Name::$kind(id), _) => {
                        self.$table.remove(id);
                    })*
                    _ => {}
                }
            }

            /// Every resource's id and tags, kind by kind.
            pub fn tagged(&self) -> impl Iterator<Item = (String, &[TagRecord])> {
                std::iter::empty()$(.chain(self.$table.iter().map(|(id, record)| {
                    (id.to_string(), record.tags.as_slice())
                })))*
            }
        }

        $(impl Resource for $record {
            type Id = $id;

            const PREFIX: &'static str = $id::PREFIX;

            fn name(id: $id) -> Name {
                Name::$kind(id)
            }
            fn record(self: Arc<Self>) -> Record {
                Record::$kind(self)
            }
            fn of(record: &Record) -> Option<&Arc<Self>> {
                if let Record::$kind(record) = record { Some(record) } else { None }
            }
            fn id(name: &Name) -> Option<$id> {
                if let Name::$kind(id) = name { Some(*id) } else { None }
            }
            fn table(tables: &Tables) -> &BTreeMap<$id, Arc<Self>> {
                &tables.$table
            }
            fn own_id(&self) -> &str {
                &self.$own
            }
            fn tags(&self) -> &[TagRecord] {
                &self.tags
            }
            fn tags_mut(&mut self) -> &mut Vec<TagRecord> {
                &mut self.tags
            }
        })*

        impl Name {
            /// The store's key.
            pub fn key(&self, account: AccountId) -> Key {
                let rest = match self {
                    Name::Account => "account".to_owned(),
                    Name::Instance(id) => format!("instance/{id}"),
                    $(Name::$kind(id) => format!(concat!($word, "/{}"), id),)*
                    Name::Reservation(id) => format!("reservation/{id}"),
                    Name::Tags(resource) => format!("tags/{resource}"),
                    Name::Token(token) => format!("token/{token}"),
                    Name::Vni(number) => format!("vni/{number}"),
                };
                format!("{}{rest}", SHARD.account_prefix(account)).into_bytes()
            }

            fn parse(table: &str, name: &str) -> Result<Name, String> {
                let name = match table {
                    "account" => Ok(Name::Account),
                    "instance" => name.parse().map(Name::Instance),
                    $($word => name.parse().map(Name::$kind),)*
                    "reservation" => name.parse().map(Name::Reservation),
                    "tags" => Ok(Name::Tags(name.to_owned())),
                    "token" => Ok(Name::Token(name.to_owned())),
                    "vni" => return name.parse().map(Name::Vni).map_err(|_| "this is no number".to_owned()),
                    _ => return Err("its table is unknown to this version".into()),
                };
                name.map_err(|error: IdError| error.to_string())
            }

            /// Does to the tags of the resource of this name what `change` does; `None`: the name is of no resource.
            pub(crate) fn resource<W: ResourceWork>(&self, work: W) -> Option<W::Output> {
                match self {
                    $(Name::$kind(id) => Some(work.on::<$record>(*id)),)*
                    _ => None,
                }
            }

            /// The name of the resource whose id this is.
            pub fn of_resource(id: &str) -> Option<Name> {
                None$(.or_else(|| id.parse().ok().map(Name::$kind)))*
            }
        }

        impl Record {
            /// The id of a resource's record.
            pub fn resource_id(&self) -> Option<String> {
                match self {
                    $(Record::$kind(record) => Some(record.$own.clone()),)*
                    _ => None,
                }
            }

            /// How many bytes [`Record::encode`] gives.
            pub fn encoded_len(&self) -> usize {
                match self {
                    Record::Account(record) => record.encoded_len(),
                    Record::Instance(record) => record.encoded_len(),
                    $(Record::$kind(record) => record.encoded_len(),)*
                    Record::Reservation(record) => record.encoded_len(),
                    Record::Tags(record) => record.encoded_len(),
                    Record::Token(record) => record.encoded_len(),
                    Record::Vni(record) => record.encoded_len(),
                }
            }

            /// The record's bytes.
            pub fn encode(&self) -> Value {
                match self {
                    Record::Account(record) => record.encode_to_vec(),
                    Record::Instance(record) => record.encode_to_vec(),
                    $(Record::$kind(record) => record.encode_to_vec(),)*
                    Record::Reservation(record) => record.encode_to_vec(),
                    Record::Tags(record) => record.encode_to_vec(),
                    Record::Token(record) => record.encode_to_vec(),
                    Record::Vni(record) => record.encode_to_vec(),
                }
            }

            fn decode(name: &Name, bytes: &[u8]) -> Result<Record, prost::DecodeError> {
                Ok(match name {
                    Name::Account => Record::Account(Arc::new(AccountRecord::decode(bytes)?)),
                    Name::Instance(_) => Record::Instance(Arc::new(InstanceRecord::decode(bytes)?)),
                    $(Name::$kind(_) => Record::$kind(Arc::new(<$record>::decode(bytes)?)),)*
                    Name::Reservation(_) => Record::Reservation(Arc::new(ReservationRecord::decode(bytes)?)),
                    Name::Tags(_) => Record::Tags(Arc::new(TagsRecord::decode(bytes)?)),
                    Name::Token(_) => Record::Token(Arc::new(TokenRecord::decode(bytes)?)),
                    Name::Vni(_) => Record::Vni(Arc::new(VniRecord::decode(bytes)?)),
                })
            }
        }
    };
}

/// Work on a resource whose kind is known only when it is done.
pub(crate) trait ResourceWork {
    /// What it gives.
    type Output;
    /// Does it on the resource of this id.
    fn on<R: Resource>(self, id: R::Id) -> Self::Output;
}

resources! {
    /// An elastic address.
    Address(AllocationId) in addresses, "address": crate::address::record::AddressRecord, allocation_id;
    /// A set of DHCP options.
    DhcpOptions(DhcpOptionsId) in dhcp_options, "dhcp-options": crate::dhcp_options::record::DhcpOptionsRecord, dhcp_options_id;
    /// An internet gateway.
    InternetGateway(InternetGatewayId) in internet_gateways, "internet-gateway":
        crate::internet_gateway::record::InternetGatewayRecord, internet_gateway_id;
    /// A key pair.
    KeyPair(KeyPairId) in key_pairs, "key-pair": crate::key_pair::record::KeyPairRecord, key_pair_id;
    /// A network ACL.
    NetworkAcl(NetworkAclId) in network_acls, "network-acl": crate::network_acl::record::NetworkAclRecord, network_acl_id;
    /// A network interface.
    NetworkInterface(NetworkInterfaceId) in network_interfaces, "network-interface":
        crate::network_interface::record::InterfaceRecord, interface_id;
    /// A route table.
    RouteTable(RouteTableId) in route_tables, "route-table": crate::route_table::record::RouteTableRecord, route_table_id;
    /// A security group.
    SecurityGroup(SecurityGroupId) in security_groups, "security-group":
        crate::security_group::record::SecurityGroupRecord, group_id;
    /// A subnet.
    Subnet(SubnetId) in subnets, "subnet": crate::subnet::record::SubnetRecord, subnet_id;
    /// A virtual network.
    Vpc(VpcId) in vpcs, "vpc": crate::vpc::record::VpcRecord, vpc_id;
}

impl table::Record for Record {
    const PREFIX: &'static str = metastore::shard::ACCOUNTS;
    type Id = (AccountId, Name);

    fn key((account, name): &(AccountId, Name)) -> Key {
        name.key(*account)
    }

    fn id(key: &[u8]) -> Result<(AccountId, Name), String> {
        let owned = account_key(key).map_err(|error| error.to_string())?;
        let owned = owned.ok_or("its key is unknown to this version")?;
        if owned.shard != SHARD {
            return Err("its shard is unknown to this version".into());
        }
        let account: AccountId = owned.account.parse().map_err(|error: IdError| error.to_string())?;
        let rest = std::str::from_utf8(owned.rest).map_err(|error| error.to_string())?;
        let (table, name) = rest.split_once('/').unwrap_or((rest, ""));
        Ok((account, Name::parse(table, name)?))
    }

    fn encode(&self) -> Value {
        Record::encode(self)
    }

    fn decode((_, name): &(AccountId, Name), bytes: &[u8]) -> Result<Record, String> {
        Record::decode(name, bytes).map_err(|error| error.to_string())
    }
}

/// Reads an entry of the region's store. `None`: the key is the region's own and no account's. A key that this
/// version does not know is an error: the store is another role's, or a newer version's.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<(AccountId, Name, Record)>, TableError> {
    if [TERM_KEY, LEADER_KEY, CURSOR_SECRET_KEY].map(str::as_bytes).contains(&key) {
        return Ok(None);
    }
    let error = |why| TableError { key: key.escape_ascii().to_string(), why };
    let id = <Record as table::Record>::id(key).map_err(error)?;
    let record = <Record as table::Record>::decode(&id, value).map_err(error)?;
    Ok(Some((id.0, id.1, record)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_version_does_not_know_is_refused_by_name() {
        let account: AccountId = "123456789012".parse().unwrap();
        let key = Name::Tags("vpc-1".into()).key(account);
        assert_eq!(key, b"a/0/123456789012/tags/vpc-1");
        let (of, name, _) = decode(&key, &[]).unwrap().unwrap();
        assert_eq!((of, name), (account, Name::Tags("vpc-1".into())));
        assert_eq!(decode(TERM_KEY.as_bytes(), &[]).unwrap(), None);
        for unknown in ["s0/123456789012/account", "cell/term", "a/1/123456789012/account", "a/0/12/account"]
        {
            assert_eq!(decode(unknown.as_bytes(), &[]).unwrap_err().key, unknown);
        }
    }
}
