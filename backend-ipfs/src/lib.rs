//! Talkbox on IPFS: a mailbox is a log of OrbitDB for each month, which libp2p peers replicate. On the wire it is what
//! `@orbitdb/core` 4 speaks, so that JavaScript peers, in Node.js and in browsers, hold the same mailbox.
//!
//! - [`backend`] keeps mailboxes on peers: it is a peer of its own while it is open, and keeps nothing for others.
//! - [`report`] says how the logs of a mailbox stand, here, at peers and at pinning services.
//! - [`IpfsNode`] is a peer that keeps mailboxes for others, and signs that it does; [`maintenance`] backs its store up and
//!   checks it.
//!
//! ```
//! use talkbox_core::Registry;
//!
//! let registry = Registry::new().with(talkbox_backend_ipfs::backend());
//! assert_eq!(registry.for_scheme("ipfs").map(|def| def.name), Some("ipfs"));
//! ```
//!
//! `docs/formats.md` §8 has the exact bytes, `docs/ipfs.md` what an operator should know.

#[cfg(feature = "bench")]
pub mod bench;
mod bitswap;
mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod maintenance;
mod node;
mod orbitdb;
mod pinning;
mod service;
mod store;
mod sync;

pub use crate::{
    client::{
        backend,
        report::{LogReport, MonthReport, PeerMonth, PeerReport, pin_settings, report},
    },
    node::settings::Dht,
    pinning::{PinLine, PinList, PinReport, PinSettings, pin_list, pin_status, pin_tokens, read_pins},
    service::{IpfsNode, IpfsNodeConfig, IpfsNodeState},
};
