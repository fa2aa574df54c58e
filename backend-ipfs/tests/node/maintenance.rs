//! What an operator does with the store of a node.

use std::path::PathBuf;

use rusqlite::Connection;
use talkbox_backend_ipfs::maintenance;
use talkbox_core::ErrorKind;

use crate::support::{Place, clock, ids, listed, mail, open, owner, put};

fn store(place: &Place) -> PathBuf {
    maintenance::store_in(place.config.data.as_deref().expect("a folder")).expect("there is a store")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_node_is_a_store() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    let envelopes = mail(owner, &clock, 5);
    put(&*mailbox, &envelopes, 1).await;
    let mut other = Place::start(&clock, None, Vec::new()).await;
    other.stop().await;
    let there = store(&other);
    let taken = maintenance::backup(&store(&place), &there).expect_err("it is there already");
    assert_eq!(taken.kind(), ErrorKind::InvalidInput);
    std::fs::remove_file(&there).expect("is there");
    let made = maintenance::backup(&store(&place), &there).expect("is made");
    let checked = maintenance::verify(&there).expect("checks");
    assert!(checked.is_sound() && checked.blocks == made.blocks && made.blocks > 5, "{checked:?}, {made:?}");
    assert!(maintenance::is_store(&there).expect("reads"));
    let epoch = |path: &PathBuf| {
        let db = Connection::open(path).expect("opens");
        db.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| row.get::<_, Vec<u8>>(0))
            .expect("has one")
    };
    assert_ne!(epoch(&there), epoch(&store(&place)));
    other.start_again().await;
    let mailbox = open(&[&other], &clock, None).await;
    assert_eq!(listed(&*mailbox, owner, &other.locator()).await.expect("lists"), ids(&envelopes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_what_is_damaged_though_sqlite_does_not() {
    let (clock, owner) = (clock(), owner().id());
    let mut place = Place::start(&clock, None, Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    put(&*mailbox, &mail(owner, &clock, 5), 1).await;
    let store = store(&place);
    let sound = maintenance::verify(&store).expect("checks");
    assert!(sound.is_sound(), "{sound:?}");
    place.stop().await;
    let db = Connection::open(&store).expect("opens");
    let newest = "(SELECT max(number) FROM entries)";
    let spoil = format!("UPDATE blocks SET bytes = zeroblob(length(bytes)) WHERE number = {newest}");
    assert_eq!(db.execute(&spoil, []).expect("writes"), 1);
    let found = maintenance::verify(&store).expect("checks");
    assert_eq!((found.blocks, found.damaged, found.named.len()), (sound.blocks, 1, 1), "{found:?}");
    assert!(found.faults.is_empty(), "{found:?}");
    db.execute(&format!("DELETE FROM blocks WHERE number = {newest}"), []).expect("writes");
    let found = maintenance::verify(&store).expect("checks");
    assert_eq!((found.damaged, found.faults), (0, vec!["1 entries have no block".to_owned()]));
    drop(db);
    std::fs::write(&store, "no database".repeat(100)).expect("writes");
    assert!(!maintenance::verify(&store).expect("says what it found").is_sound());
    assert!(!maintenance::is_store(&store).expect("reads"));
    std::fs::remove_file(&store).expect("is there");
    assert_eq!(maintenance::verify(&store).expect_err("is not there").kind(), ErrorKind::NotFound);
}
