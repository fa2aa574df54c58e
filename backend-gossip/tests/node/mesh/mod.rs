//! Nodes that hold the same.

mod candidates;
mod converging;
mod hostile;
pub(crate) mod support;
mod trust;
