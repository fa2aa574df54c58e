//! What is done with the store of a node, whether the node runs or not.

use std::path::Path;

use serde_json::json;
use talkbox_backend_gossip::node::maintenance::{self, Verified};
use talkbox_core::{Clock as _, SystemClock};

use crate::{
    exit::{Code, Failure, Outcome},
    output::Output,
};

/// `talkbox node backup`.
pub(super) async fn backup(output: &Output, data: &Path, to: &Path) -> Outcome {
    let (from, target) = (data.to_owned(), to.to_owned());
    let made = blocking(move || maintenance::backup(&from, &target)).await?;
    if output.is_json() {
        output.object(&json!({"path": made.path, "bytes": made.bytes, "events": made.events}))?;
    } else {
        output.line(format_args!("{} events, {} bytes, in {}", made.events, made.bytes, made.path.display()))?;
        output.note("to go back to it, put it into an empty folder as node.sqlite3, with node.key beside it");
    }
    Ok(Code::Done)
}

/// `talkbox node verify`.
pub(super) async fn verify(output: &Output, data: &Path) -> Outcome {
    let folder = data.to_owned();
    verified(output, &blocking(move || maintenance::verify(&folder)).await?)
}

/// `talkbox node verify --file`.
pub(super) async fn verify_file(output: &Output, file: &Path) -> Outcome {
    let file = file.to_owned();
    verified(output, &blocking(move || maintenance::verify_file(&file)).await?)
}

fn verified(output: &Output, found: &Verified) -> Outcome {
    if output.is_json() {
        output.object(&json!({
            "sound": found.is_sound(),
            "events": found.events,
            "damaged": found.damaged,
            "ids": found.named.iter().map(talkbox_core::EventId::to_hex).collect::<Vec<_>>(),
            "faults": found.faults,
        }))?;
    } else {
        output.line(format_args!("{} events, {} damaged", found.events, found.damaged))?;
        for id in &found.named {
            output.line(format_args!("damaged  {id}"))?;
        }
        for fault in &found.faults {
            output.line(format_args!("fault    {fault}"))?;
        }
        if found.damaged > 0 {
            output.note("a running node does not serve what is damaged, and fetches it from its peers");
        }
        if !found.faults.is_empty() {
            output.note(
                "a running node makes indexes anew; where it does not start, begin with a backup or an empty folder",
            );
        }
    }
    Ok(if found.is_sound() { Code::Done } else { Code::VerificationFailed })
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
