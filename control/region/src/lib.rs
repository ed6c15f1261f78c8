//! The region: the API's meaning, the resource manager and the choice of zone and cell.
//!
//! ```text
//!  api ──Request──► region ──Commit──► store          (accept, decide)
//!   ▲                 │  ▲                             
//!   └──reads── model ◄┘  └──reports── cells ◄─intents── region   (carry out, report)
//! ```
//!
//! [`region::Region`] is the one owner of all that changes: a synchronous state machine that the process's shell
//! ([`serve`]) and the simulator drive alike. Reads are served from the [`model::Model`] beside it.
//!
//! Invariant: nothing is answered or sent that is not durable in the store.

pub mod account;
pub mod address;
pub mod api;
pub mod asker;
pub mod cidr;
pub mod config;
pub mod dhcp_options;
pub mod fleet;
pub mod image;
pub mod instance;
pub mod internet_gateway;
pub mod key_pair;
pub mod model;
pub mod network;
pub mod network_acl;
pub mod network_interface;
pub mod operator;
pub mod owner;
pub mod placement;
pub mod pool;
pub mod record;
pub mod refusal;
pub mod region;
pub mod request;
pub mod route_table;
pub mod scene;
pub mod security_group;
pub mod serve;
pub mod subnet;
pub mod tag;
pub mod vpc;
