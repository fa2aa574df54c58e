//! Peers that lie: what they cost, and whom.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    response::IntoResponse,
    routing::{get as route, post as accept},
};
use serde_json::{Value, json};
use talkbox_core::{
    EventId, SecretKey,
    anti_entropy::{FrameLimit, IdSet, Item, respond},
    event::Event,
};
use tokio::net::TcpListener;

use super::support::Mesh;
use crate::{
    http::support::publish,
    support::{NOW, key, wrap},
};

/// What a liar does when it is asked for events.
#[derive(Clone, Copy, Debug)]
enum Lie {
    GivesNothing,
    Forges,
    NeverEnds,
}

/// A node that says that it holds what it does not.
#[derive(Debug)]
struct Liar {
    key: SecretKey,
    lie: Lie,
    ids: IdSet,
    forgeries: Vec<(EventId, String)>,
}

#[expect(clippy::unused_async, reason = "axum's handlers are asynchronous")]
impl Liar {
    /// Starts it; its URL.
    async fn start(lie: Lie, ids: usize) -> String {
        let forgeries: Vec<(EventId, String)> = (0..ids).map(|_| forgery()).collect();
        let ids = forgeries.iter().filter_map(|(id, _)| Item::new(NOW, *id).ok()).collect();
        let liar = Arc::new(Self { key: key(), lie, ids, forgeries });
        let router = Router::new()
            .route("/", route(Self::document))
            .route("/v1/reconcile", accept(Self::reconcile))
            .route("/v1/envelopes/get", accept(Self::give))
            .with_state(liar);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn document(State(liar): State<Arc<Self>>) -> Json<Value> {
        Json(json!({"self": liar.key.public().to_hex()}))
    }

    async fn reconcile(State(liar): State<Arc<Self>>, message: Bytes) -> Vec<u8> {
        respond(&liar.ids, &message, FrameLimit::NONE).expect("a message of ours")
    }

    async fn give(State(liar): State<Arc<Self>>, asked: Bytes) -> axum::response::Response {
        let asked: Value = serde_json::from_slice(&asked).expect("JSON");
        match liar.lie {
            Lie::GivesNothing => String::new().into_response(),
            Lie::Forges => {
                let is_asked =
                    |id: &EventId| asked["ids"].as_array().is_some_and(|ids| ids.contains(&json!(id.to_hex())));
                let given = liar.forgeries.iter().filter(|(id, _)| is_asked(id));
                given.map(|(_, json)| format!("{json}\n")).collect::<String>().into_response()
            }
            Lie::NeverEnds => {
                let endless =
                    futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; 65_536])));
                Body::from_stream(endless).into_response()
            }
        }
    }
}

/// An envelope whose signature is another's.
fn forgery() -> (EventId, String) {
    let (one, other) = (wrap(key().id()), wrap(key().id()));
    let signature = |event: &Event| talkbox_core::hex::encode(event.signature());
    (one.id(), one.to_json().replace(&signature(&one), &signature(&other)))
}

async fn is_left_alone(lie: Lie, ids: usize, why: &str) {
    let liar = Liar::start(lie, ids).await;
    let mut mesh = Mesh::unstarted(2);
    let honest = mesh.places[1].url();
    mesh.start_with(0, |config| config.peers = vec![liar.clone(), honest]).await;
    mesh.start_with(1, |_| ()).await;
    let mail = wrap(key().id());
    publish(mesh.node(1), &[&mail]).await;
    mesh.until(|states| {
        let peers = &states[0]["peers"];
        peers[0]["fault"].as_str().is_some_and(|fault| fault.contains(why)) && peers[1]["state"] == "ok"
    })
    .await;
    // And the honest peer brings what it has, and nothing of the liar's is there.
    mesh.hold(1).await;
}

#[tokio::test]
async fn a_peer_that_names_what_it_does_not_give_costs_only_itself() {
    is_left_alone(Lie::GivesNothing, 2_000, "does not give").await;
}

#[tokio::test]
async fn a_peer_that_forges_costs_only_itself() {
    is_left_alone(Lie::Forges, 20, "not what they claim").await;
}

#[tokio::test]
async fn a_peer_that_answers_without_end_costs_only_itself() {
    is_left_alone(Lie::NeverEnds, 20, "is larger than").await;
}
