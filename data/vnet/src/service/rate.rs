//! How much a port may ask of the services.

/// A token bucket that counts packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    per_second: u64,
    /// In billionths of a packet.
    left: u64,
    filled_ns: u64,
}

const PACKET: u64 = 1_000_000_000;

impl Bucket {
    /// Full: a second's worth.
    pub fn new(now_ns: u64, per_second: u32) -> Bucket {
        let per_second = u64::from(per_second);
        Bucket { per_second, left: per_second * PACKET, filled_ns: now_ns }
    }

    /// Takes one packet out, if there is one.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let gained = now_ns.saturating_sub(self.filled_ns).saturating_mul(self.per_second);
        self.left = self.left.saturating_add(gained).min(self.per_second * PACKET);
        self.filled_ns = self.filled_ns.max(now_ns);
        let taken = self.left.checked_sub(PACKET);
        self.left = taken.unwrap_or(self.left);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_and_then_no_more_than_the_rate() {
        let mut bucket = Bucket::new(0, 1024);
        assert_eq!((0..2_000).filter(|_| bucket.take(0)).count(), 1024);
        assert_eq!((1..=2_000u64).filter(|half_ms| bucket.take(half_ms * 500_000)).count(), 1024);
        assert_eq!((0..5_000).filter(|_| bucket.take(10_000_000_000)).count(), 1024);
        assert!(!bucket.take(0));
    }
}
