//! How a mailbox is found in a DHT of a network of one's own.

use std::{future::ready, sync::Arc, time::Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use talkbox_backend_ipfs::{Dht, IpfsNode, IpfsNodeConfig};
use talkbox_core::{
    BackendConfig, Clock as _, MailboxRecord, ManualClock, OpenContext, PublishOptions, RecordFields, ResolveEvent,
    ResolveOptions, Shortcode, Transport, address::Target,
};

use crate::support::{SOON, clock, owner};

const DHT: &str = "/talkbox/test/kad/1.0.0";

async fn node(clock: &ManualClock, peers: &[&str]) -> (IpfsNode, String) {
    let mut config = IpfsNodeConfig::loopback();
    config.peers = peers.iter().copied().map(str::to_owned).collect();
    config.dht = Dht::Server;
    config.dht_protocol = DHT.to_owned();
    let node = IpfsNode::start_with(config, None, Arc::new(clock.clone())).await.expect("the node starts");
    let address = node.addresses().swap_remove(0);
    (node, address)
}

async fn transport(clock: &ManualClock, peers: &[&str]) -> Arc<dyn Transport> {
    let Value::Object(table) = json!({ "peers": peers, "dht_protocol": DHT, "timeout_ms": 10_000 }) else {
        unreachable!("an object")
    };
    let mut context = OpenContext::new("ipfs");
    context.clock = Arc::new(clock.clone());
    context.allow_private = true;
    let opened = (talkbox_backend_ipfs::backend().open)(BackendConfig::new(table), context).await;
    opened.expect("opens").transport.expect("a transport")
}

async fn found(transport: &dyn Transport, code: Shortcode) -> Vec<String> {
    let events = transport.resolve(&Target::Code(code), ResolveOptions::default());
    let records = events.filter_map(|event| ready(event.ok().and_then(ResolveEvent::into_record)));
    records.map(|record| record.json).collect().await
}

/// Nodes serve their part of the DHT: whoever names one needs no `bootstrap` besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_peer_is_where_the_dht_begins() {
    let (clock, owner) = (clock(), owner());
    let (_gate, gate) = node(&clock, &[]).await;
    let (_holder, holder) = node(&clock, &[&gate]).await;
    let fields = RecordFields::new(vec![format!("ipfs:{holder}").parse().expect("a locator")]);
    let record = MailboxRecord::sign(&owner, Shortcode::of(&owner.id()), fields, clock.now()).expect("signs");
    transport(&clock, &[&holder]).await.publish(&record, PublishOptions::default()).await.expect("is taken");
    let begun = Instant::now();
    loop {
        // One that is connected to nobody yet, each time. That the record is there is told to the DHT meanwhile.
        let stranger = transport(&clock, &[&gate]).await;
        if found(&*stranger, record.code()).await.contains(&record.event().to_json()) {
            break;
        }
        assert!(begun.elapsed() < SOON, "it is not found");
    }
}

/// Who is of no DHT holds nobody up for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_ends_where_nobody_is_of_the_dht() {
    let (clock, owner) = (clock(), owner());
    let node = IpfsNode::start_with(IpfsNodeConfig::loopback(), None, Arc::new(clock.clone())).await.expect("starts");
    let address = node.addresses().swap_remove(0);
    let stranger = transport(&clock, &[&address]).await;
    let looked = tokio::time::timeout(SOON, found(&*stranger, Shortcode::of(&owner.id())));
    assert!(looked.await.expect("it ends").is_empty());
}
