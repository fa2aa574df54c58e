//! Light Talkbox nodes: the node itself, a Nostr relay with SQLite made for sealed mailboxes, and the [`backend`] that
//! keeps mailboxes on such nodes.
//!
//! [`node`] is the node, which the demo and the tests of other crates run in-process:
//!
//! ```no_run
//! use talkbox_backend_gossip::node::{Node, NodeConfig, NodeContext};
//!
//! # async fn example() -> talkbox_core::Result<()> {
//! let node = Node::start(NodeConfig::loopback(), NodeContext::default()).await?;
//! assert!(node.url().starts_with("ws://127.0.0.1:"));
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The backend talks to nodes over HTTP, as `docs/formats.md` §9 has it:
//!
//! ```
//! use talkbox_core::Registry;
//!
//! let registry = Registry::new().with(talkbox_backend_gossip::backend());
//! assert_eq!(registry.for_scheme("gossip").map(|def| def.name), Some("gossip"));
//! ```

mod client;
pub mod node;

pub use crate::{
    client::backend,
    node::{Limits, Node, NodeConfig, NodeContext},
};
