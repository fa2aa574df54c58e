//! A peer that says whatever it likes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::{Value, json};
use talkbox_backend_gossip::node::Bind as _;
use talkbox_core::{
    EventId, SecretKey,
    anti_entropy::{FrameLimit, IdSet, Item, respond},
    event::{Event, kind},
};
use tokio::time::sleep;

use crate::{
    net::{PORT, Simulated},
    rng::Rng,
    talk::Talk,
    world::World,
};

/// Events that it says it has.
const MADE_UP: usize = 20;

#[derive(Clone)]
struct Liar {
    world: Arc<World>,
    key: SecretKey,
    rng: Arc<Mutex<Rng>>,
}

/// Answers, and pushes what is forged.
pub(crate) async fn run(world: Arc<World>, key: SecretKey) -> turmoil::Result {
    let rng = Arc::new(Mutex::new(Rng::new(world.seed, "lies", 0)));
    let liar = Liar { world, key, rng };
    let network = Simulated { world: Arc::clone(&liar.world), host: "liar".to_owned() };
    let mut listener = network.bind(([0, 0, 0, 0], PORT).into()).await?;
    tokio::spawn(liar.clone().push());
    let router = TowerToHyperService::new(Router::new().fallback(answer).with_state(liar));
    // Not `axum::serve`, which lets chance decide what it looks at first.
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), router.clone()));
    }
}

async fn answer(State(liar): State<Liar>, uri: Uri, body: Bytes) -> Response {
    let mood = liar.roll(10);
    match uri.path() {
        "/" => json!({"self": liar.key.public().to_hex()}).to_string().into_response(),
        _ if mood == 0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ if mood == 1 => {
            sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
        _ if mood == 2 => liar.junk().into_response(),
        "/v1/reconcile" => {
            let set: IdSet = liar.made_up();
            respond(&set, &body, FrameLimit::NONE).unwrap_or_default().into_response()
        }
        "/v1/envelopes" => stored(&body).into_response(),
        "/v1/envelopes/get" => {
            let forged: Vec<String> = (0..5).map(|_| liar.forged()).collect();
            Body::from(forged.join("\n")).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Claims to have stored everything.
fn stored(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let ids = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("id").cloned());
    ids.map(|id| format!("{}\n", json!({"id": id, "status": "stored"}))).collect()
}

impl Liar {
    fn roll(&self, end: usize) -> usize {
        self.rng.lock().expect("nobody panics here").below(end)
    }

    fn junk(&self) -> Vec<u8> {
        self.rng.lock().expect("nobody panics here").bytes::<200>().to_vec()
    }

    fn made_up(&self) -> IdSet {
        let now = self.world.now();
        let mut rng = self.rng.lock().expect("nobody panics here");
        let item = |_| Item::new(now.minus(rng.between(0, 100_000)), EventId::from_bytes(rng.bytes())).ok();
        (0..MADE_UP).filter_map(item).collect()
    }

    /// A gift wrap whose id is right and whose signature is of something else.
    fn forged(&self) -> String {
        let now = self.world.now();
        let mut rng = self.rng.lock().expect("nobody panics here");
        let mailbox = &self.world.mailboxes[rng.below(self.world.mailboxes.len())];
        let tags = vec![vec!["p".to_owned(), mailbox.public().to_hex()]];
        let event = Event::sign(&rng.key(), now, kind::GIFT_WRAP, tags, "forged".to_owned());
        let mut event: Value = serde_json::from_str(&event.to_json()).expect("JSON");
        event["sig"] = talkbox_core::hex::encode(&rng.bytes::<64>()).into();
        event.to_string()
    }

    async fn push(self) {
        let talk = Talk::new(&self.world, "liar".to_owned());
        loop {
            sleep(Duration::from_millis(2_000)).await;
            let node = self.roll(self.world.nodes.len());
            let _whatever = talk.post_as(&self.key, node, "/v1/envelopes", self.forged()).await;
        }
    }
}
