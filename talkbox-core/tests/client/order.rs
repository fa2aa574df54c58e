//! Messages of one second, in the order in which they were written, however they arrive.

use talkbox_core::{Draft, SecretKey, client::SendRequest, local::MessageQuery};

use crate::world::{BUDGET, World};

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_second_stay_in_order() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let key = SecretKey::generate().expect("randomness");
    let code = owner.announce(&key).await.expect("announces").record.code();
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let texts: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let mut sent = Vec::new();
    for text in &texts {
        let request = SendRequest::new(to.clone(), Draft::text(text.as_str()));
        sent.push(sender.send(request).await.expect("is committed").outbox);
    }
    // The last is the first to arrive, and each is fetched before the next.
    for outbox in sent.into_iter().rev() {
        assert!(sender.stored(outbox, BUDGET).await.expect("is tried").is_stored());
        assert_eq!(owner.sync(&key, BUDGET).await.expect("syncs").new.len(), 1);
    }
    let page = owner.store().messages(key.id(), MessageQuery::oldest()).await.expect("reads");
    let times: Vec<_> = page.items.iter().map(|stored| stored.message.sent_at).collect();
    assert!(times.iter().all(|time| *time == crate::world::NOW), "all of them are of one second: {times:?}");
    let bodies: Vec<_> = page.items.into_iter().map(|stored| stored.message.body).collect();
    assert_eq!(bodies, texts);
}
