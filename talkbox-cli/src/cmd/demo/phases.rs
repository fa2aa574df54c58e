//! `talkbox demo --phases`: one mailbox under `nostr`, `hybrid` and `ipfs`, by switching `backend` alone. After each switch
//! everything of before is still there: here, and, once it is copied to the new holders, for a computer that has nothing
//! but the words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Demo, check,
    people::{Home, NodeProcess, Stage},
    text,
};
use crate::{
    exit::Outcome,
    output::{CODE, GOOD},
};

/// The phases, each with the kind of place that stores its mail.
const PHASES: [(&str, &str); 3] = [("nostr", "nostr:"), ("hybrid", "ipfs:"), ("ipfs", "ipfs:")];

/// What came so far, by the ids of the messages.
type Ids = BTreeSet<String>;

impl Demo<'_> {
    pub(super) async fn play_phases(&mut self, stage: &Stage) -> Outcome<()> {
        let relay = NodeProcess::start(stage, "relay", None).await?;
        self.step("relay", "A relay starts", "talkbox node", json!({"url": relay.url()}))?;
        self.tell("listens", relay.url())?;
        let peer = NodeProcess::start_peer(stage, "peer").await?;
        let typed = "talkbox node --ipfs --ipfs-keep any";
        self.step("peer", "A peer on IPFS starts, on another computer", typed, json!({"ipfs": peer.ipfs()}))?;
        self.tell("listens", peer.ipfs())?;

        let settings = Settings { relay: relay.url().to_owned(), peer: peer.ipfs().to_owned() };
        let ada = Home::with(stage, "ada", &settings.of(PHASES[0].0))?;
        let bob = Home::with(stage, "bob", &settings.of(PHASES[0].0))?;
        let words = stage.file("words");
        let made = ada.one(&["new", "tips", "--plain-key", "--save-words", &words]).await?;
        let code = text(&made, "code")?.to_owned();
        self.step("new", "Ada makes a mailbox", "talkbox new tips", json!({"code": code}))?;
        self.tell("public", &format!("{CODE}{code}{CODE:#}"))?;

        let mut sent = Ids::new();
        let mut relay = Some(relay);
        for (at, (backend, holder)) in PHASES.into_iter().enumerate() {
            let number = at + 1;
            let config = settings.of(backend);
            if at > 0 {
                for home in [&ada, &bob] {
                    home.configure(&config)?;
                }
                self.switched(&ada, number, backend, &sent).await?;
                // Where the mail is with the same holders as before, there is nothing to copy.
                if holder != PHASES[at - 1].1 {
                    self.copied(stage, &ada, number, &sent).await?;
                }
            }
            if backend == "ipfs"
                && let Some(relay) = relay.take()
            {
                relay.kill().await?;
                self.step("relay-ends", "The relay is switched off for good", "kill -9 …", json!({}))?;
            }
            // One who wrote before, and one who has nothing but the code.
            let stranger = Home::with(stage, &format!("stranger{number}"), &config)?;
            for (who, home) in [("Bob", &bob), ("a stranger", &stranger)] {
                let body = format!("Phase {number}, from {who}.");
                let answer = home.one(&["send", &code, &body]).await?;
                check(text(&answer, "state")? == "stored", "the message is stored")?;
                let stored = answer["stored"].as_array().map(Vec::as_slice).unwrap_or_default();
                let is_there = |ack: &Value| ack["holder"].as_str().is_some_and(|place| place.starts_with(holder));
                check(!stored.is_empty() && stored.iter().all(is_there), "it is stored where the phase says")?;
                let typed = format!("talkbox send {code} \"{body}\"");
                self.step("send", &format!("Phase {number} (`{backend}`): {who} writes"), &typed, answer.clone())?;
                self.receipts(&answer)?;
                sent.insert(text(&answer, "id")?.to_owned());
            }
            let read = ids(&ada.lines(&["read", "tips"]).await?)?;
            check(read == sent, "Ada has every message, and no other")?;
            let phases = if number == 1 { "phase 1".to_owned() } else { format!("phases 1 to {number}") };
            let what = format!("Ada has all {} messages of {phases}", sent.len());
            self.step("read", &what, "talkbox read", json!({"phase": number, "backend": backend, "ids": read}))?;

            let fresh = Home::with(stage, &format!("fresh{number}"), &config)?;
            let restored =
                fresh.one(&["new", "tips", "--plain-key", "--words-file", &words, "--expect", &code]).await?;
            check(text(&restored, "code")? == code, "the words are the mailbox")?;
            let read = ids(&fresh.lines(&["read", "tips"]).await?)?;
            check(read == sent, "the words and the network alone give every message, and no other")?;
            let what = format!("A new computer, with the words alone, gets all {} from the network", sent.len());
            let result = json!({"phase": number, "backend": backend, "ids": read});
            self.step("restore", &what, "talkbox new --words-file FILE; talkbox read", result)?;
            self.tell("equal", &format!("{GOOD}{} of {} ids{GOOD:#}", read.len(), sent.len()))?;
        }
        let log = ada.one(&["log", "tips"]).await?;
        let behind = |month: &Value| month["entries"].is_null() || month["behind"] != 0;
        let peers = log["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let months = |peer: &Value| peer["months"].as_array().cloned().unwrap_or_default();
        check(!peers.is_empty(), "the peer was asked")?;
        check(peers.iter().all(|peer| !months(peer).iter().any(behind)), "the peer is in step")?;
        self.step("log", "The log, and that the peer has all of it", "talkbox log tips", log)?;
        peer.kill().await
    }

    /// What was read before is there after the switch, whatever the network has.
    async fn switched(&mut self, ada: &Home<'_>, number: usize, backend: &str, sent: &Ids) -> Outcome<()> {
        let kept = ids(&ada.lines(&["read", "tips"]).await?)?;
        check(kept == *sent, "what was there before the switch is there after it")?;
        let what = format!("Phase {number}: one word changes, and nothing is lost");
        let typed = format!("sed -i 's/^backend = .*/backend = \"{backend}\"/' config.toml; talkbox read");
        self.step("switch", &what, &typed, json!({"phase": number, "backend": backend, "ids": kept}))?;
        self.tell("kept", &format!("{} of {} messages", kept.len(), sent.len()))
    }

    /// What was kept by the holders of before is put to those of now.
    async fn copied(&mut self, stage: &Stage, ada: &Home<'_>, number: usize, sent: &Ids) -> Outcome<()> {
        let file = stage.file(&format!("mail{number}"));
        ada.lines(&["export", "tips", "--output", &file]).await?;
        let copied = ada.one(&["import", &file, "--upload"]).await?;
        check(copied["uploaded"] == sent.len() as u64, "every envelope is stored by a holder of this phase")?;
        let typed = "talkbox export --output FILE; talkbox import FILE --upload";
        self.step("copy", "The same envelopes go to the new holders", typed, copied.clone())?;
        self.tell("stored", &copied["uploaded"].to_string())
    }
}

/// Where both networks are.
struct Settings {
    relay: String,
    peer: String,
}

impl Settings {
    /// The configuration of a phase: the first line alone is another one.
    fn of(&self, backend: &str) -> String {
        let Self { relay, peer } = self;
        // Records lead to this computer, which those of others otherwise may not; and the public DHT has no part in it.
        format!(
            "backend = \"{backend}\"\nallow_private = true\n\n[backends.nostr]\nrelays = [\"{relay}\"]\n\n\
             [backends.ipfs]\npeers = [\"{peer}\"]\ndht = \"off\"\n"
        )
    }
}

fn ids(lines: &[Value]) -> Outcome<Ids> {
    lines.iter().map(|line| text(line, "id").map(str::to_owned)).collect()
}
