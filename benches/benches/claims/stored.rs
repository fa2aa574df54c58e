//! What it saves to keep opened messages, sealed at rest, beside opening their envelopes anew.

use std::{io, path::Path, sync::Arc};

use talkbox_benches::{Clock, Pairs, Report, Row, Spent};
use talkbox_core::{
    Envelope, Opener, SystemClock,
    local::{Ingest, MessageQuery, Opened, Store, StoreKey},
};
use tokio::runtime::{Builder, Runtime};

use crate::supply::{MANY, Supply};

const PAIRS: usize = 11;
/// As `talkbox read` takes them.
const PAGE: u32 = 512;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let store = runtime.block_on(filled(supply, folder.path()));
    let anew = Pairs::measure(PAIRS, || read(&runtime, &store, supply), || open(supply));
    let restored = Pairs::measure(PAIRS, || read(&runtime, &store, supply), || restore_and_open(supply));
    runtime.block_on(store.close());
    let per = MANY as u32;
    report.add([
        Row::gain("read 10,000 back from the store: open them anew", &anew, Clock::Cpu, per, 20.0),
        Row::gain("read 10,000 back from the store: open them anew", &anew, Clock::Wall, per, 20.0).unclaimed(),
        Row::gain("read 10,000 back: restore them from JSON and open", &restored, Clock::Cpu, per, 20.0).unclaimed(),
    ])
}

/// A store on the disk, with everything in it.
async fn filled(supply: &Supply, folder: &Path) -> Store {
    let key = StoreKey::generate().expect("randomness");
    let store = Store::open(&folder.join("store.sqlite"), key, Arc::new(SystemClock)).await.expect("a store");
    let opener = Opener::new(supply.owner.clone());
    for part in supply.many().chunks(256) {
        let opened = |it: &Envelope| (it.clone(), Opened::Message(opener.open(it).expect("opens")));
        let mut batch = Ingest::new(supply.owner.id(), "nostr:wss://relay.example".parse().expect("a locator"));
        batch.opened = part.iter().map(opened).collect();
        store.ingest(batch).await.expect("is stored");
    }
    store
}

/// Page by page, one after the other: never more than one thread at a time.
fn read(runtime: &Runtime, store: &Store, supply: &Supply) -> Spent {
    Spent::on(|| {
        let mut query = MessageQuery::oldest().limit(PAGE);
        let mut count = 0;
        loop {
            let page = runtime.block_on(store.messages(supply.owner.id(), query.clone())).expect("reads");
            count += page.items.len();
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => break assert_eq!(count, MANY),
            }
        }
    })
}

/// Envelopes that lie ready and were verified, of a sender that is known: the least that opening anew can be.
fn open(supply: &Supply) -> Spent {
    let opener = Opener::new(supply.owner.clone());
    Spent::on(|| supply.many().iter().for_each(|envelope| drop(opener.open(envelope).expect("opens"))))
}

/// What a store would have to do that keeps envelopes alone.
fn restore_and_open(supply: &Supply) -> Spent {
    let opener = Opener::new(supply.owner.clone());
    let restored = |envelope: &Envelope| Envelope::restore(envelope.json()).expect("valid");
    Spent::on(|| supply.many().iter().for_each(|it| drop(opener.open(&restored(it)).expect("opens"))))
}
