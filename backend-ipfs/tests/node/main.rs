//! Nodes and backends over real sockets, in the situations that the conformance kit does not make.

#[path = "../conformance/front.rs"]
mod front;

mod finding;
mod limits;
mod maintenance;
mod many_logs;
mod months;
mod replication;
mod restarts;
mod sharing;
mod support;
