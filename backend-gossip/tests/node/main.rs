//! The node over real sockets: every rule of the NIPs that it claims, and what hostile clients get.

mod basics;
mod deletion;
mod expiry;
mod fairness;
#[cfg(target_os = "linux")]
mod flood;
mod gating;
mod hostile;
mod http;
mod info;
mod kill;
mod maintenance;
mod mesh;
mod musts;
mod power;
mod processes;
mod reconcile;
mod replaceable;
mod restart;
mod rot;
mod skew;
mod support;
mod three;
mod vanish;
