//! Mailboxes as OrbitDB logs on IPFS.

mod bitswap;
mod client;
mod node;
mod orbitdb;
mod pinning;
mod store;
mod sync;
