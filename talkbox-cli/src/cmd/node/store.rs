//! What is done with the store of a node, whether the node runs or not.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use talkbox_backend_gossip::node::maintenance::{self, Verified};
use talkbox_backend_ipfs::maintenance as ipfs;
use talkbox_core::{Clock as _, Error, ErrorKind, SystemClock};

use super::ipfs::FOLDER;
use crate::{
    exit::{Code, Failure, Outcome},
    output::Output,
};

/// What the name of the copy of a peer's store has behind that of the node's.
const OF_PEER: &str = ".ipfs";

/// `talkbox node backup`: both stores, or none.
pub(super) async fn backup(output: &Output, data: &Path, to: &Path) -> Outcome {
    let (from, target) = (data.to_owned(), to.to_owned());
    let (made, peer) = blocking(move || back_up(&from, &target)).await?;
    if output.is_json() {
        let peer = peer.map(|peer| json!({"path": peer.path, "bytes": peer.bytes, "blocks": peer.blocks}));
        output.object(&json!({"path": made.path, "bytes": made.bytes, "events": made.events, "ipfs": peer}))?;
        return Ok(Code::Done);
    }
    output.line(format_args!("{} events, {} bytes, in {}", made.events, made.bytes, made.path.display()))?;
    let mut note = "to go back to it, put it into an empty folder as node.sqlite3, with node.key beside it".to_owned();
    if let Some(peer) = peer {
        let place = peer.path.display();
        output.line(format_args!("{} blocks of the peer on IPFS, {} bytes, in {place}", peer.blocks, peer.bytes))?;
        note += ", and that of the peer as ipfs/ipfs.sqlite3 there";
    }
    output.note(note);
    Ok(Code::Done)
}

fn back_up(data: &Path, to: &Path) -> talkbox_core::Result<(maintenance::BackedUp, Option<ipfs::BackedUp>)> {
    let made = maintenance::backup(data, to)?;
    let Some(store) = ipfs::store_in(&data.join(FOLDER)) else { return Ok((made, None)) };
    let mut beside = to.as_os_str().to_owned();
    beside.push(OF_PEER);
    match ipfs::backup(&store, &PathBuf::from(beside)) {
        Ok(peer) => Ok((made, Some(peer))),
        Err(error) => {
            // Half of a backup would be taken for all of it.
            let _nothing_to_remove = std::fs::remove_file(to);
            Err(error)
        }
    }
}

/// `talkbox node verify`.
pub(super) async fn verify(output: &Output, data: &Path) -> Outcome {
    let folder = data.to_owned();
    let (found, peer) = blocking(move || {
        let peer = ipfs::store_in(&folder.join(FOLDER));
        Ok((maintenance::verify(&folder)?, peer.as_deref().map(ipfs::verify).transpose()?))
    })
    .await?;
    verified(output, Some(&found), peer.as_ref())
}

/// `talkbox node verify --file`.
pub(super) async fn verify_file(output: &Output, file: &Path) -> Outcome {
    let file = file.to_owned();
    let (found, peer) = blocking(move || {
        let of_peer = ipfs::is_store(&file).or_else(|error| match error.kind() {
            // That there is none is told below.
            std::io::ErrorKind::NotFound => Ok(false),
            _ => Err(Error::new(ErrorKind::Storage, "the file cannot be read")
                .source(error)
                .with("file", file.display())),
        });
        Ok(match of_peer? {
            true => (None, Some(ipfs::verify(&file)?)),
            false => (Some(maintenance::verify_file(&file)?), None),
        })
    })
    .await?;
    verified(output, found.as_ref(), peer.as_ref())
}

fn verified(output: &Output, found: Option<&Verified>, peer: Option<&ipfs::Verified>) -> Outcome {
    let is_sound = found.is_none_or(Verified::is_sound) && peer.is_none_or(ipfs::Verified::is_sound);
    if output.is_json() {
        let mut told = json!({"sound": is_sound});
        if let Some(found) = found {
            told["events"] = found.events.into();
            told["damaged"] = found.damaged.into();
            told["ids"] = found.named.iter().map(talkbox_core::EventId::to_hex).collect::<Value>();
            told["faults"] = found.faults.iter().map(String::as_str).collect::<Value>();
        }
        if let Some(peer) = peer {
            told["ipfs"] = json!({
                "blocks": peer.blocks, "damaged": peer.damaged, "cids": peer.named, "faults": peer.faults,
            });
        }
        output.object(&told)?;
    } else {
        if let Some(found) = found {
            output.line(format_args!("{} events, {} damaged", found.events, found.damaged))?;
            list(output, &found.named, &found.faults)?;
            if found.damaged > 0 {
                output.note("a running node does not serve what is damaged, and fetches it from its peers");
            }
            if !found.faults.is_empty() {
                output.note(
                    "a running node makes indexes anew; where it does not start, begin with a backup or an empty folder",
                );
            }
        }
        if let Some(peer) = peer {
            output.line(format_args!("{} blocks of the peer on IPFS, {} damaged", peer.blocks, peer.damaged))?;
            list(output, &peer.named, &peer.faults)?;
            if !peer.is_sound() {
                output.note(
                    "stop the node, move ipfs/ipfs.sqlite3 in its folder away, and start it again: other peers fill a new \
                     one, or a backup takes its place",
                );
            }
        }
    }
    Ok(if is_sound { Code::Done } else { Code::VerificationFailed })
}

fn list(output: &Output, damaged: &[impl std::fmt::Display], faults: &[String]) -> Outcome<()> {
    for name in damaged {
        output.line(format_args!("damaged  {name}"))?;
    }
    for fault in faults {
        output.line(format_args!("fault    {fault}"))?;
    }
    Ok(())
}

/// `talkbox node gc`.
pub(super) async fn collectable(output: &Output, data: &Path) -> Outcome {
    let folder = data.to_owned();
    let found = blocking(move || maintenance::collectable(&folder, SystemClock.now())).await?;
    if output.is_json() {
        output.object(&json!({"events": found.events, "bytes": found.bytes}))?;
    } else {
        output.line(format_args!("{} expired events, {} bytes", found.events, found.bytes))?;
    }
    Ok(Code::Done)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> talkbox_core::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)?.map_err(|error| match error.context("folder") {
        Some(_) => Failure::from(error).hint(
            "name the folder of the node with `--data DIR`, as it was given to the node; a node makes its store when it \
             first starts",
        ),
        None => error.into(),
    })
}
