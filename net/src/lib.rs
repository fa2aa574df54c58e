//! The one way out: how the bytes of every backend leave the process, and how answers come back.
//!
//! - An [`Endpoint`] is whom bytes go to, a [`Trust`] where its name comes from. Together they decide which addresses are
//!   open to it: what somebody else's record names leads to nothing private, and a name is resolved once.
//! - [`Connect`] is the seam. [`Network`] is the real thing (TCP, a SOCKS5 [proxy](talkbox_core::Proxy), TLS), a test
//!   stands in for it. What is above the seam asks the system for nothing: no sockets, no clock, no randomness.
//! - [`Http`] asks over it, with bounds on everything that comes back; [`events()`] and [`lines()`] read what goes on.
//!
//! A backend that speaks something else takes the bytes from [`Connect`] itself, as that of relays does.

mod back_off;
mod connect;
mod endpoint;
mod events;
mod http;
mod lines;
mod network;
mod reach;
mod tls;

pub use self::{
    back_off::BackOff,
    connect::{ByteStream, Connect, Duplex},
    endpoint::Endpoint,
    events::{EventLimits, ServerEvent, events},
    http::{Bounds, Chunks, Http, Limits, Request, Response, StreamLimits, Streamed},
    lines::lines,
    network::Network,
    reach::{Resolve, Trust, is_global},
};
/// The words of HTTP that requests and answers are made of.
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
