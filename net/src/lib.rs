//! The one way out: how the bytes of every backend leave the process, and where they may go.
//!
//! - An [`Endpoint`] is whom bytes go to, a [`Trust`] where its name comes from. Together they decide which addresses are
//!   open to it: what somebody else's record names leads to nothing private, and a name is resolved once.
//! - [`Connect`] is the seam. [`Network`] is the real thing (TCP, a SOCKS5 [proxy](talkbox_core::Proxy), TLS), a test
//!   stands in for it. What is above the seam asks the system for nothing: no sockets, no clock, no randomness.
//!
//! A backend takes the bytes from [`Connect`] and speaks over them, as that of relays does.

mod connect;
mod endpoint;
mod network;
mod reach;
mod tls;

pub use self::{
    connect::{ByteStream, Connect, Duplex},
    endpoint::Endpoint,
    network::Network,
    reach::{Resolve, Trust},
};
