//! A port and a guest at it, played by the front end: packets both ways, death and return, and bad behaviour. And a TAP.

mod bridge;
mod carry;
mod hostile;
mod restart;
mod rings;
mod tap;
