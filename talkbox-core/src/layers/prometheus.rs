//! The counters as Prometheus reads them (text format 0.0.4). The labels are the backend, the operation and the kind
//! of an error: nothing that says whose mail it is.

use std::fmt::Write as _;

use super::metrics::{Counts, Snapshot};

/// The counters of backends, by the name of their instance, as a page of text.
pub fn prometheus(backends: &[(&str, Snapshot)]) -> String {
    let mut page = String::new();
    family(&mut page, "calls_total", "counter", "Calls of an operation, each counted once.");
    each(&mut page, backends, |page, labels, counts| sample(page, "calls_total", labels, "", counts.calls));
    family(&mut page, "retries_total", "counter", "Further tries of calls.");
    each(&mut page, backends, |page, labels, counts| sample(page, "retries_total", labels, "", counts.retries));
    family(&mut page, "errors_total", "counter", "Errors that came out of an operation, by kind.");
    each(&mut page, backends, |page, labels, counts| {
        for (kind, count) in &counts.errors {
            sample(page, "errors_total", labels, &format!(",kind=\"{kind}\""), *count);
        }
    });
    family(&mut page, "call_seconds", "histogram", "How long calls took, with all their tries.");
    each(&mut page, backends, |page, labels, counts| {
        for (end, count) in &counts.buckets {
            sample(page, "call_seconds_bucket", labels, &format!(",le=\"{end}\""), *count);
        }
        sample(page, "call_seconds_bucket", labels, ",le=\"+Inf\"", counts.calls);
        sample(page, "call_seconds_sum", labels, "", counts.seconds);
        sample(page, "call_seconds_count", labels, "", counts.calls);
    });
    for (name, help, value) in TOTALS {
        family(&mut page, name, "counter", help);
        for (backend, snapshot) in backends {
            sample(&mut page, name, &format!("backend=\"{}\"", escaped(backend)), "", value(snapshot));
        }
    }
    page
}

/// What is counted of a backend as a whole.
/// The name of a counter, its help text, and how it is read.
type Total = (&'static str, &'static str, fn(&Snapshot) -> u64);

const TOTALS: [Total; 8] = [
    ("envelopes_out_total", "Envelopes that were put.", |snapshot| snapshot.envelopes_out),
    ("bytes_out_total", "Bytes of envelopes that were put.", |snapshot| snapshot.bytes_out),
    ("envelopes_in_total", "Envelopes that were listed or watched, not yet checked.", |snapshot| snapshot.envelopes_in),
    ("bytes_in_total", "Bytes of envelopes that were listed or watched.", |snapshot| snapshot.bytes_in),
    ("acks_total", "Confirmations of holders.", |snapshot| snapshot.acks),
    ("pending_total", "Envelopes that holders have queued.", |snapshot| snapshot.pending),
    ("refused_total", "Refusals of holders.", |snapshot| snapshot.refused),
    ("lagged_total", "Times that a watch said that something may be missing.", |snapshot| snapshot.lagged),
];

fn family(page: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = writeln!(page, "# HELP talkbox_backend_{name} {help}\n# TYPE talkbox_backend_{name} {kind}");
}

/// Every operation that was called, of every backend.
fn each(page: &mut String, backends: &[(&str, Snapshot)], write: impl Fn(&mut String, &str, &Counts)) {
    for (backend, snapshot) in backends {
        for (operation, counts) in snapshot.operations.iter().filter(|(_, counts)| counts.calls > 0) {
            write(page, &format!("backend=\"{}\",operation=\"{operation}\"", escaped(backend)), counts);
        }
    }
}

fn sample(page: &mut String, name: &str, labels: &str, further: &str, value: impl std::fmt::Display) {
    let _infallible = writeln!(page, "talkbox_backend_{name}{{{labels}{further}}} {value}");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
