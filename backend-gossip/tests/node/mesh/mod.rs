//! Nodes that hold the same.

mod converging;
mod support;
mod trust;
