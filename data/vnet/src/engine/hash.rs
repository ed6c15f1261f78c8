//! A keyed hash of six words, for tables whose keys guests choose.
//!
//! NH, as UMAC has it (Black, Halevi, Krawczyk, Krovetz, Rogaway 1999, section 4), then multiply-shift (Dietzfelbinger
//! 1996): two different keys share a slot no more often than chance has it, whoever chose them, as long as he does not
//! know the random numbers. Eight multiplications.

use base::random::Random;

/// The random numbers of one process.
#[derive(Clone)]
pub struct HashKey {
    first: [u64; 6],
    second: [u128; 3],
}

impl HashKey {
    /// Drawn from a process' own randomness.
    pub fn new(random: &mut Random) -> HashKey {
        let mut key = HashKey { first: [0; 6], second: [0; 3] };
        key.first.iter_mut().for_each(|word| *word = random.u64());
        key.second.iter_mut().for_each(|word| *word = random.u128());
        key
    }

    /// 64 bits, each as good as any other.
    #[inline]
    pub fn hash(&self, key: &[u64; 6]) -> u64 {
        let [a, b, c, d, e, f] = *key;
        let [ka, kb, kc, kd, ke, kf] = self.first;
        let pair = |x: u64, y: u64| u128::from(x) * u128::from(y);
        let sum = pair(a.wrapping_add(ka), b.wrapping_add(kb))
            .wrapping_add(pair(c.wrapping_add(kc), d.wrapping_add(kd)))
            .wrapping_add(pair(e.wrapping_add(ke), f.wrapping_add(kf)));
        let [low, high, offset] = self.second;
        let folded = low
            .wrapping_mul(u128::from(sum as u64))
            .wrapping_add(high.wrapping_mul(sum >> 64))
            .wrapping_add(offset);
        (folded >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that differ in few bits, as ports and addresses do: no slot of 4,096 is far from its share.
    #[test]
    fn near_keys_are_spread() {
        let key = HashKey::new(&mut Random::from_seed(7));
        let mut slots = vec![0u32; 4096];
        for address in 0..64u64 {
            for port in 0..1024u64 {
                slots[(key.hash(&[0, 0, 0, address, port << 16, 1]) & 4095) as usize] += 1;
            }
        }
        assert_eq!(slots.iter().sum::<u32>(), 65536);
        assert!(slots.iter().all(|count| *count < 48), "{:?}", slots.iter().max());
    }
}
