//! A network in memory: the reference that the other backends are compared with, and what tests run on.
//!
//! A [`MemoryNetwork`] is a few named holders. Any number of backends open on it, so that a sender, an owner and one
//! who comes back later are different backends on one network. Opened by name from the configuration it is a network
//! of its own, and goes with the process.

mod half;
mod holder;
mod mailbox;
mod network;
#[cfg(test)]
mod tests;
mod transport;
mod watch;

pub use self::network::{MemoryConfig, MemoryNetwork};

use crate::backend::BackendDef;

/// The scheme of the locators, and the name of the kind of backend.
pub const SCHEME: &str = "memory";

/// The kind of backend for the registry: `backend = "memory"`, or `memory:a` for one holder named `a`.
pub fn backend() -> BackendDef {
    BackendDef {
        name: SCHEME,
        about: "in this process alone, for trying things out and for tests",
        schemes: &[SCHEME],
        uri_key: Some("holders"),
        keys: &["holders", "gated", "max_envelope_bytes", "max_envelopes"],
        list_keys: &[],
        open: |config, context| {
            Box::pin(async move {
                let network =
                    MemoryNetwork::new(config.read::<MemoryConfig>()?, context.clock)?.ending_with_the_process();
                Ok(network.open(&context.name))
            })
        },
    }
}
