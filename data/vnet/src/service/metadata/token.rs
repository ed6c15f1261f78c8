//! Session tokens of the metadata service's second version: nothing about them is stored.
//!
//! ```text
//! base64url of:  1 │ expiry, Unix seconds:64 │ random:56 │ HMAC-SHA256 over these and the instance's id
//! ```
//!
//! A token is good at the instance that got it (EC2 User Guide, "How Instance Metadata Service Version 2 works": it "can
//! only be used directly from the EC2 instance where that session began"), on any of its interfaces, until it expires,
//! and also after the switch restarted: the key is given to it.

use aws_lc_rs::hmac;
use base::random::Random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest that a token may live, in seconds: six hours.
pub const TTL_S_MAX: u64 = 21_600;

const VERSION: u8 = 1;
const CLAIM_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

/// Makes and checks tokens.
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// `secret`: of this use alone, and the same after a restart.
    pub fn new(secret: &[u8; 32]) -> TokenKey {
        TokenKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A token for an instance.
    pub fn issue(&self, random: &mut Random, now_unix_s: u64, ttl_s: u64, instance_id: &str) -> String {
        let mut token = vec![VERSION];
        token.extend(now_unix_s.saturating_add(ttl_s.min(TTL_S_MAX)).to_be_bytes());
        let mut drawn = [0; CLAIM_BYTES - 9];
        random.fill(&mut drawn);
        token.extend(drawn);
        let mac = self.mac(&token, instance_id);
        token.extend(mac.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// How many seconds a token is still good for at the instance; `None`: it is not.
    pub fn check(&self, token: &str, now_unix_s: u64, instance_id: &str) -> Option<u64> {
        let mut decoded = [0; CLAIM_BYTES + MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut decoded).ok()?;
        let (claim, mac) = decoded.split_first_chunk::<CLAIM_BYTES>()?;
        let (version, rest) = claim.split_first()?;
        if length != decoded.len() || *version != VERSION {
            return None;
        }
        hmac::verify(&self.0, &Self::signed(claim, instance_id), mac).ok()?;
        let expiry = u64::from_be_bytes(*rest.first_chunk()?);
        expiry.checked_sub(now_unix_s).filter(|left_s| (1..=TTL_S_MAX).contains(left_s))
    }

    fn mac(&self, claim: &[u8], instance_id: &str) -> hmac::Tag {
        hmac::sign(&self.0, &Self::signed(claim, instance_id))
    }

    fn signed(claim: &[u8], instance_id: &str) -> Vec<u8> {
        [b"nephos metadata token\0", claim, instance_id.as_bytes()].concat()
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_where_and_while_it_is_meant_to_be() {
        let (key, mut random) = (TokenKey::new(&[7; 32]), Random::from_seed(1));
        let token = key.issue(&mut random, 1_000, 60, "i-1");
        assert_eq!(token.len(), 64);
        // The switch restarts.
        let key = TokenKey::new(&[7; 32]);
        assert_eq!(key.check(&token, 1_000, "i-1"), Some(60));
        assert_eq!(key.check(&token, 1_059, "i-1"), Some(1));
        assert_eq!(key.check(&token, 1_060, "i-1"), None);
        assert_eq!(key.check(&token, 1_000, "i-2"), None);
        assert_eq!(TokenKey::new(&[8; 32]).check(&token, 1_000, "i-1"), None);
        assert_ne!(key.issue(&mut random, 1_000, 60, "i-1"), token);
    }

    #[test]
    fn a_changed_token_is_none() {
        let (key, mut random) = (TokenKey::new(&[7; 32]), Random::from_seed(1));
        let token = key.issue(&mut random, 1_000, 60, "i-1");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.check(std::str::from_utf8(&bytes).unwrap(), 1_000, "i-1"), None);
            assert_eq!(key.check(&token[..at], 1_000, "i-1"), None);
        }
        for other in ["", "A", &"A".repeat(64), &"A".repeat(1_000), &format!("{token}A"), "\u{e9}"] {
            assert_eq!(key.check(other, 1_000, "i-1"), None);
        }
    }
}
