//! Relays by other people: the same calls, over real sockets.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::StreamExt as _;
use talkbox_core::{
    AuditOptions, DeleteOptions, DeleteRequest, DeletionState, Envelope, EnvelopeId, ErrorKind, HoldingState, Level,
    ListOptions, Locator, MailboxRecord, PublishOptions, PutOptions, ReconcileOptions, RecordFields, ResolveOptions,
    Shortcode, SystemClock, Target, WatchEvent, WatchOptions, clock::Clock as _,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{auth, envelopes, envelopes_of, key, list_all, open, peer, sorted};

/// How long a relay may take to start: one that is written in Python takes about three seconds.
const START: Duration = Duration::from_secs(60);

#[tokio::test]
async fn pypi_nostr_relay() {
    let Some(relay) = Relay::start("TALKBOX_INTEROP_PY", "python").await else { return };
    stores_finds_and_watches(&relay).await;
}

#[tokio::test]
async fn nostr_rs_relay() {
    let Some(relay) = Relay::start("TALKBOX_INTEROP_RS_RELAY", "rs-relay").await else { return };
    stores_finds_and_watches(&relay).await;
}

/// A relay in a process of its own.
struct Relay {
    url: String,
    child: Child,
    _folder: TempDir,
}

impl Relay {
    /// Starts it by the script of this folder of `interop/`; `None` where the variable does not say that it is there.
    async fn start(variable: &str, folder: &str) -> Option<Self> {
        peer(variable)?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop").join(folder).join("relay.sh");
        let folder = TempDir::new().expect("a folder");
        let mut command = Command::new(script);
        command.arg(port.to_string()).arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the script runs");
        let ready = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                let ended = child.try_wait().expect("its state");
                assert!(ended.is_none(), "the relay ended: {ended:?}");
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(START, ready).await.expect("the relay starts");
        Some(Self { url: format!("ws://127.0.0.1:{port}"), child, _folder: folder })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Killed, it would leave its worker behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

async fn stores_finds_and_watches(relay: &Relay) {
    let backend = open(&relay.url).await;
    let (mailbox, transport) =
        (backend.mailbox.as_deref().expect("a mailbox"), backend.transport.as_deref().expect("a transport"));
    let at = Locator::new("nostr", &relay.url).expect("a locator");
    let owner = key();
    let auth = || Some(auth(&owner));

    let sent = envelopes(&owner, 50);
    let levels = async |envelopes: &[Envelope]| {
        let receipts = mailbox.put(envelopes, PutOptions::default()).await;
        receipts.into_iter().map(|receipt| receipt.expect("stored").acks[0].level).collect::<Vec<_>>()
    };
    assert_eq!(levels(&sent).await, [Level::Stored; 50]);
    assert_eq!(levels(&sent[..2]).await, [Level::Duplicate; 2]);

    let (listed, after) = list_all(mailbox, &owner, &at, 20).await;
    assert_eq!(sorted(listed.iter().map(Envelope::id)), sorted(sent.iter().map(Envelope::id)));
    let late = envelopes(&owner, 10);
    assert_eq!(levels(&late).await, [Level::Stored; 10]);
    let page = mailbox.list(owner.id(), &at, ListOptions::default().auth(auth()).after(after)).await.expect("lists");
    let found: Vec<_> = page.items.iter().map(talkbox_core::RawEnvelope::id).collect();
    assert!(late.iter().all(|envelope| found.contains(&envelope.id())), "dated back, and found");

    let asked = [sent[0].id(), EnvelopeId::from_bytes([1; 32])];
    let holdings = mailbox.audit(owner.id(), &at, &asked, AuditOptions::default().auth(auth())).await.expect("audits");
    let states: Vec<_> = holdings.iter().map(|holding| holding.state).collect();
    assert_eq!(states, [HoldingState::Held { until: None }, HoldingState::Absent]);

    // Neither speaks NIP-77, and neither says so in the same way.
    let reconciler = mailbox.reconciler(&at).expect("not known to lack it");
    let error = reconciler.difference(owner.id(), &[], ReconcileOptions::default()).await.expect_err("not spoken");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(mailbox.reconciler(&at).is_none());

    // Both say yes to the owner's deletion, and keep it.
    let request = DeleteRequest::sign(&owner, owner.id(), &[sent[0].id()], SystemClock.now()).expect("signs");
    let deletion = mailbox.delete(&[request], DeleteOptions::default().auth(auth())).await.remove(0).expect("taken");
    assert_eq!(deletion.holders, [(at.clone(), DeletionState::Requested)]);

    let mut watch = mailbox.watch(owner.id(), WatchOptions::default().auth(auth())).expect("can watch");
    let watching = async {
        while !matches!(watch.next().await.expect("goes on").expect("no trouble"), WatchEvent::Live { .. }) {}
        // Both are new to the relay, also the one that is dated weeks back.
        for new in [envelopes(&owner, 1), envelopes_of(&owner, 1, SystemClock.now().minus(40 * 86_400))] {
            assert_eq!(levels(&new).await, [Level::Stored]);
            let new = new[0].id();
            while !matches!(watch.next().await, Some(Ok(WatchEvent::Envelope { raw, .. })) if raw.id() == new) {}
        }
    };
    timeout(Duration::from_secs(30), watching).await.expect("they are seen");

    let fields = RecordFields::new(vec![at.clone()]);
    let record = MailboxRecord::sign(&owner, Shortcode::of(&owner.id()), fields, SystemClock.now()).expect("signs");
    transport.publish(&record, PublishOptions::default()).await.expect("published");
    for target in [Target::Code(record.code()), Target::Mailbox(owner.id())] {
        let found: Vec<_> = transport.resolve(&target, ResolveOptions::default()).collect().await;
        let found = found.into_iter().filter_map(|found| found.expect("no trouble").into_record());
        let found = found.map(|found| MailboxRecord::parse(&found.json).expect("genuine"));
        assert_eq!(found.collect::<Vec<_>>(), std::slice::from_ref(&record));
    }
    backend.close().await;
}
