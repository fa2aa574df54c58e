//! Nodes that might become peers: found by registries, by what peers say of theirs, and by announcements on Nostr relays.
//!
//! A candidate has no right at all. It is shown to the operator, with the key that it answers by, and becomes a peer when the
//! operator names it as one. Where its URL leads is somebody else's word: only global addresses are asked, by HTTPS, each
//! name resolved once and no redirect followed.

mod announcement;
mod directory;
mod relay;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use talkbox_core::{Error, ErrorKind, PublicKey, Result, Timestamp};
use talkbox_net::Trust;
use url::Url;

use super::ask;
use crate::node::{NodeConfig, Shared};

/// Candidates that are remembered: some times as many as a node can have peers.
const MAX_CANDIDATES: usize = 256;
/// Candidates that one source may name in one round, so that none pushes the others out.
const MAX_OF_SOURCE: usize = 64;
/// Candidates that are asked in one round: those that were not asked for longest.
const ASKED: usize = 32;
/// Most bytes of a candidate's URL, as of a locator.
const MAX_URL: usize = 256;
/// How long a candidate stays that does not answer: a week, in seconds.
const KEPT: u64 = 7 * 86_400;

/// A node that might become a peer.
#[derive(Clone, Debug)]
struct Candidate {
    /// Who names it.
    source: String,
    /// The key that it is said to have.
    claimed: Option<PublicKey>,
    found: Timestamp,
    asked: Option<Timestamp>,
    /// The key that it showed itself, and when it last did.
    answered: Option<(PublicKey, Timestamp)>,
}

/// What a source says: a URL, and perhaps a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) url: String,
    pub(super) key: Option<PublicKey>,
}

/// All candidates, by URL, and where to look for more.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    all: Mutex<BTreeMap<String, Candidate>>,
    registries: Vec<Url>,
    relays: Vec<Url>,
}

impl Candidates {
    /// None yet, and the sources of the configuration.
    ///
    /// # Errors
    /// `ConfigInvalid` for a source that is no URL of its kind.
    pub(crate) fn new(config: &NodeConfig) -> Result<Self> {
        let read = |name: &'static str, text: &String, schemes: [&str; 2]| {
            let url = text.parse::<Url>().ok().filter(|url| schemes.contains(&url.scheme()));
            let why = format!("it is no URL that begins with {}:// or {}://", schemes[0], schemes[1]);
            url.ok_or_else(|| Error::new(ErrorKind::ConfigInvalid, why).with(name, text))
        };
        let registries = config.registries.iter().map(|text| read("registry", text, ["https", "http"]));
        let relays = config.announce.iter().map(|text| read("announce", text, ["wss", "ws"]));
        Ok(Self {
            registries: registries.collect::<Result<_>>()?,
            relays: relays.collect::<Result<_>>()?,
            ..Self::default()
        })
    }

    /// Whether the configuration names somebody to ask.
    pub(super) const fn has_sources(&self) -> bool {
        !self.registries.is_empty() || !self.relays.is_empty()
    }

    /// The candidates that have answered. What is only said is not repeated: it would be believed to be the node's word.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let shown = |(url, candidate): (&String, &Candidate)| {
            let (key, seen) = candidate.answered?;
            Some(json!({"url": url, "key": key.to_hex(), "source": candidate.source, "seen": seen.secs()}))
        };
        self.lock().iter().filter_map(shown).collect()
    }

    /// Takes what a source names. A known one stays as it is.
    fn add(&self, source: &str, named: Vec<Named>, now: Timestamp) {
        let mut all = self.lock();
        for Named { url, key } in named.into_iter().take(MAX_OF_SOURCE) {
            if all.len() >= MAX_CANDIDATES && !all.contains_key(&url) {
                return;
            }
            let source = source.to_owned();
            let fresh = Candidate { source, claimed: key, found: now, asked: None, answered: None };
            all.entry(url).or_insert(fresh);
        }
    }

    /// Drops those that have not answered for long.
    fn forget(&self, now: Timestamp) {
        self.lock().retain(|_, candidate| candidate.answered.map_or(candidate.found, |(_, at)| at).plus(KEPT) > now);
    }

    /// Those that are to be asked now.
    fn next(&self) -> Vec<(String, Option<PublicKey>)> {
        let all = self.lock();
        let mut next: Vec<_> = all.iter().map(|(url, one)| (one.asked, url.clone(), one.claimed)).collect();
        next.sort_unstable();
        next.into_iter().take(ASKED).map(|(_, url, claimed)| (url, claimed)).collect()
    }

    /// Notes what came of asking one.
    fn answered(&self, url: &str, shown: Option<PublicKey>, now: Timestamp) {
        if let Some(candidate) = self.lock().get_mut(url) {
            candidate.asked = Some(now);
            if let Some(key) = shown {
                candidate.answered = Some((key, now));
            }
        }
    }

    fn remove(&self, url: &str) {
        self.lock().remove(url);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Candidate>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for candidates now and then, until the node stops.
pub(super) async fn run(node: Arc<Shared>) {
    let every = Duration::from_secs(node.config.discover_interval.max(1));
    let mut stop = node.stop.clone();
    loop {
        tokio::select! {
            biased;
            () = stop.asked() => return,
            () = look(&node) => {}
        }
        let dice = node.context.random::<1>().map_or(128, |[dice]| dice);
        tokio::select! {
            biased;
            () = stop.asked() => return,
            () = tokio::time::sleep(every.mul_f64(0.5 + f64::from(dice) / 255.0)) => {}
        }
    }
}

/// One round: every source, then those that were not asked for longest. One after the other, since nothing hurries.
async fn look(node: &Shared) {
    for registry in &node.candidates.registries {
        take(node, registry.as_str(), directory::read(node, registry.clone()).await);
    }
    for peer in node.roster.peers() {
        take(node, peer.address.name(), directory::of_peer(node, peer).await);
    }
    for relay in &node.candidates.relays {
        take(node, relay.as_str(), relay::visit(node, relay).await);
    }
    node.candidates.forget(node.now());
    for (url, claimed) in node.candidates.next() {
        match meet(node, &url).await {
            Ok(key) if claimed.is_some_and(|claimed| claimed != key) || key == node.key.public() => {
                tracing::debug!(candidate = url, "it is not who it was said to be, or this node itself");
                node.candidates.remove(&url);
            }
            Ok(key) => node.candidates.answered(&url, Some(key), node.now()),
            Err(error) => {
                tracing::debug!(%error, candidate = url, "a candidate does not answer");
                node.candidates.answered(&url, None, node.now());
            }
        }
    }
}

fn take(node: &Shared, source: &str, named: Result<Vec<Named>>) {
    match named {
        Ok(named) => {
            let anywhere = node.config.candidates_anywhere;
            let usable = named.into_iter().filter_map(|one| {
                let url = normal(&one.url, anywhere)?;
                let is_new = !node.roster.peers().iter().any(|peer| peer.address.name() == url);
                let is_own = url.parse().is_ok_and(|url: Url| node.url.is_relay(url.as_str()));
                (is_new && !is_own).then_some(Named { url, key: one.key })
            });
            node.candidates.add(source, usable.collect(), node.now());
        }
        Err(error) => tracing::info!(%error, source, "no candidates from there"),
    }
}

/// The URL of a node as it is kept: of HTTPS, without a slash at its end. `None` for what is none.
fn normal(url: &str, anywhere: bool) -> Option<String> {
    if url.len() > MAX_URL {
        return None;
    }
    let url: Url = url.replacen("ws", "http", usize::from(url.starts_with("ws"))).parse().ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let scheme = url.scheme() == "https" || anywhere && url.scheme() == "http";
    (is_plain && scheme && url.fragment().is_none()).then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// Asks a candidate which key it has.
async fn meet(node: &Shared, url: &str) -> Result<PublicKey> {
    let trust = if node.config.candidates_anywhere { Trust::ForeignAnywhere } else { Trust::Foreign };
    let url = url.parse().map_err(|error| Error::new(ErrorKind::InvalidInput, "no URL").source(error))?;
    ask::key_of(node, url, trust).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn named(urls: impl IntoIterator<Item = String>) -> Vec<Named> {
        urls.into_iter().map(|url| Named { url, key: None }).collect()
    }

    #[test]
    fn only_urls_of_https_are_candidates() {
        assert_eq!(normal("wss://Node.example/", false).as_deref(), Some("https://node.example"));
        assert_eq!(normal("https://node.example:8443/box/", false).as_deref(), Some("https://node.example:8443/box"));
        for wrong in [
            "http://node.example",
            "ws://node.example",
            "https://a:b@node.example",
            "https://node.example?x",
            "https://node.example#x",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(normal(wrong, false), None, "{wrong}");
        }
        assert_eq!(normal(&format!("https://node.example/{}", "a".repeat(256)), false), None);
        assert!(normal("http://127.0.0.1:1", true).is_some());
    }

    #[test]
    fn a_source_that_cannot_be_asked_is_refused_at_the_start() {
        let of = |registry: &str, relay: &str| {
            let mut config = NodeConfig::loopback();
            config.registries = vec![registry.to_owned()];
            config.announce = vec![relay.to_owned()];
            Candidates::new(&config).map_err(|error| error.kind())
        };
        assert!(of("https://node.example/v1/peers", "wss://relay.example").is_ok());
        assert_eq!(of("hello", "wss://relay.example").err(), Some(ErrorKind::ConfigInvalid));
        assert_eq!(of("https://node.example", "https://relay.example").err(), Some(ErrorKind::ConfigInvalid));
    }

    #[test]
    fn one_source_does_not_push_the_others_out_and_the_silent_go() {
        let all = Candidates::default();
        for source in 0..10 {
            all.add(&source.to_string(), named((0..200).map(|at| format!("https://{source}-{at}.example"))), NOW);
        }
        assert_eq!(all.lock().len(), MAX_CANDIDATES);
        assert_eq!(all.lock().values().filter(|one| one.source == "0").count(), MAX_OF_SOURCE);
        all.answered("https://0-1.example", Some(PublicKey::from_bytes([1; 32])), NOW.plus(KEPT));
        all.forget(NOW.plus(KEPT));
        assert_eq!(all.shown().len(), 1);
    }

    #[test]
    fn those_that_were_not_asked_for_longest_are_next() {
        let all = Candidates::default();
        all.add("a", named((0..ASKED + 1).map(|at| format!("https://{at:03}.example"))), NOW);
        for (url, _) in all.next() {
            all.answered(&url, None, NOW);
        }
        assert_eq!(all.next()[0].0, format!("https://{ASKED:03}.example"));
    }
}
