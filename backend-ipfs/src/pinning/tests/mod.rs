//! A service, a store and a network to pin with, and what comes of it.

mod keeping;
mod server;
mod stored;
mod talking;
mod world;
