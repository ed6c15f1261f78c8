//! Why a change of the network is refused. Display is what the customer reads; the code is chosen in `api/errors.rs`.

/// A change of the network that was understood and refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRefusal {
    /// Something else still uses it.
    #[error("The {kind} '{id}' has dependencies and cannot be deleted.")]
    InUse {
        /// What it is.
        kind: &'static str,
        /// Which.
        id: String,
    },
    /// Something still uses this of it.
    #[error("{0}")]
    Dependency(String),
    /// The account has as many of a kind as it may.
    #[error("The maximum number of {what} has been reached: {max}.")]
    Limit {
        /// Which kind.
        limit: Limit,
        /// The kind, for people.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A range that a VPC cannot have.
    #[error("The CIDR '{0}' is invalid.")]
    VpcRange(String),
    /// A range of a VPC that overlaps another one.
    #[error("The CIDR '{0}' overlaps with another CIDR of the VPC.")]
    VpcRangeTaken(String),
    /// A range of a subnet that is not in its VPC, or too large or too small.
    #[error("The CIDR '{0}' is invalid.")]
    SubnetRange(String),
    /// A range of a subnet that overlaps another one.
    #[error("The CIDR '{0}' conflicts with another subnet")]
    SubnetConflict(String),
    /// The account has no default VPC.
    #[error("No default VPC for this user")]
    NoDefaultVpc,
    /// The account has a default VPC.
    #[error("A Default VPC already exists for this account in this region.")]
    DefaultVpcExists,
    /// The account has no default VPC to make a default subnet in.
    #[error("No default VPC exists for this account in this region.")]
    DefaultVpcMissing,
    /// The zone has a default subnet.
    #[error("A default subnet already exists in {0}.")]
    DefaultSubnetExists(String),
    /// The zone has no default subnet to launch into.
    #[error("No default subnet for availability zone: '{0}'.")]
    NoDefaultSubnet(String),
    /// What is not possible with this resource.
    #[error("{0}")]
    NotPermitted(String),
    /// A value that does not fit what is there.
    #[error("{0}")]
    Value(String),
    /// A combination of values that does not fit what is there.
    #[error("{0}")]
    Combination(String),
    /// It is attached or associated already.
    #[error("resource {0} is already associated.")]
    AlreadyAssociated(String),
    /// The gateway is not attached to that VPC.
    #[error("resource {0} is not attached to network {1}")]
    NotAttached(String, String),
    /// The VPC has a gateway.
    #[error("Network {0} already has an internet gateway attached")]
    GatewayExists(String),
    /// An association that does not exist.
    #[error("The association ID '{0}' does not exist")]
    AssociationNotFound(String),
    /// A range's association that does not exist.
    #[error("The association ID '{0}' does not exist")]
    RangeAssociationNotFound(String),
    /// The table has a route to this destination.
    #[error("The route identified by {0} already exists.")]
    RouteExists(String),
    /// The table has no such route.
    #[error("no route with destination-cidr-block {1} in route table {0}")]
    RouteNotFound(String, String),
    /// The ACL has an entry of this number.
    #[error("The network acl entry identified by {0} already exists.")]
    AclEntryExists(u32),
    /// The ACL has no such entry.
    #[error("The network acl entry identified by {0} does not exist.")]
    AclEntryNotFound(u32),
    /// The VPC has a group of that name.
    #[error("The security group '{0}' already exists for VPC '{1}'")]
    GroupExists(String, String),
    /// The VPC has no group of that name.
    #[error("The security group '{0}' does not exist in VPC '{1}'")]
    GroupNameNotFound(String, String),
    /// The default group stays as long as its VPC.
    #[error("the specified group: \"{0}\" name: \"default\" cannot be deleted by a user")]
    DefaultGroup(String),
    /// Interfaces or rules name it.
    #[error("resource {0} has a dependent object")]
    GroupInUse(String),
    /// Groups of different VPCs.
    #[error("{0}")]
    Groups(String),
    /// The group has the rule.
    #[error("the specified rule \"{0}\" already exists")]
    RuleExists(String),
    /// The group does not have the rule.
    #[error("The specified rule \"{0}\" does not exist in this security group.")]
    RuleNotFound(String),
    /// The group has no rule of this id.
    #[error("The security group rule ID '{0}' does not exist")]
    RuleIdNotFound(String),
    /// The interface is attached.
    #[error("Interface: [{0}] in use.")]
    InterfaceInUse(String),
    /// The address is somebody's.
    #[error("Address {0} is in use.")]
    AddressInUse(String),
    /// The subnet has not enough free addresses.
    #[error("There aren't sufficient free Ipv4 addresses or prefixes in subnet '{0}'")]
    SubnetFull(String),
    /// No interface is attached so.
    #[error("The networkInterfaceAttachment ID '{0}' does not exist")]
    AttachmentNotFound(String),
    /// The account has no such elastic address.
    #[error("Address '{0}' not found.")]
    AddressNotFound(String),
    /// The region has no more network identifiers.
    #[error("The region has no network identifier left.")]
    VnisExhausted,
    /// The region has no more public addresses.
    #[error("There are not enough free public addresses in the region.")]
    PublicAddressesExhausted,
    /// The region has no more IPv6 ranges.
    #[error("The region has no IPv6 range left.")]
    Ipv6RangesExhausted,
}

/// A kind of which an account may have so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Limit {
    Vpcs,
    Ranges,
    Subnets,
    RouteTables,
    Routes,
    InternetGateways,
    DhcpOptions,
    NetworkAcls,
    AclEntries,
    SecurityGroups,
    Rules,
    Interfaces,
    InterfaceGroups,
    Attachments,
    Addresses,
    ElasticAddresses,
}
