//! The node over HTTP.

mod bounds;
mod custody;
mod mail;
mod records;
pub(crate) mod support;
mod watch;
