//! Much, and large.

use std::time::Instant;

use crate::{
    ours::{Client, Owner, TCP, ids, node},
    peer::{Peer, text},
};

/// Letters that go each way.
const MANY: usize = 1_000;
/// Characters of an entry that is no mail, and larger than any mail.
const LARGE: usize = 200_000;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "measured, and not asserted: a test runs on any machine")]
async fn a_thousand_letters_go_each_way() {
    let Some(mut peer) = Peer::start().await else { return };
    let owner = Owner::new();
    peer.open(&owner.log()).await;
    let (mut mail, ours) = (owner.mail(MANY), owner.mail(MANY));
    peer.add_mail(&mail).await;

    let since = Instant::now();
    let (_node, address) = node(&owner, TCP, &[&peer.tcp]).await;
    let at_node = Client::of(&owner, &address).await;
    at_node.until_listed(&ids(&mail)).await;
    eprintln!("{MANY} letters from JavaScript to a node in {:.1?}", since.elapsed());

    let since = Instant::now();
    at_node.store(&ours).await;
    eprintln!("{MANY} letters put and stored in {:.1?}", since.elapsed());
    mail.extend(ours);
    peer.until(2 * MANY).await;
    eprintln!("… and joined by JavaScript after {:.1?}", since.elapsed());
    assert_eq!(peer.mail().await, ids(&mail));
    at_node.until_listed(&ids(&mail)).await;
}

#[tokio::test]
async fn a_large_entry_that_is_no_mail_is_carried_and_not_shown() {
    let (Some(mut writer), Some(mut reader)) = (Peer::start().await, Peer::start().await) else { return };
    let mut late = Peer::start().await.expect("as the others");
    let owner = Owner::new();
    let (_node, address) = node(&owner, TCP, &[]).await;
    let mail = owner.mail(2);
    // Once as what was there before, once as the head that JavaScript peers cannot read from the stream of heads.
    writer.open(&owner.log()).await;
    let old = text(&writer.ask(&format!("addn 1 {LARGE}")).await["hash"]);
    writer.add_mail(&mail).await;
    writer.connect(&address).await;
    reader.open(&owner.log()).await;
    reader.connect(&address).await;
    reader.until_it_has(std::slice::from_ref(&old)).await;
    let live = text(&writer.ask(&format!("addn 1 {LARGE}")).await["hash"]);
    reader.until_it_has(std::slice::from_ref(&live)).await;
    writer.quit().await;

    late.open(&owner.log()).await;
    late.connect(&address).await;
    late.until_it_has(&[old, live]).await;
    assert_eq!(late.hashes().await, reader.hashes().await);
    let client = Client::of(&owner, &address).await;
    assert_eq!(client.listed().await, ids(&mail));
}
