//! OrbitDB and IPFS by other people. `scripts/test` says where they are.

mod fixture;
mod forge;
mod network;
mod ours;
mod peer;
mod poison;
mod replicate;
mod volume;
