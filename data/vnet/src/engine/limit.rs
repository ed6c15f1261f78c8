//! A token bucket: what a port may send and get a second.
//!
//! Kept as the time at which the bucket would be full again (the generic cell rate algorithm, ITU-T I.371), so that it
//! is one number and no timer. A packet passes if that lies no further ahead than the burst.

use super::Nanos;

/// Bits and packets a second, each; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limit {
    /// Of whole Ethernet frames.
    pub bits_per_second: u64,
    /// As they are on the wire: of a large packet, its pieces.
    pub packets_per_second: u64,
}

/// What may come at once after a pause: this long's worth. At least one packet always may.
const BURST_NS: u64 = 100_000_000;
/// Binary places of a cost.
const PLACES: u32 = 16;

/// One direction of a port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    byte_cost: u64,
    packet_cost: u64,
    bits_full_ns: u64,
    packets_full_ns: u64,
}

impl Bucket {
    /// Full.
    pub fn new(limit: Limit) -> Bucket {
        let cost = |rate: u64, unit: u64| match rate {
            0 => 0,
            rate => ((u128::from(unit) * 1_000_000_000) << PLACES).div_ceil(rate.into()).min(1 << 46) as u64,
        };
        Bucket {
            byte_cost: cost(limit.bits_per_second, 8),
            packet_cost: cost(limit.packets_per_second, 1),
            ..Bucket::default()
        }
    }

    /// Another limit, from here on; what was used stays used.
    pub fn change(&mut self, limit: Limit) {
        let (bits_full_ns, packets_full_ns) = (self.bits_full_ns, self.packets_full_ns);
        *self = Bucket { bits_full_ns, packets_full_ns, ..Bucket::new(limit) };
    }

    /// Takes what packets cost, if there is enough.
    #[inline]
    pub fn take(&mut self, now: Nanos, packets: u32, bytes: u32) -> bool {
        if self.byte_cost | self.packet_cost == 0 {
            return true;
        }
        let bits_full_ns = self.bits_full_ns.max(now.0);
        let packets_full_ns = self.packets_full_ns.max(now.0);
        if bits_full_ns > now.0 + BURST_NS || packets_full_ns > now.0 + BURST_NS {
            return false;
        }
        let cost = |each: u64, count: u32| ((u128::from(each) * u128::from(count)) >> PLACES) as u64;
        self.bits_full_ns = bits_full_ns + cost(self.byte_cost, bytes);
        self.packets_full_ns = packets_full_ns + cost(self.packet_cost, packets);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(limit: Limit, bytes: u32, seconds: u64, every_ns: u64) -> u64 {
        let mut bucket = Bucket::new(limit);
        let times = (0..seconds * 1_000_000_000 / every_ns).map(|turn| Nanos(turn * every_ns));
        times.filter(|now| bucket.take(*now, 1, bytes)).count() as u64
    }

    #[test]
    fn a_rate_is_kept_after_one_burst() {
        let bits = Limit { bits_per_second: 8_000_000, packets_per_second: 0 };
        // 1 MB/s in packets of 1,000 bytes, ten times as many offered, for 10 s and a burst of 0.1 s.
        let packets = passed(bits, 1_000, 10, 100_000);
        assert!((10_095..=10_105).contains(&packets), "{packets}");
        let rate = Limit { bits_per_second: 0, packets_per_second: 1_000 };
        let packets = passed(rate, 1_000, 10, 100_000);
        assert!((10_095..=10_105).contains(&packets), "{packets}");
    }

    #[test]
    fn no_limit_and_the_smallest() {
        assert_eq!(passed(Limit::default(), 1_500, 1, 1_000_000), 1_000);
        let least = Limit { bits_per_second: 1, packets_per_second: 1 };
        assert_eq!(passed(least, 65_535, 1, 1_000_000), 1);
    }
}
