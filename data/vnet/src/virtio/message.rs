//! What the two ends of a vhost-user socket say, and how it lies on the wire.
//!
//! ```text
//!   ┌─ 0: request ─┬─ 4: flags ─┬─ 8: size ─┬─ 12: payload, `size` bytes ─┐   all in the machine's byte order,
//!   └──────────────┴────────────┴───────────┴─────────────────────────────┘   descriptors beside the first byte
//!                    bits 0-1: version, 1;  bit 2: this is a reply;  bit 3: the sender wants a reply
//! ```
//!
//! Called by the server, which owns the socket, and by the front end that plays QEMU in tests. Descriptors are of
//! any type `F`: the meaning of a message does not depend on what they are.
//!
//! Invariant: decoding is total: any bytes with any descriptors give a request or an error.

use crate::packet::Mac;
use thiserror::Error;

/// Bytes before each payload.
pub const HEADER_LENGTH: usize = 12;
/// The longest payload that is read; the longest that is defined for a network card has 264 bytes.
pub const PAYLOAD_LENGTH_MAX: usize = 1024;
/// The most descriptors that come with a message.
pub const DESCRIPTORS_MAX: usize = 8;

const VERSION_MASK: u32 = 0b11;
const VERSION: u32 = 1;
const FLAG_REPLY: u32 = 1 << 2;
const FLAG_NEED_REPLY: u32 = 1 << 3;
/// In the number of a ring that comes with a descriptor: it comes without.
const RING_WITHOUT_DESCRIPTOR: u64 = 1 << 8;

/// The numbers of the requests (`VHOST_USER_...`).
pub mod number {
    #![allow(missing_docs)]
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_LOG_BASE: u32 = 6;
    pub const SET_LOG_FD: u32 = 7;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const SEND_RARP: u32 = 19;
    pub const NET_SET_MTU: u32 = 20;
    pub const GET_INFLIGHT_FD: u32 = 31;
    pub const SET_INFLIGHT_FD: u32 = 32;
    pub const RESET_DEVICE: u32 = 34;
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
}

/// What is before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// See [`number`].
    pub request: u32,
    /// It answers a request.
    pub reply: bool,
    /// Its sender wants to hear whether it was carried out.
    pub need_reply: bool,
    /// Bytes of payload; at most [`PAYLOAD_LENGTH_MAX`].
    pub size: usize,
}

impl Header {
    /// Reads one.
    pub fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Header, MessageError> {
        let mut fields = Fields(bytes);
        let (request, flags, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        if flags & VERSION_MASK != VERSION {
            return Err(MessageError::Version { flags });
        }
        let size = size as usize;
        if size > PAYLOAD_LENGTH_MAX {
            return Err(MessageError::TooLong { request, size });
        }
        Ok(Header { request, reply: flags & FLAG_REPLY != 0, need_reply: flags & FLAG_NEED_REPLY != 0, size })
    }

    /// A whole message.
    pub fn encode(self, payload: &[u8]) -> Vec<u8> {
        let flags = VERSION
            | if self.reply { FLAG_REPLY } else { 0 }
            | if self.need_reply { FLAG_NEED_REPLY } else { 0 };
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + payload.len());
        for field in [self.request, flags, size] {
            bytes.extend_from_slice(&field.to_ne_bytes());
        }
        bytes.extend_from_slice(payload);
        bytes
    }
}

/// A piece of a guest's memory: 32 bytes, four numbers in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its address in the guest.
    pub guest: u64,
    /// Bytes.
    pub size: u64,
    /// Its address in QEMU, which rings' addresses are given in.
    pub user: u64,
    /// Where it begins in the file that comes with it.
    pub offset: u64,
}

/// Where a ring's three parts lie (40 bytes: index, flags, then four addresses).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingAddresses {
    /// Which ring.
    pub index: u32,
    /// Bit 0: writes of the used ring are logged.
    pub flags: u32,
    /// Descriptors, an address in QEMU.
    pub descriptors: u64,
    /// The used ring, likewise.
    pub used: u64,
    /// The available ring, likewise.
    pub available: u64,
    /// The used ring's address in the guest, for the log.
    pub log: u64,
}

/// Of a record of what is in flight (20 bytes: size, offset, queues, ring size).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflight {
    /// Bytes of shared memory.
    pub size: u64,
    /// Where they begin in their file.
    pub offset: u64,
    /// Rings.
    pub queues: u16,
    /// Entries of each.
    pub queue_size: u16,
}

/// What a front end asks. `F` is a file descriptor.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Request<F> {
    GetFeatures,
    SetFeatures(u64),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    SetOwner,
    ResetOwner,
    ResetDevice,
    SetMemTable(Vec<(Region, F)>),
    GetMaxMemSlots,
    AddMemRegion(Region, F),
    RemoveMemRegion(Region),
    /// Without a descriptor: the log is QEMU's own memory, which nobody else can write.
    SetLogBase {
        size: u64,
        offset: u64,
        log: Option<F>,
    },
    SetLogFd(Option<F>),
    SetVringNum {
        index: u32,
        size: u32,
    },
    SetVringAddresses(RingAddresses),
    SetVringBase {
        index: u32,
        position: u32,
    },
    GetVringBase {
        index: u32,
    },
    SetVringKick {
        index: u32,
        kick: Option<F>,
    },
    SetVringCall {
        index: u32,
        call: Option<F>,
    },
    SetVringError {
        index: u32,
        error: Option<F>,
    },
    SetVringEnable {
        index: u32,
        enabled: bool,
    },
    GetQueueNum,
    SendRarp(Mac),
    SetMtu(u64),
    GetInflight(Inflight),
    SetInflight(Inflight, F),
    /// One that this back end does not know; QEMU may have asked for a reply.
    Unknown(u32),
}

/// What cannot be a message. The connection cannot go on: where the next one begins, or what it rests on, is unknown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MessageError {
    #[error("not version 1 of vhost-user: flags {flags:#x}")]
    Version { flags: u32 },
    #[error("request {request} has a payload of {size} bytes")]
    TooLong { request: u32, size: usize },
    #[error("a front end may not reply: request {request}")]
    Reply { request: u32 },
    #[error("request {request} ends early")]
    TooShort { request: u32 },
    #[error("request {request} came with {found} file descriptors, not {expected}")]
    Descriptors { request: u32, found: usize, expected: usize },
}

impl<F> Request<F> {
    /// Reads a request. Bytes behind what is known are no error: a newer front end may say more.
    pub fn decode(header: &Header, payload: &[u8], descriptors: Vec<F>) -> Result<Request<F>, MessageError> {
        let request = header.request;
        if header.reply {
            return Err(MessageError::Reply { request });
        }
        decode(request, payload, descriptors).map_err(|error| match error {
            MessageError::TooShort { .. } => MessageError::TooShort { request },
            other => other,
        })
    }

    /// Its number, payload and descriptors.
    pub fn encode(self) -> (u32, Vec<u8>, Vec<F>) {
        use Request as R;
        use number as n;
        let ring = |request: u32, index: u32, descriptor: Option<F>| {
            let without = if descriptor.is_none() { RING_WITHOUT_DESCRIPTOR } else { 0 };
            (request, (u64::from(index) | without).to_ne_bytes().to_vec(), descriptor.into_iter().collect())
        };
        let number = |request: u32, value: u64| (request, value.to_ne_bytes().to_vec(), Vec::new());
        let pair = |request: u32, index: u32, value: u32| {
            (request, [index.to_ne_bytes(), value.to_ne_bytes()].concat(), Vec::new())
        };
        let alone = |request: u32| (request, Vec::new(), Vec::new());
        match self {
            R::GetFeatures => alone(n::GET_FEATURES),
            R::SetFeatures(bits) => number(n::SET_FEATURES, bits),
            R::GetProtocolFeatures => alone(n::GET_PROTOCOL_FEATURES),
            R::SetProtocolFeatures(bits) => number(n::SET_PROTOCOL_FEATURES, bits),
            R::SetOwner => alone(n::SET_OWNER),
            R::ResetOwner => alone(n::RESET_OWNER),
            R::ResetDevice => alone(n::RESET_DEVICE),
            R::SetMemTable(regions) => {
                let mut bytes = u64::try_from(regions.len()).unwrap_or(u64::MAX).to_ne_bytes().to_vec();
                let mut descriptors = Vec::new();
                for (region, descriptor) in regions {
                    region.put(&mut bytes);
                    descriptors.push(descriptor);
                }
                (n::SET_MEM_TABLE, bytes, descriptors)
            }
            R::GetMaxMemSlots => alone(n::GET_MAX_MEM_SLOTS),
            R::AddMemRegion(region, descriptor) => (n::ADD_MEM_REG, region.single(), vec![descriptor]),
            R::RemoveMemRegion(region) => (n::REM_MEM_REG, region.single(), Vec::new()),
            R::SetLogBase { size, offset, log } => (
                n::SET_LOG_BASE,
                [size.to_ne_bytes(), offset.to_ne_bytes()].concat(),
                log.into_iter().collect(),
            ),
            R::SetLogFd(log) => (n::SET_LOG_FD, Vec::new(), log.into_iter().collect()),
            R::SetVringNum { index, size } => pair(n::SET_VRING_NUM, index, size),
            R::SetVringAddresses(addresses) => (n::SET_VRING_ADDR, addresses.bytes(), Vec::new()),
            R::SetVringBase { index, position } => pair(n::SET_VRING_BASE, index, position),
            R::GetVringBase { index } => pair(n::GET_VRING_BASE, index, 0),
            R::SetVringKick { index, kick } => ring(n::SET_VRING_KICK, index, kick),
            R::SetVringCall { index, call } => ring(n::SET_VRING_CALL, index, call),
            R::SetVringError { index, error } => ring(n::SET_VRING_ERR, index, error),
            R::SetVringEnable { index, enabled } => pair(n::SET_VRING_ENABLE, index, u32::from(enabled)),
            R::GetQueueNum => alone(n::GET_QUEUE_NUM),
            R::SendRarp(Mac([a, b, c, d, e, f])) => (n::SEND_RARP, vec![a, b, c, d, e, f, 0, 0], Vec::new()),
            R::SetMtu(mtu) => number(n::NET_SET_MTU, mtu),
            R::GetInflight(inflight) => (n::GET_INFLIGHT_FD, inflight.bytes(), Vec::new()),
            R::SetInflight(inflight, descriptor) => (n::SET_INFLIGHT_FD, inflight.bytes(), vec![descriptor]),
            R::Unknown(request) => alone(request),
        }
    }
}

fn decode<F>(request: u32, payload: &[u8], descriptors: Vec<F>) -> Result<Request<F>, MessageError> {
    use Request as R;
    use number as n;
    let mut fields = Fields(payload);
    let decoded = match request {
        n::GET_FEATURES => R::GetFeatures,
        n::SET_FEATURES => R::SetFeatures(fields.u64()?),
        n::GET_PROTOCOL_FEATURES => R::GetProtocolFeatures,
        n::SET_PROTOCOL_FEATURES => R::SetProtocolFeatures(fields.u64()?),
        n::SET_OWNER => R::SetOwner,
        n::RESET_OWNER => R::ResetOwner,
        n::RESET_DEVICE => R::ResetDevice,
        n::GET_MAX_MEM_SLOTS => R::GetMaxMemSlots,
        n::SET_VRING_NUM => R::SetVringNum { index: fields.u32()?, size: fields.u32()? },
        n::SET_VRING_ADDR => R::SetVringAddresses(RingAddresses::read(&mut fields)?),
        n::SET_VRING_BASE => R::SetVringBase { index: fields.u32()?, position: fields.u32()? },
        n::GET_VRING_BASE => R::GetVringBase { index: fields.u32()? },
        n::SET_VRING_ENABLE => R::SetVringEnable { index: fields.u32()?, enabled: fields.u32()? != 0 },
        n::GET_QUEUE_NUM => R::GetQueueNum,
        n::SEND_RARP => R::SendRarp(Mac(fields.bytes()?)),
        n::NET_SET_MTU => R::SetMtu(fields.u64()?),
        n::GET_INFLIGHT_FD => R::GetInflight(Inflight::read(&mut fields)?),
        _ => return decode_with(request, fields, descriptors),
    };
    if descriptors.is_empty() {
        Ok(decoded)
    } else {
        Err(MessageError::Descriptors { request, found: descriptors.len(), expected: 0 })
    }
}

/// Those that come with descriptors, and those that nobody knows.
fn decode_with<F>(
    request: u32,
    mut fields: Fields<'_>,
    descriptors: Vec<F>,
) -> Result<Request<F>, MessageError> {
    use Request as R;
    use number as n;
    match request {
        n::SET_MEM_TABLE => {
            let expected = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
            if expected != descriptors.len() {
                return Err(MessageError::Descriptors { request, found: descriptors.len(), expected });
            }
            let region = |descriptor| Ok((Region::read(&mut fields)?, descriptor));
            Ok(R::SetMemTable(descriptors.into_iter().map(region).collect::<Result<_, _>>()?))
        }
        n::ADD_MEM_REG => {
            let _padding = fields.u64()?;
            let region = Region::read(&mut fields)?;
            Ok(R::AddMemRegion(region, one(request, descriptors)?))
        }
        n::REM_MEM_REG => {
            let _padding = fields.u64()?;
            // QEMU sends the region's descriptor along, which the text does not ask for.
            Ok(R::RemoveMemRegion(Region::read(&mut fields)?))
        }
        n::SET_LOG_BASE => {
            let (size, offset) = (fields.u64()?, fields.u64()?);
            Ok(R::SetLogBase { size, offset, log: at_most_one(request, descriptors)? })
        }
        n::SET_LOG_FD => Ok(R::SetLogFd(at_most_one(request, descriptors)?)),
        n::SET_VRING_KICK | n::SET_VRING_CALL | n::SET_VRING_ERR => {
            let value = fields.u64()?;
            let index = (value & 0xff) as u32;
            let without = value & RING_WITHOUT_DESCRIPTOR != 0;
            let descriptor = if without { None } else { Some(one(request, descriptors)?) };
            Ok(match request {
                n::SET_VRING_KICK => R::SetVringKick { index, kick: descriptor },
                n::SET_VRING_CALL => R::SetVringCall { index, call: descriptor },
                _ => R::SetVringError { index, error: descriptor },
            })
        }
        n::SET_INFLIGHT_FD => {
            let inflight = Inflight::read(&mut fields)?;
            Ok(R::SetInflight(inflight, one(request, descriptors)?))
        }
        // What comes with it is dropped, and with that closed.
        unknown => Ok(R::Unknown(unknown)),
    }
}

fn one<F>(request: u32, descriptors: Vec<F>) -> Result<F, MessageError> {
    let found = descriptors.len();
    at_most_one(request, descriptors)?.ok_or(MessageError::Descriptors { request, found, expected: 1 })
}

fn at_most_one<F>(request: u32, descriptors: Vec<F>) -> Result<Option<F>, MessageError> {
    let found = descriptors.len();
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (first, None) => Ok(first),
        _ => Err(MessageError::Descriptors { request, found, expected: 1 }),
    }
}

impl Region {
    fn read(fields: &mut Fields<'_>) -> Result<Region, MessageError> {
        let (guest, size, user, offset) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        Ok(Region { guest, size, user, offset })
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        for field in [self.guest, self.size, self.user, self.offset] {
            bytes.extend_from_slice(&field.to_ne_bytes());
        }
    }

    fn single(&self) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        self.put(&mut bytes);
        bytes
    }
}

impl RingAddresses {
    fn read(fields: &mut Fields<'_>) -> Result<RingAddresses, MessageError> {
        Ok(RingAddresses {
            index: fields.u32()?,
            flags: fields.u32()?,
            descriptors: fields.u64()?,
            used: fields.u64()?,
            available: fields.u64()?,
            log: fields.u64()?,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.index.to_ne_bytes(), self.flags.to_ne_bytes()].concat();
        for field in [self.descriptors, self.used, self.available, self.log] {
            bytes.extend_from_slice(&field.to_ne_bytes());
        }
        bytes
    }
}

impl Inflight {
    fn read(fields: &mut Fields<'_>) -> Result<Inflight, MessageError> {
        let (size, offset) = (fields.u64()?, fields.u64()?);
        Ok(Inflight { size, offset, queues: fields.u16()?, queue_size: fields.u16()? })
    }

    /// As on the wire, with the padding that QEMU's structure has at its end.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.size.to_ne_bytes(), self.offset.to_ne_bytes()].concat();
        bytes.extend_from_slice(&self.queues.to_ne_bytes());
        bytes.extend_from_slice(&self.queue_size.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }
}

/// Reads numbers off the front of a payload. Its error is completed by whoever knows the request.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(MessageError::TooShort { request: 0 })?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.bytes().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        self.bytes().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, MessageError> {
        self.bytes().map(u64::from_ne_bytes)
    }
}
