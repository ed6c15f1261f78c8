//! The owner of one account: orders its work and batches it into commits.
//!
//! One commit of an account is in flight at a time; what arrives meanwhile waits, and then goes into the next one
//! together. So an account's requests see one another's effects in order without a compare-and-set loop, and an
//! account commits as fast as the disk flushes, whatever the number of requests in each flush.

use crate::account::record::AccountRecord;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::instance::state::{Acceptance, Stage};
use crate::model::{Account, Model};
use crate::network_interface;
use crate::network_interface::index::ipv6;
use crate::network_interface::record::InterfaceRecord;
use crate::pool::Reserved;
use crate::record::{Name, Record, Resource};
use crate::refusal::Refusal;
use crate::tag::record::TagsRecord;
use base::clock::Timestamp;
use base::ids::{AccountId, InstanceId, NetworkInterfaceId, ReservationId, SubnetId};
use base::random::Random;
use metastore::{Commit, Condition, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// What a batch changes: `None` is a removal.
pub type Writes = BTreeMap<Name, Option<Record>>;

/// Operations that one piece of work may need at most; a batch that has less room left is committed first.
pub const WORK_OPS_MAX: usize = 100;
/// Bytes after which work that can go on in another commit does, and after which a batch is committed. One record
/// more (an instance with the most tags and the longest explanation has some 90 KiB) still fits a commit.
pub const WORK_BYTES_FULL: usize = 384 * 1024;
/// Bytes that one piece of work may change at most.
pub const WORK_BYTES_MAX: usize = 600 * 1024;

/// A piece of work's view of its account: the durable records beneath what the batch has changed so far.
pub struct Tx<'a> {
    /// When the work is done.
    pub now: Timestamp,
    /// Where new ids come from.
    pub random: &'a mut Random,
    /// What commits in flight hold of what the region has one of each.
    pub reserved: &'a mut Reserved,
    account: Option<&'a Account>,
    batch: &'a Writes,
    writes: Writes,
    bytes: usize,
}

impl<'a> Tx<'a> {
    /// A view of `account` as `batch` has left it.
    pub fn new(
        now: Timestamp,
        random: &'a mut Random,
        reserved: &'a mut Reserved,
        account: Option<&'a Account>,
        batch: &'a Writes,
    ) -> Self {
        Tx { now, random, reserved, account, batch, writes: Writes::new(), bytes: 0 }
    }

    /// Does something on a view like this one, and forgets what it changed.
    pub fn attempt<T>(&mut self, work: impl FnOnce(&mut Tx<'_>) -> T) -> T {
        let mut scratch = Tx {
            now: self.now,
            random: &mut *self.random,
            reserved: &mut *self.reserved,
            account: self.account,
            batch: self.batch,
            writes: self.writes.clone(),
            bytes: self.bytes,
        };
        work(&mut scratch)
    }

    /// What the work has changed.
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// Bytes of the records that the work has put.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether work that can go on in another commit should.
    pub fn is_full(&self) -> bool {
        self.writes.len() + 2 >= WORK_OPS_MAX || self.bytes >= WORK_BYTES_FULL
    }

    /// Whether the work has changed more than one commit may.
    pub fn is_too_large(&self) -> bool {
        self.writes.len() > WORK_OPS_MAX || self.bytes > WORK_BYTES_MAX
    }

    /// Puts a record.
    pub fn put(&mut self, name: Name, record: Record) {
        self.bytes += record.encoded_len();
        self.writes.insert(name, Some(record));
    }

    /// Puts an instance. One that is terminated gives up its interfaces in the same commit.
    pub fn put_instance(&mut self, id: InstanceId, record: InstanceRecord) {
        if record.stage() == Stage::Terminated {
            network_interface::instance_gone(self, id);
        }
        self.put(Name::Instance(id), Record::Instance(Arc::new(record)));
    }

    /// Removes a record.
    pub fn delete(&mut self, name: Name) {
        self.writes.insert(name, None);
    }

    fn changed(&self, name: &Name) -> Option<&Option<Record>> {
        self.writes.get(name).or_else(|| self.batch.get(name))
    }

    /// The account, if it exists.
    pub fn account(&self) -> Option<Arc<AccountRecord>> {
        match self.changed(&Name::Account) {
            Some(Some(Record::Account(record))) => Some(record.clone()),
            Some(_) => None,
            None => self.account.and_then(|account| account.record.clone()),
        }
    }

    /// An instance (derived members of launches included).
    pub fn instance(&self, id: InstanceId) -> Option<Arc<InstanceRecord>> {
        match self.changed(&Name::Instance(id)) {
            Some(Some(Record::Instance(record))) => Some(record.clone()),
            Some(_) => None,
            None => self.account?.instances.get(&id).cloned(),
        }
    }

    /// An instance that customers can see.
    pub fn instance_visible(&self, id: InstanceId) -> Option<Arc<InstanceRecord>> {
        let record = self.instance(id)?;
        let reservation = record.reservation_id.parse().ok().and_then(|id| self.reservation(id));
        let undecided = reservation.is_some_and(|r| r.acceptance() == Acceptance::Claiming);
        let visible = record.stage() != Stage::Claiming || !undecided;
        visible.then_some(record)
    }

    /// vCPUs of all instances that occupy their place, those of launches that this batch accepts included.
    pub fn vcpus_occupied(&self) -> u32 {
        let mut vcpus = self.account.map_or(0, Account::vcpus_occupied);
        for name in self.batch.keys().chain(self.writes.keys().filter(|name| !self.batch.contains_key(*name)))
        {
            if let Name::Instance(id) = name {
                let before = self.account.and_then(|account| account.instances.get(id));
                vcpus -= before.map_or(0, |record| record.vcpus_occupied());
                vcpus += self.instance(*id).map_or(0, |record| record.vcpus_occupied());
            }
        }
        let accepted = self.batch.iter().filter_map(|(name, record)| match (name, record) {
            (Name::Reservation(id), Some(Record::Reservation(record))) => {
                let known = self.account.is_some_and(|account| account.reservations.contains_key(id));
                (!known).then(|| record.vcpus())
            }
            _ => None,
        });
        vcpus + accepted.sum::<u32>()
    }

    /// A launch.
    pub fn reservation(&self, id: ReservationId) -> Option<Arc<ReservationRecord>> {
        match self.changed(&Name::Reservation(id)) {
            Some(Some(Record::Reservation(record))) => Some(record.clone()),
            Some(_) => None,
            None => self.account?.reservations.get(&id).cloned(),
        }
    }

    /// An idempotency token.
    pub fn token(&self, token: &str) -> Option<Arc<TokenRecord>> {
        match self.changed(&Name::Token(token.to_owned())) {
            Some(Some(Record::Token(record))) => Some(record.clone()),
            Some(_) => None,
            None => self.account?.tokens.get(token).cloned(),
        }
    }

    /// A resource.
    pub fn get<R: Resource>(&self, id: R::Id) -> Option<Arc<R>> {
        match self.changed(&R::name(id)) {
            Some(record) => record.as_ref().and_then(R::of).cloned(),
            None => R::table(&self.account?.tables).get(&id).cloned(),
        }
    }

    /// The resource whose id the text is.
    pub fn find<R: Resource>(&self, text: &str) -> Result<(R::Id, Arc<R>), Refusal> {
        let id: Option<R::Id> = text.parse().ok();
        let found = id.and_then(|id| Some((id, self.get::<R>(id)?)));
        found.ok_or_else(|| Refusal::ResourceNotFound(text.to_owned()))
    }

    /// The resource whose id a record holds, if it is still there.
    pub fn named<R: Resource>(&self, text: &str) -> Option<Arc<R>> {
        self.get(text.parse().ok()?)
    }

    /// Every resource of a kind, in no order that means anything.
    pub fn all<R: Resource>(&self) -> impl Iterator<Item = (R::Id, &Arc<R>)> {
        let changed: BTreeSet<R::Id> =
            self.batch.keys().chain(self.writes.keys()).filter_map(R::id).collect();
        let puts = changed.clone().into_iter().filter_map(|id| {
            let record = self.changed(&R::name(id)).and_then(Option::as_ref);
            record.and_then(R::of).map(|record| (id, record))
        });
        let base = self.account.into_iter().flat_map(|account| R::table(&account.tables));
        base.map(|(id, record)| (*id, record)).filter(move |(id, _)| !changed.contains(id)).chain(puts)
    }

    /// Puts a resource.
    pub fn save<R: Resource>(&mut self, id: R::Id, record: R) -> Record {
        let record = Arc::new(record).record();
        self.put(R::name(id), record.clone());
        record
    }

    /// Addresses of the subnet that the batch has given to interfaces.
    pub fn addresses_given(&self, subnet: SubnetId) -> BTreeSet<u32> {
        let (subnet, mut given) = (subnet.to_string(), BTreeSet::new());
        for record in self.batch.values().chain(self.writes.values()).flatten() {
            match record {
                Record::NetworkInterface(record) if record.subnet_id == subnet => {
                    given.extend(&record.addresses)
                }
                Record::Reservation(record) => {
                    let interface = record.interface.iter().filter(|launch| launch.subnet_id == subnet);
                    given.extend(interface.flat_map(|launch| &launch.addresses));
                }
                _ => {}
            }
        }
        given
    }

    /// The same, of IPv6.
    pub fn addresses_ipv6_given(&self, subnet: SubnetId) -> BTreeSet<Ipv6Addr> {
        let (subnet, mut given) = (subnet.to_string(), BTreeSet::new());
        for record in self.batch.values().chain(self.writes.values()).flatten() {
            match record {
                Record::NetworkInterface(record) if record.subnet_id == subnet => given.extend(ipv6(record)),
                Record::Reservation(record) => {
                    let interface = record.interface.iter().filter(|launch| launch.subnet_id == subnet);
                    let chunks = interface.flat_map(|launch| launch.addresses_ipv6.as_chunks::<16>().0);
                    given.extend(chunks.map(|bytes| Ipv6Addr::from(*bytes)));
                }
                _ => {}
            }
        }
        given
    }

    /// Whether an interface durably has the address.
    pub fn address_is_held(&self, subnet: SubnetId, address: u32) -> bool {
        self.account.is_some_and(|account| account.interfaces.is_held(subnet, address))
    }

    /// Whether an interface durably has the address.
    pub fn address_ipv6_is_held(&self, subnet: SubnetId, address: Ipv6Addr) -> bool {
        self.account.is_some_and(|account| account.interfaces.is_held_ipv6(subnet, address))
    }

    /// The source of randomness, and [`Tx::address_is_held`] beside it.
    pub fn random_and_held(&mut self) -> (&mut Random, impl Fn(SubnetId, u32) -> bool + use<'a>) {
        let account = self.account;
        let held = move |subnet, address| {
            account.is_some_and(|account: &Account| account.interfaces.is_held(subnet, address))
        };
        (self.random, held)
    }

    /// Interfaces of an instance for which something is to be written when it is terminated.
    pub fn interfaces_to_release(&self, instance: InstanceId) -> Vec<NetworkInterfaceId> {
        let text = instance.to_string();
        let of = |record: &InterfaceRecord| {
            record.attachment.as_ref().filter(|own| own.instance_id == text).map(|own| own.keep)
        };
        let Some(account) = self.account else { return Vec::new() };
        let durable = account.interfaces.of_instance(instance).filter(|id| {
            let stored = account.interfaces.stored.contains(id);
            stored || self.get::<InterfaceRecord>(*id).is_some_and(|record| of(&record) == Some(true))
        });
        let changed = self.batch.iter().chain(&self.writes).filter_map(|(name, record)| {
            let Record::NetworkInterface(record) = record.as_ref()? else { return None };
            of(record).and_then(|_| InterfaceRecord::id(name))
        });
        let all: BTreeSet<NetworkInterfaceId> = durable.chain(changed).collect();
        all.into_iter()
            .filter(|id| self.get::<InterfaceRecord>(*id).is_some_and(|r| of(&r).is_some()))
            .collect()
    }

    /// Whether an interface is one, those of launches that the batch accepts included.
    pub fn any_interface(&self, is: impl Fn(&str, &[String]) -> bool) -> bool {
        let launched = self.batch.values().chain(self.writes.values()).flatten().any(|record| match record {
            Record::Reservation(record) => {
                record.interface.iter().any(|launch| is(&launch.subnet_id, &launch.group_ids))
            }
            _ => false,
        });
        launched || self.all::<InterfaceRecord>().any(|(_, record)| is(&record.subnet_id, &record.group_ids))
    }

    /// Removes a resource.
    pub fn remove<R: Resource>(&mut self, id: R::Id) {
        self.delete(R::name(id));
    }

    /// The tags of a resource that has no record of its own.
    pub fn tags(&self, resource: &str) -> Option<Arc<TagsRecord>> {
        match self.changed(&Name::Tags(resource.to_owned())) {
            Some(Some(Record::Tags(record))) => Some(record.clone()),
            Some(_) => None,
            None => self.account?.tags.get(resource).cloned(),
        }
    }
}

/// The commit of a batch, on condition that this process still leads.
pub fn commit(account: AccountId, writes: &Writes, leads: Condition) -> Commit {
    let op = |(name, record): (&Name, &Option<Record>)| match record {
        Some(record) => Op::Put(name.key(account), record.encode()),
        None => Op::Delete(name.key(account)),
    };
    Commit { conditions: vec![leads], ops: writes.iter().map(op).collect() }
}

/// Puts a durable batch into the model.
pub fn apply(model: &mut Model, account: AccountId, writes: &Writes) {
    // Instances before reservations (the order of `Name`): a member that has its own record is not derived.
    for (name, record) in writes {
        model.apply(account, name, record.clone());
    }
}
