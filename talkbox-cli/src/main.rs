//! The `talkbox` command with the backends that come with it. The node is in it, too: `talkbox node`.

use std::process::ExitCode;

use talkbox_core::{Registry, memory};

fn main() -> ExitCode {
    let registry = Registry::new()
        .with(memory::backend())
        .with(talkbox_backend_nostr::backend())
        .with(talkbox_backend_gossip::backend())
        .with(talkbox_backend_ipfs::backend())
        .with_composition("hybrid", "ipfs", "nostr");
    talkbox_cli::run(registry)
}
