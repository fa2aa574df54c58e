//! What nodes of this kind say to one another, each protocol over a stream of its own (`docs/formats.md` §8):
//!
//! - `/talkbox/sync/1` makes two logs the same, or gives a peer what was made anew: [`exchange`], [`Push`], [`serve`].
//! - `/talkbox/have/1` asks what a peer holds: [`have`].
//! - `/talkbox/record/1` and `/talkbox/publish/1` read and give records: [`record`], [`publish`].
//!
//! All of them know neither the swarm nor the store: a stream is whatever reads and writes, and what they need of a store
//! is in the small traits [`Replica`], [`have::Holdings`] and [`record::Records`]. [`stored`] has these for the store of a
//! node.

mod car;
mod channel;
mod client;
mod compare;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod greeting;
pub(crate) mod have;
mod limits;
mod pace;
pub(crate) mod publish;
pub(crate) mod record;
mod replica;
mod server;
pub(crate) mod stored;
#[cfg(test)]
mod tests;
mod transfer;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::greeting::MAX_HEADS;
#[cfg(test)]
pub(crate) use self::{
    client::{Exchange, look},
    server::Served,
};
pub(crate) use self::{
    client::{Push, exchange},
    greeting::{Code, Refusal, Request, Standing},
    limits::Limits,
    replica::{Digest, Replica, Taken},
    server::serve,
};

/// Makes two logs the same.
pub(crate) const SYNC: &str = "/talkbox/sync/1";
/// Asks what a peer holds.
pub(crate) const HAVE: &str = "/talkbox/have/1";
/// Reads a record.
pub(crate) const RECORD: &str = "/talkbox/record/1";
/// Gives a record.
pub(crate) const PUBLISH: &str = "/talkbox/publish/1";
