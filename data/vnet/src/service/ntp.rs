//! Time (NTP version 4, RFC 5905, and SNTP): the host's own clock, and honestly how good it is.
//!
//! The host's clock is the machine's; whoever keeps it right (chrony, a hypervisor) is outside of Nephos. Where nobody
//! does, the answer says "not synchronised", and clients do not follow it.
//!
//! Deliberately absent: authentication, extension fields, broadcast and symmetric modes, and control messages (the
//! amplifiers).

use super::{Ignored, Now};

/// NTP's port.
pub const PORT: u16 = 123;
const PACKET_BYTES: usize = 48;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
/// Seconds from 1900, where NTP's time begins, to 1970.
const UNIX_EPOCH_S: u64 = 2_208_988_800;

/// How good the host's clock is, as the kernel knows it (`adjtimex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Somebody keeps it right.
    pub synchronised: bool,
    /// A leap second is announced for the end of the day: 1 to be inserted, 2 to be left out, 0 none.
    pub leap: u8,
    /// How far it is from a reference clock, which has 1. Ours is one more.
    pub stratum: u8,
    /// The round trip to its reference, in microseconds.
    pub root_delay_us: u32,
    /// How wrong it can be, in microseconds.
    pub root_dispersion_us: u32,
    /// When it was set right last, in nanoseconds since the Unix epoch.
    pub set_unix_ns: u64,
}

impl ClockState {
    /// A clock that nobody is known to keep right.
    pub const UNSYNCHRONISED: ClockState = ClockState {
        synchronised: false,
        leap: 0,
        stratum: 0,
        root_delay_us: 0,
        root_dispersion_us: 0,
        set_unix_ns: 0,
    };
}

/// The answer to a client's packet.
///
/// ```text
/// leap:2, version:3, mode:3 │ stratum │ poll │ precision │ root delay:32 │ root dispersion:32 │ reference id:32 │
/// reference time:64 │ origin time:64 │ receive time:64 │ transmit time:64
/// ```
pub(super) fn answer(payload: &[u8], now: Now, clock: &ClockState) -> Result<Vec<u8>, Ignored> {
    let request: &[u8; PACKET_BYTES] = payload.first_chunk().ok_or(Ignored::Malformed)?;
    let (version, mode) = (request[0] >> 3 & 7, request[0] & 7);
    if mode != CLIENT || !(1..=4).contains(&version) {
        return Err(Ignored::Unasked);
    }
    const NOT_SYNCHRONISED: u8 = 3;
    let stratum = clock.stratum.saturating_add(1);
    let good = clock.synchronised && stratum < 16;
    // Stratum 16 is sent as 0, and the reference then is a "kiss code": INIT, not synchronised yet.
    let (leap, stratum, reference) = match good {
        true => (clock.leap & 3, stratum, [127, 127, 1, 1]),
        false => (NOT_SYNCHRONISED, 0, *b"INIT"),
    };
    // 2^-20 s: what reading the clock and the way through the switch come to.
    const PRECISION: i8 = -20;
    let mut reply = vec![leap << 6 | version << 3 | SERVER, stratum, request[2], PRECISION.to_be_bytes()[0]];
    reply.extend(short(clock.root_delay_us));
    reply.extend(short(clock.root_dispersion_us));
    reply.extend(reference);
    reply.extend(if good { time(clock.set_unix_ns) } else { [0; 8] });
    reply.extend(&request[40..]);
    reply.extend(time(now.unix_ns));
    reply.extend(time(now.unix_ns));
    Ok(reply)
}

/// NTP's short format: seconds in 16.16 bits.
fn short(us: u32) -> [u8; 4] {
    let value = (u64::from(us) << 16) / 1_000_000;
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

/// NTP's time: seconds in 32.32 bits; the era (RFC 5905, section 6) follows from the date.
fn time(unix_ns: u64) -> [u8; 8] {
    let (seconds, ns) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let era_seconds = (seconds + UNIX_EPOCH_S) & 0xffff_ffff;
    ((era_seconds << 32) | ((ns << 32) / 1_000_000_000)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: ClockState = ClockState {
        synchronised: true,
        leap: 0,
        stratum: 2,
        root_delay_us: 500_000,
        root_dispersion_us: 250_000,
        set_unix_ns: 1_000_000_000,
    };

    fn request(head: u8) -> Vec<u8> {
        let mut bytes = vec![head, 0, 6];
        bytes.resize(40, 0);
        bytes.extend(*b"transmit");
        bytes
    }

    #[test]
    fn a_client_is_told_the_host_s_time() {
        let now = Now { steady_ns: 0, unix_ns: 1_500_000_000 };
        let reply = answer(&request(0x23), now, &GOOD).unwrap();
        let expected = [
            &[0x24, 3, 6, 0xec][..],
            &[0, 0, 0x80, 0, 0, 0, 0x40, 0, 127, 127, 1, 1],
            &[0x83, 0xaa, 0x7e, 0x81, 0, 0, 0, 0],
            b"transmit",
            &[0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0],
            &[0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0],
        ];
        assert_eq!(reply, expected.concat());
    }

    #[test]
    fn a_clock_that_nobody_keeps_says_so() {
        let reply = answer(&request(0x1b), Now::default(), &ClockState::UNSYNCHRONISED).unwrap();
        assert_eq!((reply[0], reply[1], &reply[12..16]), (0xdc, 0, &b"INIT"[..]));
    }

    #[test]
    fn only_clients_are_answered() {
        for head in [0x24, 0x26, 0x27, 0x21, 0x03, 0x3b] {
            assert_eq!(answer(&request(head), Now::default(), &GOOD), Err(Ignored::Unasked));
        }
        assert_eq!(answer(&[0x23; 47], Now::default(), &GOOD), Err(Ignored::Malformed));
    }

    #[test]
    fn time_goes_on_in_the_next_era() {
        // 2036-02-07T06:28:16Z is second 0 of era 1.
        assert_eq!(time(2_085_978_496 * 1_000_000_000), [0; 8]);
    }
}
