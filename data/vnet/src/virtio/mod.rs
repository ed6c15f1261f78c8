//! A guest's network card by vhost-user: its memory, its rings, and the conversation with QEMU about them.
//!
//! ```text
//!   QEMU ──socket──► server ──bytes──► message ──► session ──effects──► device ─┬─► memory
//!                                                                               └─► queue ─► ring ◄──► guest
//!   the switch's loop ◄──────────────── packets ──────────────────── net ───────────┘
//! ```
//!
//! [`message`] says what the bytes mean, [`session`] what follows from them (both without I/O), [`device`] does it.
//! [`queue`] takes chains of buffers from a ring and gives them back, [`net`] makes packets of them. [`ring`] and
//! [`memory`] are the only places that touch a guest's memory.
//!
//! Sources: QEMU's `docs/interop/vhost-user.rst`; *Virtual I/O Device 1.2*, sections 2.7 (split virtqueues) and 5.1
//! (network device).
//!
//! Invariant: what a guest writes into its rings breaks at most that ring; what QEMU says breaks at most its
//! connection.
//! Deliberately absent: packed rings, an I/O MMU, postcopy migration, `VHOST_USER_PROTOCOL_F_CONFIG` (QEMU keeps a
//! network card's configuration itself).

pub mod device;
#[cfg(any(test, feature = "front"))]
pub mod front;
#[cfg(any(test, feature = "front"))]
pub mod hostile;
pub mod memory;
pub mod message;
pub mod net;
pub mod queue;
pub mod ring;
pub mod server;
pub mod session;

/// Feature bits: those of the device, of virtio, and of vhost.
pub mod feature {
    /// The device checksums what the guest sends with a partial checksum.
    pub const CSUM: u64 = 1 << 0;
    /// The guest takes packets with a partial checksum.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The device tells the guest its MTU.
    pub const MTU: u64 = 1 << 3;
    /// The guest takes large TCP packets over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// The guest takes large TCP packets over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// The guest sends large TCP packets over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// The guest sends large TCP packets over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// A received packet may lie in several buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// There is a link status.
    pub const STATUS: u64 = 1 << 16;
    /// The guest announces itself when told to.
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    /// Several pairs of queues.
    pub const MQ: u64 = 1 << 22;
    /// The back end logs the pages that it writes, while this is set.
    pub const LOG_ALL: u64 = 1 << 26;
    /// A buffer may lie in a table of descriptors elsewhere.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Each side says at which position it wants to be notified.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The vhost-user protocol has features of its own.
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    /// Virtio 1.0 and later.
    pub const VERSION_1: u64 = 1 << 32;
    /// The guest takes large UDP packets over IPv4.
    pub const GUEST_USO4: u64 = 1 << 54;
    /// The guest takes large UDP packets over IPv6.
    pub const GUEST_USO6: u64 = 1 << 55;
    /// The guest sends large UDP packets.
    pub const HOST_USO: u64 = 1 << 56;

    /// All that this device can.
    pub const OFFERED: u64 = CSUM
        | GUEST_CSUM
        | MTU
        | GUEST_TSO4
        | GUEST_TSO6
        | HOST_TSO4
        | HOST_TSO6
        | MRG_RXBUF
        | STATUS
        | GUEST_ANNOUNCE
        | MQ
        | LOG_ALL
        | INDIRECT_DESC
        | EVENT_IDX
        | PROTOCOL_FEATURES
        | VERSION_1
        | GUEST_USO4
        | GUEST_USO6
        | HOST_USO;
}

/// Features of the vhost-user protocol.
pub mod protocol_feature {
    /// `GET_QUEUE_NUM`.
    pub const MQ: u64 = 1 << 0;
    /// The dirty log is shared memory.
    pub const LOG_SHMFD: u64 = 1 << 1;
    /// `SEND_RARP`.
    pub const RARP: u64 = 1 << 2;
    /// A message may ask for an acknowledgement.
    pub const REPLY_ACK: u64 = 1 << 3;
    /// `NET_SET_MTU`.
    pub const NET_MTU: u64 = 1 << 4;
    /// `GET_INFLIGHT_FD`, `SET_INFLIGHT_FD`.
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    /// `RESET_DEVICE`.
    pub const RESET_DEVICE: u64 = 1 << 13;
    /// Regions of memory come and go singly.
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;

    /// All that this back end can.
    pub const OFFERED: u64 =
        MQ | LOG_SHMFD | RARP | REPLY_ACK | NET_MTU | INFLIGHT_SHMFD | RESET_DEVICE | CONFIGURE_MEM_SLOTS;
}

/// The largest ring: QEMU's own limit for a network card.
pub const RING_SIZE_MAX: u16 = 1024;

/// The most pairs of queues of a port.
pub const PAIRS_MAX: u16 = 16;
