//! A private copy of a packet's first bytes, with room in front for an outer header.
//!
//! The guest that a packet came from can go on writing to its memory; what is decided here is decided about, and sent
//! with, this copy.

/// Room in front of a packet for a Geneve header.
pub const HEADROOM: usize = 64;
/// What is copied of a packet at most. All headers must lie in it.
pub const HEAD_MAX: usize = 256;

/// The first bytes of a packet, in place, with room in front.
#[derive(Clone)]
pub struct Head {
    start: u16,
    end: u16,
    bytes: [u8; HEADROOM + HEAD_MAX],
}

impl Default for Head {
    fn default() -> Self {
        Head { start: HEADROOM as u16, end: HEADROOM as u16, bytes: [0; HEADROOM + HEAD_MAX] }
    }
}

impl Head {
    /// The first bytes of a packet; all of it, if it is no longer than [`HEAD_MAX`].
    pub fn of(packet: &[u8]) -> Head {
        let mut head = Head::default();
        head.set(packet);
        head
    }

    /// Takes up another packet.
    #[inline]
    pub fn set(&mut self, packet: &[u8]) {
        let length = packet.len().min(HEAD_MAX);
        self.start = HEADROOM as u16;
        self.end = (HEADROOM + length) as u16;
        if let (Some(to), Some(from)) =
            (self.bytes.get_mut(HEADROOM..HEADROOM + length), packet.get(..length))
        {
            to.copy_from_slice(from);
        }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start.into()..self.end.into()).unwrap_or_default()
    }

    /// The bytes, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start.into()..self.end.into()).unwrap_or_default()
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Puts bytes in front. False, and nothing done, if there is no room.
    #[inline]
    pub fn push<const N: usize>(&mut self, front: &[u8; N]) -> bool {
        let Some(start) = usize::from(self.start).checked_sub(N) else { return false };
        let Some(room) = self.bytes.get_mut(start..).and_then(|room| room.first_chunk_mut::<N>()) else {
            return false;
        };
        *room = *front;
        self.start = start as u16;
        true
    }

    /// Takes bytes off the front, at most all.
    #[inline]
    pub fn pull(&mut self, length: usize) {
        self.start = (usize::from(self.start) + length).min(self.end.into()) as u16;
    }

    /// Leaves no more than `length` bytes.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        self.end = (usize::from(self.start) + length).min(self.end.into()) as u16;
    }

    /// Puts bytes behind, as many as there is room for.
    pub fn append(&mut self, more: &[u8]) {
        let length = more.len().min(self.bytes.len() - usize::from(self.end));
        let end = usize::from(self.end);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(end..end + length), more.get(..length)) {
            to.copy_from_slice(from);
            self.end = (end + length) as u16;
        }
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().fmt(f)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Head {}
