//! How the nodes of a mesh do, asked from outside.

use futures_util::future::join_all;
use serde_json::json;
use talkbox_backend_gossip::node::{NodeState, PeerState, survey};
use talkbox_core::{Clock as _, MailboxId, SystemClock, address::to_npub};

use crate::{
    exit::{Code, Outcome},
    output::{BAD, BOLD, DIM, GOOD, Output},
    text::one_line,
};

/// `talkbox node peers`.
pub(super) async fn peers(output: &Output, url: &str) -> Outcome {
    let state = survey(url).await?;
    if output.is_json() {
        output.object(&state)?;
        return Ok(Code::Done);
    }
    if let Some(key) = npub(&state.key) {
        output.line(format_args!("{BOLD}this node{BOLD:#}  {key}"))?;
    }
    if state.peers.is_empty() {
        output.line("no peers: this node stands alone")?;
    } else {
        peers_of(output, &state)?;
    }
    if !state.candidates.is_empty() {
        candidates(output, &state)?;
    }
    Ok(Code::Done)
}

fn peers_of(output: &Output, state: &NodeState) -> Outcome<()> {
    output.line(format_args!(
        "{BOLD}{:<32} {:<6} {:>8} {:>8} {:>8}  COMPARED{BOLD:#}",
        "PEER", "STATE", "MISSING", "LACKING", "BEHIND"
    ))?;
    let now = SystemClock.now().secs();
    for peer in &state.peers {
        let compared =
            peer.compared.map_or_else(|| "never".to_owned(), |at| format!("{} s ago", now.saturating_sub(at)));
        let color = if peer.state == "ok" { GOOD } else { BAD };
        output.line(format_args!(
            "{:<32} {color}{:<6}{color:#} {:>8} {:>8} {:>8}  {compared}",
            one_line(&peer.url, 256),
            one_line(&peer.state, 16),
            peer.missing_there,
            peer.missing_here,
            peer.behind
        ))?;
        if let Some(key) = peer.key.as_deref().and_then(npub) {
            output.line(format_args!("  {DIM}{key}{DIM:#}"))?;
        }
        if let Some(fault) = &peer.fault {
            output.line(format_args!("  {}", one_line(fault, 256)))?;
        }
    }
    output.note("MISSING: what the peer lacked when they were compared; LACKING: what the node itself lacked");
    Ok(())
}

/// The key of a node as it is named behind a `#`.
fn npub(hex: &str) -> Option<String> {
    MailboxId::from_hex(hex).ok().map(|key| to_npub(&key))
}

/// Nodes that might become peers, as they are named with `--peer`.
fn candidates(output: &Output, state: &NodeState) -> Outcome<()> {
    output.line(format_args!("{BOLD}{:<12} CANDIDATE, NAMED BY{BOLD:#}", "ANSWERED"))?;
    let now = SystemClock.now().secs();
    for candidate in &state.candidates {
        let seen = format!("{} s ago", now.saturating_sub(candidate.seen));
        let key = npub(&candidate.key).map_or_else(String::new, |key| format!("#{key}"));
        output.line(format_args!(
            "{seen:<12} {}{key}, {}",
            one_line(&candidate.url, 256),
            one_line(&candidate.source, 256)
        ))?;
    }
    output.note("a candidate reads nothing; to make it a peer, name it with --peer, and let it name this node");
    Ok(())
}

/// `talkbox node verify --all`: whether a node and its peers hold the same.
pub(super) async fn verify(output: &Output, url: &str) -> Outcome {
    let first = survey(url).await?;
    let others = join_all(first.peers.iter().map(|peer| survey(&peer.url))).await;
    let asked = first.peers.iter().map(|peer: &PeerState| one_line(&peer.url, 256)).zip(others);
    let (mut states, mut silent) = (vec![(url.to_owned(), first.clone())], Vec::new());
    for (url, state) in asked {
        match state {
            Ok(state) => states.push((url, state)),
            Err(error) => silent.push((url, one_line(&error.to_string(), 256))),
        }
    }
    let alike = |state: &NodeState| (state.events, &state.fingerprint) == (first.events, &first.fingerprint);
    let equal = states.iter().filter(|(_, state)| alike(state)).count();
    let all = states.len() + silent.len();
    if output.is_json() {
        let nodes = states.iter().map(|(url, state)| {
            json!({"url": url, "events": state.events, "fingerprint": state.fingerprint, "alike": alike(state)})
        });
        let away = silent.iter().map(|(url, fault)| json!({"url": url, "fault": fault}));
        output.object(&json!({
            "alike": equal, "of": all, "nodes": nodes.collect::<Vec<_>>(), "away": away.collect::<Vec<_>>(),
        }))?;
    } else {
        for (url, state) in states.iter().filter(|(_, state)| !alike(state)) {
            output.line(format_args!(
                "{url} holds {} others (fingerprint {})",
                state.events,
                short(&state.fingerprint)
            ))?;
        }
        for (url, fault) in &silent {
            output.line(format_args!("{url} does not answer: {fault}"))?;
        }
        output.line(format_args!(
            "{equal}/{all} nodes hold the same {} ids (fingerprint {})",
            first.events,
            short(&first.fingerprint)
        ))?;
    }
    Ok(if equal == all { Code::Done } else { Code::VerificationFailed })
}

fn short(fingerprint: &str) -> String {
    one_line(fingerprint, 9)
}
