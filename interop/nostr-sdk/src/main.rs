//! An independent NIP-17 client for the interop tests, on nostr-sdk 0.44.1.
//!
//! ```text
//! talkbox-interop-nostr-sdk send <relay> <recipient npub|hex> <sender secret hex> <text, or - for standard input>
//! talkbox-interop-nostr-sdk recv <relay> <secret hex>
//! talkbox-interop-nostr-sdk sync <relay> <secret hex>
//! talkbox-interop-nostr-sdk pull <relay> <secret hex>
//! talkbox-interop-nostr-sdk push <relay> <secret hex>
//! ```
//!
//! `recv` reads the mailbox page by page. `sync` learns the ids by NIP-77 and then fetches exactly those. `pull` and
//! `push` are the SDK's own reconciliation, down and up: what it holds already is read from standard input, one wrap a
//! line. `recv`, `sync` and `pull` print one JSON line per opened message, with the fields that `interop/js/dm.mjs`
//! prints; of `pull` these are the messages that were not held before. `push` prints a line for each wrap that it
//! sent. The SDK answers a relay that asks for NIP-42 authentication by itself. Exit 0: all done; 1: failed, or a wrap
//! did not open, or did not come although the relay has it; 2: usage. TALKBOX_INTEROP_TIMEOUT_MS bounds each step on
//! the network (default 10,000).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::future::Future;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nostr_sdk::prelude::*;
use serde_json::json;

type Res<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: send RELAY RECIPIENT SECRET TEXT | recv|sync|pull|push RELAY SECRET";
/// A page is what the relay gives at once: 100 pages of 500 are more than any test stores.
const MAX_PAGES: usize = 100;
/// Ids in one REQ. Relays bound the length of a frame: 100 ids are 6.7 kB.
const BATCH: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let step = std::env::var("TALKBOX_INTEROP_TIMEOUT_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(10_000);
    let step = Duration::from_millis(step);
    let done = match *args {
        ["send", relay, recipient, secret, text] => send(relay, recipient, secret, text, step).await,
        ["recv", relay, secret] => read(relay, secret, step, false).await,
        ["sync", relay, secret] => read(relay, secret, step, true).await,
        ["pull", relay, secret] => pull(relay, secret, step).await,
        ["push", relay, secret] => push(relay, secret, step).await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives a future twice its own limit, and says which step it was that did not end.
async fn within<T>(what: &str, step: Duration, future: impl Future<Output = T>) -> Res<T> {
    tokio::time::timeout(step * 2, future).await.map_err(|_| format!("{what}: no answer within {step:?}").into())
}

async fn connect(url: &str, keys: &Keys, step: Duration) -> Res<(Client, Relay)> {
    // The SDK's own way up and down goes through its database, which by default keeps no events.
    let keeps = MemoryDatabaseOptions { events: true, max_events: None };
    let client = Client::builder().signer(keys.clone()).database(MemoryDatabase::with_opts(keeps)).build();
    client.add_relay(url).await?;
    let relay = client.relay(url).await?;
    relay.try_connect(step).await.map_err(|error| format!("{url}: {error}"))?;
    Ok((client, relay))
}

async fn send(url: &str, recipient: &str, secret: &str, text: &str, step: Duration) -> Res<bool> {
    let keys = Keys::parse(secret)?;
    let recipient = PublicKey::parse(recipient)?;
    let mut body = text.to_owned();
    if text == "-" {
        body.clear();
        std::io::stdin().read_to_string(&mut body)?;
    }
    let wrap = EventBuilder::private_msg(&keys, recipient, body, []).await?;
    let (client, relay) = connect(url, &keys, step).await?;
    within("publishing", step, relay.send_event(&wrap))
        .await?
        .map_err(|error| format!("the relay refused: {error}"))?;
    println!("{}", json!({ "wrap": wrap.id.to_hex(), "ok": true }));
    client.shutdown().await;
    Ok(true)
}

async fn read(url: &str, secret: &str, step: Duration, by_reconciliation: bool) -> Res<bool> {
    let keys = Keys::parse(secret)?;
    let (client, relay) = connect(url, &keys, step).await?;
    let mailbox = Filter::new().kind(Kind::GiftWrap).pubkey(keys.public_key());
    let wraps =
        if by_reconciliation { reconcile(&relay, mailbox, step).await? } else { pages(&relay, mailbox, step).await? };
    client.shutdown().await;
    print(&keys, wraps.values()).await
}

/// Opens and prints; whether all of them opened.
async fn print(keys: &Keys, wraps: impl Iterator<Item = &Event>) -> Res<bool> {
    let mut all = true;
    for wrap in wraps {
        match open(keys, wrap).await {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("wrap {}: {error}", wrap.id);
                all = false;
            }
        }
    }
    Ok(all)
}

/// What matches, in one REQ. The SDK ends a REQ that got no EOSE without an error: its duration tells.
async fn fetch(relay: &Relay, filter: Filter, step: Duration) -> Res<Events> {
    let start = Instant::now();
    let events = within("reading", step, relay.fetch_events(filter, step, ReqExitPolicy::ExitOnEOSE)).await??;
    if start.elapsed() >= step {
        return Err(format!("reading: no EOSE within {step:?}").into());
    }
    Ok(events)
}

async fn pages(relay: &Relay, mailbox: Filter, step: Duration) -> Res<BTreeMap<EventId, Event>> {
    let mut found = BTreeMap::new();
    let mut filter = mailbox.clone();
    for _ in 0..MAX_PAGES {
        let before = found.len();
        let events = fetch(relay, filter, step).await?;
        let Some(oldest) = events.iter().map(|event| event.created_at).min() else { return Ok(found) };
        found.extend(events.into_iter().map(|event| (event.id, event)));
        if found.len() == before {
            return Ok(found);
        }
        filter = mailbox.clone().until(oldest);
    }
    Err(format!("more than {MAX_PAGES} pages").into())
}

/// The ids by NIP-77 from an empty set, then the events. The SDK's own download (`pull`) asks by ids alone, which some
/// relays that gate reads answer with nothing; `fetch` asks for the recipient, too.
async fn reconcile(relay: &Relay, mailbox: Filter, step: Duration) -> Res<BTreeMap<EventId, Event>> {
    prove(relay, &mailbox, step).await?;
    let options = SyncOptions::new().initial_timeout(step).dry_run();
    let summary = within("NIP-77", step, relay.sync_with_items(mailbox.clone(), Vec::new(), &options))
        .await?
        .map_err(|error| format!("NIP-77: {error}"))?;
    let needed: Vec<EventId> = summary.remote.into_iter().collect();
    let mut found = BTreeMap::new();
    for ids in needed.chunks(BATCH) {
        let events = fetch(relay, mailbox.clone().ids(ids.iter().copied()), step).await?;
        found.extend(events.into_iter().map(|event| (event.id, event)));
    }
    if found.len() != needed.len() {
        return Err(format!("the relay named {} ids by NIP-77 and gave {} events", needed.len(), found.len()).into());
    }
    Ok(found)
}

/// Downloads by the SDK's own reconciliation, into its own database.
async fn pull(url: &str, secret: &str, step: Duration) -> Res<bool> {
    let keys = Keys::parse(secret)?;
    let (client, relay) = connect(url, &keys, step).await?;
    let held = hold(&client).await?;
    let summary = own_sync(&relay, &keys, SyncDirection::Down, step).await?;
    let mailbox = Filter::new().kind(Kind::GiftWrap).pubkey(keys.public_key());
    let stored = client.database().query(mailbox).await?;
    client.shutdown().await;
    let new: Vec<&Event> = stored.iter().filter(|wrap| !held.contains(&wrap.id)).collect();
    let is_opened = print(&keys, new.iter().copied()).await?;
    if new.len() != summary.remote.len() || summary.received != summary.remote {
        let (named, received) = (summary.remote.len(), summary.received.len());
        return Err(format!("the relay named {named} ids, {received} came and {} were stored", new.len()).into());
    }
    Ok(is_opened)
}

/// Uploads by the SDK's own reconciliation, out of its own database.
async fn push(url: &str, secret: &str, step: Duration) -> Res<bool> {
    let keys = Keys::parse(secret)?;
    let (client, relay) = connect(url, &keys, step).await?;
    hold(&client).await?;
    let summary = own_sync(&relay, &keys, SyncDirection::Up, step).await?;
    client.shutdown().await;
    for id in &summary.sent {
        println!("{}", json!({ "wrap": id.to_hex(), "ok": true }));
    }
    for (id, words) in summary.send_failures.values().flatten() {
        eprintln!("wrap {id}: {words}");
    }
    Ok(summary.sent == summary.local)
}

/// Takes the wraps of standard input into the SDK's database; their ids.
async fn hold(client: &Client) -> Res<BTreeSet<EventId>> {
    let mut held = BTreeSet::new();
    for line in std::io::stdin().lines() {
        let wrap = Event::from_json(line?)?;
        wrap.verify()?;
        client.database().save_event(&wrap).await?;
        held.insert(wrap.id);
    }
    Ok(held)
}

async fn own_sync(relay: &Relay, keys: &Keys, direction: SyncDirection, step: Duration) -> Res<Reconciliation> {
    let mailbox = Filter::new().kind(Kind::GiftWrap).pubkey(keys.public_key());
    prove(relay, &mailbox, step).await?;
    let options = SyncOptions::new().initial_timeout(step).direction(direction);
    let summary = within("NIP-77", step, relay.sync(mailbox, &options)).await?;
    summary.map_err(|error| format!("NIP-77: {error}").into())
}

/// A REQ that matches nothing, because the SDK authenticates after a refused REQ but not after a refused NEG-OPEN.
async fn prove(relay: &Relay, mailbox: &Filter, step: Duration) -> Res<()> {
    fetch(relay, mailbox.clone().id(EventId::all_zeros()), step).await.map(drop)
}

async fn open(keys: &Keys, wrap: &Event) -> Res<serde_json::Value> {
    wrap.verify()?;
    let UnwrappedGift { sender, mut rumor } = UnwrappedGift::from_gift_wrap(keys, wrap).await?;
    rumor.verify_id()?;
    Ok(json!({
        "wrap": wrap.id.to_hex(),
        "id": rumor.id().to_hex(),
        "sender": sender.to_hex(),
        "kind": rumor.kind.as_u16(),
        "content": rumor.content,
        "tags": rumor.tags,
        "created_at": rumor.created_at.as_secs(),
    }))
}
