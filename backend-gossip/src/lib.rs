//! Light Talkbox nodes: a Nostr relay with SQLite, made for sealed mailboxes.
//!
//! [`node`] is the relay itself, which the demo and the tests of other crates run in-process:
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

pub mod node;

pub use crate::node::{Limits, Node, NodeConfig, NodeContext};
