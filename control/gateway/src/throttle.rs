//! One token bucket an account, as AWS throttles its APIs.
//! Source: Amazon EC2 API Reference, "Request throttling".

use base::clock::Timestamp;
use base::ids::AccountId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Buckets that are remembered; beyond that full ones are forgotten.
const BUCKETS_MAX: usize = 10_000;

/// Limits the rate of requests of each account.
pub(crate) struct Throttle {
    per_second: f64,
    burst: f64,
    buckets: Mutex<BTreeMap<AccountId, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Throttle {
    /// `per_second` requests in the long run, twice as many at once.
    pub fn new(per_second: u32) -> Throttle {
        let per_second = f64::from(per_second.max(1));
        Throttle { per_second, burst: per_second * 2.0, buckets: Mutex::new(BTreeMap::new()) }
    }

    /// Takes a token for a request of this account; false if none is left.
    pub fn admit(&self, account: AccountId, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            let (burst, rate) = (self.burst, self.per_second);
            buckets.retain(|_, bucket| bucket.tokens + now.since(bucket.at).as_secs_f64() * rate < burst);
        }
        let bucket = buckets.entry(account).or_insert(Bucket { tokens: self.burst, at: now });
        let refill = now.since(bucket.at).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + refill).min(self.burst);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let throttle = Throttle::new(10);
        let account = AccountId::from_number(1).unwrap();
        let other = AccountId::from_number(2).unwrap();
        let at = Timestamp::from_unix_ms;
        assert_eq!((0..30).filter(|_| throttle.admit(account, at(0))).count(), 20);
        assert!(throttle.admit(other, at(0)), "one account's storm is not another's");
        assert!(!throttle.admit(account, at(50)));
        assert_eq!((0..30).filter(|_| throttle.admit(account, at(1_050))).count(), 10);
    }
}
