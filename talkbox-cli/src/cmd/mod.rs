//! The commands, one file each.

pub(crate) mod backend;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod id;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod new;
pub(crate) mod node;
pub(crate) mod open;
pub(crate) mod outbox;
pub(crate) mod pin;
pub(crate) mod read;
pub(crate) mod reply;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod watch;
