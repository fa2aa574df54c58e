//! The way out against servers that mean well, and against those that do not: on loopback, or in memory, where time is
//! virtual.

mod bounds;
mod keeping;
mod reaching;
mod streams;
mod support;
mod tls;
