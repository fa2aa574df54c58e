//! What the node counts, as Prometheus reads it (text format 0.0.4). Labels name peers and codes, and nothing that says
//! whose mail it is.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{admitted::Origin, beside::Sample, refusal::Outcome};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// What became of events, by where they came from and in a word.
    events: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Answers over HTTP, by the class of their status.
    answers: [Counter; 5],
    pub(crate) commits: Counter,
    pub(crate) delivered: Counter,
    pub(crate) expired: Counter,
    /// Events that peers acknowledged.
    pub(crate) pushed: Counter,
    /// Events that were fetched from peers.
    pub(crate) fetched: Counter,
    /// Rows that were found to be rotten, and those that were put right.
    pub(crate) rotten: Counter,
    pub(crate) healed: Counter,
    /// Times that the indexes were made anew.
    pub(crate) mended: Counter,
    /// Rows that were looked at for rot though nobody asked for them.
    pub(crate) scrubbed: Counter,
    pub(crate) comparisons: Counter,
    /// Calls of peers that failed.
    pub(crate) failures: Counter,
}

impl Metrics {
    /// Counts what became of an event.
    pub(crate) fn count(&self, origin: Origin, outcome: &Outcome) {
        let origin = match origin {
            Origin::Client => "client",
            Origin::Peer => "peer",
        };
        let outcome = match outcome {
            Outcome::Stored => "stored",
            Outcome::Duplicate => "duplicate",
            Outcome::Refused(refusal) => refusal.reason().code(),
        };
        *self.events.lock().unwrap_or_else(PoisonError::into_inner).entry((origin, outcome)).or_default() += 1;
    }

    /// Counts an answer over HTTP.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(class) = self.answers.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }
}

/// What is measured at the moment of asking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) held: usize,
    pub(crate) store_bytes: u64,
    /// Rows that are known to be rotten.
    pub(crate) rotten: usize,
    pub(crate) connections: usize,
    pub(crate) subscriptions: usize,
    pub(crate) pending_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) kept_sets: usize,
    pub(crate) is_ready: bool,
    pub(crate) peers: Vec<PeerGauges>,
    /// Those of what runs beside the node.
    pub(crate) beside: Vec<Sample>,
}

/// The same of a peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerGauges {
    pub(crate) name: String,
    pub(crate) is_up: bool,
    pub(crate) behind: u64,
    pub(crate) missing_here: usize,
    pub(crate) missing_there: usize,
    /// When it was last compared, in seconds.
    pub(crate) compared: u64,
}

/// The page.
pub(crate) fn page(metrics: &Metrics, gauges: &Gauges) -> String {
    let mut page = Page(String::with_capacity(4_096));
    page.family("events_total", "counter", "Events that came, by origin and by what became of them.");
    for ((origin, outcome), count) in &*metrics.events.lock().unwrap_or_else(PoisonError::into_inner) {
        page.sample("events_total", &[("origin", origin), ("outcome", outcome)], count);
    }
    page.family("http_answers_total", "counter", "Answers over HTTP, by the class of their status.");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&metrics.answers) {
        page.sample("http_answers_total", &[("status", class)], count.get());
    }
    for (name, help, counter) in [
        ("commits_total", "Commits of the store.", &metrics.commits),
        ("delivered_total", "Events that were handed to subscribers.", &metrics.delivered),
        ("expired_total", "Ids that were removed because their time was over.", &metrics.expired),
        ("pushed_total", "Events that peers acknowledged.", &metrics.pushed),
        ("fetched_total", "Events that were fetched from peers because they were missing here.", &metrics.fetched),
        ("rotten_total", "Rows that were found not to be what was stored.", &metrics.rotten),
        ("healed_total", "Rotten rows that were put right.", &metrics.healed),
        ("mended_total", "Times that the indexes were made anew.", &metrics.mended),
        ("scrubbed_total", "Rows that were checked without being asked for.", &metrics.scrubbed),
        ("comparisons_total", "Comparisons with peers that were finished.", &metrics.comparisons),
        ("peer_failures_total", "Calls of peers that failed.", &metrics.failures),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], counter.get());
    }
    for (name, help, value) in [
        ("held", "Ids that count as held.", gauges.held as u64),
        ("store_bytes", "Bytes of the store that are in use.", gauges.store_bytes),
        ("rotten", "Rows that are known to be rotten and are not served.", gauges.rotten as u64),
        ("connections", "Open connections.", gauges.connections as u64),
        ("subscriptions", "Open subscriptions and watches.", gauges.subscriptions as u64),
        ("pending_bytes", "Bytes that wait for slow clients.", gauges.pending_bytes as u64),
        ("kept_sets", "Mailboxes whose ids are kept for reconciliations.", gauges.kept_sets as u64),
        ("answer_bytes", "Bytes that are kept for answers over HTTP.", gauges.answer_bytes as u64),
        ("ready", "Whether the node is ready.", u64::from(gauges.is_ready)),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    page.peers(&gauges.peers);
    for sample in &gauges.beside {
        page.family(sample.name, sample.kind.word(), sample.help);
        page.sample(sample.name, &[], sample.value);
    }
    page.family("info", "gauge", "The version of the node.");
    page.sample("info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.0
}

/// A page in the making.
struct Page(String);

impl Page {
    fn peers(&mut self, peers: &[PeerGauges]) {
        type Read = fn(&PeerGauges) -> u64;
        const FAMILIES: [(&str, &str, Read); 5] = [
            ("peer_up", "Whether the peer answered the last time.", |peer| u64::from(peer.is_up)),
            ("peer_behind", "Places in the order of arrival that the peer has not acknowledged.", |peer| peer.behind),
            ("peer_missing_here", "Ids that only the peer held when they were compared.", |peer| {
                peer.missing_here as u64
            }),
            ("peer_missing_there", "Ids that the peer lacked when they were compared.", |peer| {
                peer.missing_there as u64
            }),
            ("peer_compared_seconds", "When the peer was last compared, in Unix seconds; 0: never.", |peer| {
                peer.compared
            }),
        ];
        for (name, help, read) in FAMILIES {
            self.family(name, "gauge", help);
            for peer in peers {
                self.sample(name, &[("peer", &peer.name)], read(peer));
            }
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP talkbox_node_{name} {help}\n# TYPE talkbox_node_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _infallible = writeln!(self.0, "talkbox_node_{name}{labels} {value}");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::refusal::{Reason, Refusal};

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let metrics = Metrics::default();
        metrics.count(Origin::Client, &Outcome::Stored);
        metrics.count(Origin::Client, &Outcome::Stored);
        metrics.count(Origin::Peer, &Outcome::Refused(Refusal::new(Reason::Pow, "no")));
        metrics.answered(204);
        metrics.answered(999);
        let peer = PeerGauges { name: "http://a\"b".to_owned(), is_up: true, behind: 3, ..PeerGauges::default() };
        let page = page(&metrics, &Gauges { held: 7, peers: vec![peer], ..Gauges::default() });
        for line in [
            r#"talkbox_node_events_total{origin="client",outcome="stored"} 2"#,
            r#"talkbox_node_events_total{origin="peer",outcome="pow"} 1"#,
            r#"talkbox_node_http_answers_total{status="2xx"} 1"#,
            "talkbox_node_held 7",
            r#"talkbox_node_peer_behind{peer="http://a\"b"} 3"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        let mut family = "";
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().expect("a name");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} stands under its family");
                assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<u64>().is_ok()), "{line}");
            }
        }
    }
}
