//! The node over HTTP.

mod bounds;
mod custody;
mod mail;
mod records;
mod support;
mod watch;
