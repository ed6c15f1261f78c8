//! What the switch has with the kernel: the underlay ([`uplink`]) and endpoints that are the machine's own ([`tap`]).
//!
//! Called by the switch's loop. Both take a packet's payload where it lies, in a guest's memory or anywhere else.

pub mod tap;
pub mod uplink;
