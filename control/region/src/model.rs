//! The read model: every record of every account in memory, with what is derived from them (members of launches
//! that have no record yet, the index of access keys). Fed only with what is durable, one commit at a time; reads
//! of the API are served from it.

use crate::account::record::AccountRecord;
use crate::address::record::AddressRecord;
use crate::cidr::Cidr6;
use crate::instance;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::instance::state::{Acceptance, Stage};
use crate::network_interface::index::{self, InterfaceIndex};
use crate::network_interface::launch;
use crate::network_interface::record::InterfaceRecord;
use crate::pool::Holding;
use crate::record::{Name, Record, Resource, Tables, decode};
use crate::tag::record::TagsRecord;
use crate::vpc::record::VpcRecord;
use base::ids::{AccountId, AllocationId, InstanceId, NetworkInterfaceId, ReservationId};
use metastore::table::TableError;
use metastore::{Entry, Revision};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is known, at a revision of the store.
#[derive(Default)]
pub struct Model {
    /// The last commit that is in it.
    pub revision: Revision,
    /// A reader keeps an account as it was while the owner goes on: what is shared is copied before it changes.
    accounts: BTreeMap<AccountId, Arc<Account>>,
    by_access_key: BTreeMap<String, AccountId>,
    by_instance: BTreeMap<InstanceId, AccountId>,
    held: BTreeSet<Holding>,
}

/// What is known of one account. Copying it copies references to its records.
#[derive(Clone, Default)]
pub struct Account {
    /// The account itself; `None` only before its record is read.
    pub record: Option<Arc<AccountRecord>>,
    /// Instances, those derived from an unsettled launch included.
    pub instances: BTreeMap<InstanceId, Arc<InstanceRecord>>,
    /// Launches.
    pub reservations: BTreeMap<ReservationId, Arc<ReservationRecord>>,
    /// Resources, by kind.
    pub tables: Tables,
    /// What is derived from interfaces.
    pub interfaces: InterfaceIndex,
    /// Elastic addresses by the interface that they name.
    elastic: BTreeMap<NetworkInterfaceId, BTreeSet<AllocationId>>,
    /// Tags of resources without a record of their own, by resource id.
    pub tags: BTreeMap<String, Arc<TagsRecord>>,
    /// Idempotency tokens, by operation and token.
    pub tokens: BTreeMap<String, Arc<TokenRecord>>,
    /// Members of unsettled launches that have a record of their own.
    stored: BTreeSet<InstanceId>,
    vcpus_occupied: u32,
    vcpus_by_zone: BTreeMap<String, u32>,
}

impl Model {
    /// The model of a store's entries.
    pub fn load(entries: Vec<Entry>, revision: Revision) -> Result<Model, TableError> {
        let mut model = Model { revision, ..Model::default() };
        let mut reservations = Vec::new();
        for entry in entries {
            match decode(&entry.key, &entry.value)? {
                // Members with a record of their own come before what is derived for the others.
                Some((account, name, record @ Record::Reservation(_))) => {
                    reservations.push((account, name, record))
                }
                Some((account, name, record)) => model.apply(account, &name, Some(record)),
                None => {}
            }
        }
        for (account, name, record) in reservations {
            model.apply(account, &name, Some(record));
        }
        Ok(model)
    }

    /// The account, if it exists.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id).map(|account| &**account)
    }

    /// The account as it is now, to be read at leisure.
    pub fn account_shared(&self, id: AccountId) -> Option<Arc<Account>> {
        self.accounts.get(&id).cloned()
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountId, &Arc<Account>)> {
        self.accounts.iter().map(|(id, account)| (*id, account))
    }

    /// The account whose access key this is.
    pub fn account_of_key(&self, access_key_id: &str) -> Option<&Arc<AccountRecord>> {
        self.accounts.get(self.by_access_key.get(access_key_id)?)?.record.as_ref()
    }

    /// The account whose instance this is.
    pub fn account_of_instance(&self, id: InstanceId) -> Option<AccountId> {
        self.by_instance.get(&id).copied()
    }

    /// An instance, whosever it is.
    pub fn instance(&self, id: InstanceId) -> Option<&Arc<InstanceRecord>> {
        self.accounts.get(self.by_instance.get(&id)?)?.instances.get(&id)
    }

    /// Whether anybody holds it durably.
    pub fn is_held(&self, holding: Holding) -> bool {
        self.held.contains(&holding)
    }

    /// Puts (`Some`) or removes (`None`) a record.
    pub fn apply(&mut self, id: AccountId, name: &Name, record: Option<Record>) {
        let account = Arc::make_mut(self.accounts.entry(id).or_default());
        match (name, record) {
            (Name::Account, Some(Record::Account(record))) => {
                self.by_access_key.insert(record.access_key_id.clone(), id);
                account.record = Some(record);
            }
            (Name::Instance(instance), Some(Record::Instance(record))) => {
                self.by_instance.insert(*instance, id);
                account.stored.insert(*instance);
                account.insert_instance(*instance, record);
                account.interface_refresh(&mut self.held, *instance);
            }
            (Name::Instance(instance), _) => {
                self.by_instance.remove(instance);
                account.stored.remove(instance);
                account.remove_instance(*instance);
                account.interface_refresh(&mut self.held, *instance);
            }
            (Name::Reservation(reservation), Some(Record::Reservation(record))) => {
                let settled = record.acceptance() == Acceptance::Settled;
                for (index, member) in instance::members(&record) {
                    if account.stored.contains(&member) {
                        continue;
                    }
                    if settled {
                        // Dropped between MinCount and MaxCount.
                        account.remove_instance(member);
                        self.by_instance.remove(&member);
                    } else {
                        account.insert_instance(
                            member,
                            Arc::new(instance::member_derive(&record, index, member)),
                        );
                        self.by_instance.insert(member, id);
                    }
                }
                let before = account.reservations.insert(*reservation, record.clone());
                let same = before.is_some_and(|before| before.interface == record.interface);
                for (_, member) in instance::members(&record) {
                    if !same {
                        account.interface_forget(&mut self.held, member);
                    }
                    account.interface_refresh(&mut self.held, member);
                }
            }
            (Name::Reservation(reservation), _) => {
                if let Some(record) = account.reservations.remove(reservation) {
                    for (_, member) in instance::members(&record) {
                        if !account.stored.contains(&member) {
                            account.remove_instance(member);
                            self.by_instance.remove(&member);
                        }
                        account.interface_refresh(&mut self.held, member);
                    }
                }
            }
            (Name::NetworkInterface(id), record) => {
                account.interface_remove(&mut self.held, *id);
                account.interfaces.stored.remove(id);
                if let Some(Record::NetworkInterface(record)) = record {
                    account.interfaces.stored.insert(*id);
                    account.interface_insert(&mut self.held, *id, record);
                }
            }
            (Name::Address(id), record) => {
                account.address_apply(&mut self.held, *id, record.as_ref().and_then(AddressRecord::of));
            }
            (Name::Tags(resource), Some(Record::Tags(record))) => {
                account.tags.insert(resource.clone(), record);
            }
            (Name::Tags(resource), _) => {
                account.tags.remove(resource);
            }
            (Name::Token(token), Some(Record::Token(record))) => {
                account.tokens.insert(token.clone(), record);
            }
            (Name::Token(token), _) => {
                account.tokens.remove(token);
            }
            (Name::Vni(number), Some(_)) => {
                self.held.insert(Holding::Vni(*number));
            }
            (Name::Vpc(vpc), record) => {
                let old = account.tables.vpcs.get(vpc);
                for holding in old.iter().flat_map(|record| vpc_holdings(record)) {
                    self.held.remove(&holding);
                }
                account.tables.apply(name, record.as_ref());
                let new = account.tables.vpcs.get(vpc);
                self.held.extend(new.iter().flat_map(|record| vpc_holdings(record)));
            }
            (Name::Account | Name::Vni(_), _) => {}
            (name, record) => account.tables.apply(name, record.as_ref()),
        }
    }
}

impl Account {
    /// A resource.
    pub fn get<R: Resource>(&self, id: R::Id) -> Option<&Arc<R>> {
        R::table(&self.tables).get(&id)
    }

    /// The resource whose id the text is, if it is there.
    pub fn named<R: Resource>(&self, text: &str) -> Option<&Arc<R>> {
        self.get(text.parse().ok()?)
    }

    /// Every resource of a kind, sorted by id.
    pub fn all<R: Resource>(&self) -> impl DoubleEndedIterator<Item = &Arc<R>> {
        R::table(&self.tables).values()
    }

    /// The instances that customers can see: not those of a launch that may still be undone.
    pub fn instances_visible(&self) -> impl Iterator<Item = &Arc<InstanceRecord>> {
        self.instances.values().filter(|record| self.instance_is_visible(record))
    }

    /// Whether customers can see the instance.
    pub fn instance_is_visible(&self, record: &InstanceRecord) -> bool {
        if record.stage() != Stage::Claiming {
            return true;
        }
        let reservation = record.reservation_id.parse().ok();
        let reservation = reservation.and_then(|id: ReservationId| self.reservations.get(&id));
        reservation.is_none_or(|reservation| reservation.acceptance() != Acceptance::Claiming)
    }

    /// The instance's user data: its own if it was changed, else its launch's.
    pub fn user_data<'a>(&'a self, record: &'a InstanceRecord) -> &'a [u8] {
        let template = if record.own_user_data {
            record.template.as_ref()
        } else {
            let reservation = record.reservation_id.parse().ok();
            let reservation = reservation.and_then(|id: ReservationId| self.reservations.get(&id));
            reservation.and_then(|reservation| reservation.template.as_ref())
        };
        template.map(|template| template.user_data.as_slice()).unwrap_or_default()
    }

    /// Whether the instance has a record of its own (else it is derived from its launch).
    pub fn instance_is_stored(&self, id: InstanceId) -> bool {
        self.stored.contains(&id)
    }

    /// vCPUs of all instances that occupy their place.
    pub fn vcpus_occupied(&self) -> u32 {
        self.vcpus_occupied
    }

    /// The same by zone; zones without any may be missing.
    pub fn vcpus_by_zone(&self) -> &BTreeMap<String, u32> {
        &self.vcpus_by_zone
    }

    /// The instance's interfaces, by device.
    pub fn interfaces_of(&self, instance: InstanceId) -> impl Iterator<Item = &InterfaceRecord> {
        let ids = self.interfaces.of_instance(instance);
        ids.filter_map(|id| self.tables.network_interfaces.get(&id).map(AsRef::as_ref))
    }

    /// The elastic address that is associated with an address of an interface.
    pub fn elastic_of(&self, interface: &InterfaceRecord, private: u32) -> Option<&AddressRecord> {
        let id: NetworkInterfaceId = interface.interface_id.parse().ok()?;
        let own = self.elastic.get(&id)?.iter().filter_map(|id| self.tables.addresses.get(id));
        own.map(AsRef::as_ref).find(|address: &&AddressRecord| address.private_address == private)
    }

    /// The interface that an elastic address is associated with, if the association holds.
    pub fn interface_of_elastic(&self, address: &AddressRecord) -> Option<&InterfaceRecord> {
        let interface = self.named::<InterfaceRecord>(&address.interface_id)?;
        interface.addresses.contains(&address.private_address).then_some(interface)
    }

    fn address_apply(
        &mut self,
        held: &mut BTreeSet<Holding>,
        id: AllocationId,
        record: Option<&Arc<AddressRecord>>,
    ) {
        let holding = |record: &AddressRecord| {
            Holding::PublicAddress(std::net::Ipv4Addr::from_bits(record.public_address))
        };
        if let Some(old) = self.tables.addresses.remove(&id) {
            held.remove(&holding(&old));
            if let Ok(interface) = old.interface_id.parse::<NetworkInterfaceId>()
                && let Some(own) = self.elastic.get_mut(&interface)
            {
                own.remove(&id);
                if own.is_empty() {
                    self.elastic.remove(&interface);
                }
            }
        }
        if let Some(record) = record {
            held.insert(holding(record));
            if let Ok(interface) = record.interface_id.parse::<NetworkInterfaceId>() {
                self.elastic.entry(interface).or_default().insert(id);
            }
            self.tables.addresses.insert(id, record.clone());
        }
    }

    fn interface_insert(
        &mut self,
        held: &mut BTreeSet<Holding>,
        id: NetworkInterfaceId,
        record: Arc<InterfaceRecord>,
    ) {
        held.extend(index::holding(&record));
        self.interfaces.insert(id, &record);
        self.tables.network_interfaces.insert(id, record);
    }

    fn interface_remove(&mut self, held: &mut BTreeSet<Holding>, id: NetworkInterfaceId) {
        if let Some(old) = self.tables.network_interfaces.remove(&id) {
            if let Some(holding) = index::holding(&old) {
                held.remove(&holding);
            }
            self.interfaces.remove(id, &old);
        }
    }

    /// The interface that a launched instance has without a record, while it lives.
    fn interface_refresh(&mut self, held: &mut BTreeSet<Holding>, member: InstanceId) {
        let id = launch::interface_id(member);
        if self.interfaces.stored.contains(&id) {
            return;
        }
        let instance = self.instances.get(&member).filter(|record| record.stage() != Stage::Terminated);
        let Some(instance) = instance else { return self.interface_remove(held, id) };
        if self.tables.network_interfaces.contains_key(&id) {
            return;
        }
        let reservation = instance.reservation_id.parse().ok();
        let reservation = reservation.and_then(|id: ReservationId| self.reservations.get(&id));
        let launch = reservation.and_then(|reservation| reservation.interface.as_ref());
        if let Some(record) = launch.and_then(|launch| launch::interface_derive(launch, instance)) {
            self.interface_insert(held, id, Arc::new(record));
        }
    }

    /// Forgets a derived interface whose launch has been given other addresses.
    fn interface_forget(&mut self, held: &mut BTreeSet<Holding>, member: InstanceId) {
        let id = launch::interface_id(member);
        if !self.interfaces.stored.contains(&id) {
            self.interface_remove(held, id);
        }
    }

    fn insert_instance(&mut self, id: InstanceId, record: Arc<InstanceRecord>) {
        self.remove_instance(id);
        let vcpus = record.vcpus_occupied();
        self.vcpus_occupied += vcpus;
        match self.vcpus_by_zone.get_mut(&record.zone) {
            Some(zone) => *zone += vcpus,
            None => {
                self.vcpus_by_zone.insert(record.zone.clone(), vcpus);
            }
        }
        self.instances.insert(id, record);
    }

    fn remove_instance(&mut self, id: InstanceId) {
        if let Some(old) = self.instances.remove(&id) {
            let vcpus = old.vcpus_occupied();
            self.vcpus_occupied -= vcpus;
            if let Some(zone) = self.vcpus_by_zone.get_mut(&old.zone) {
                *zone -= vcpus;
            }
        }
    }
}

fn vpc_holdings(record: &VpcRecord) -> Vec<Holding> {
    let ranges = record.cidrs_ipv6.iter().filter_map(|range| range.cidr.parse::<Cidr6>().ok());
    let ranges = ranges.map(|range| Holding::Ipv6Range(range.first()));
    ranges.chain([Holding::Vni(record.vni)]).collect()
}
