//! Asking a node over HTTP, as its clients do.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use talkbox_core::{
    SecretKey, Timestamp,
    event::{Event, kind},
    hex,
};
use talkbox_net::{Bounds, HeaderValue, Http, Limits, Method, Request, Trust, header};
use url::Url;

use crate::{net::Simulated, world::World};

/// How long a client waits.
const LIMITS: Limits = Limits { max_response_bytes: 8 << 20, deadline: Duration::from_secs(4) };

/// Asks in the name of a client.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) world: Arc<World>,
    http: Http,
}

/// A page of a mailbox.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<String>,
    pub(crate) next: String,
    pub(crate) more: bool,
}

/// The status of an answer, and its body; or why there is none.
type Answered = Result<(u16, String), String>;

impl Talk {
    pub(crate) fn new(world: &Arc<World>, host: String) -> Self {
        let network = Simulated { world: Arc::clone(world), host };
        let http = Http::new("node", Arc::new(network), Bounds::default());
        Self { world: Arc::clone(world), http }
    }

    pub(crate) async fn post(&self, node: usize, path: &str, body: String) -> Answered {
        self.ask(Request::post(self.world.url(node, path), Trust::Configured, body)).await
    }

    /// Asks as this key.
    pub(crate) async fn post_as(&self, key: &SecretKey, node: usize, path: &str, body: String) -> Answered {
        let url = self.world.url(node, path);
        let proof = prove(key, self.world.now(), &Method::POST, &url, body.as_bytes());
        self.ask(Request::post(url, Trust::Configured, body).header(header::AUTHORIZATION, proof)).await
    }

    /// How many events a node holds, and the fingerprint of all of them.
    pub(crate) async fn fingerprint(&self, node: usize) -> Result<(u64, String), String> {
        let asked = Request::get(self.world.url(node, "/v1/peers"), Trust::Configured);
        let (_, body) = self.ask(asked).await?;
        let state: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let read = || Some((state["events"].as_u64()?, state["fingerprint"].as_str()?.to_owned()));
        read().ok_or_else(|| format!("no state: {body}"))
    }

    /// A page of a mailbox, for its owner.
    pub(crate) async fn page(
        &self,
        node: usize,
        mailbox: usize,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, String> {
        let key = &self.world.mailboxes[mailbox];
        let path = format!("/v1/mailboxes/{}/envelopes", key.public().to_hex());
        self.page_of(key, node, &path, after, limit).await
    }

    async fn page_of(
        &self,
        key: &SecretKey,
        node: usize,
        path: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, String> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let path = format!("{path}?limit={limit}{after}");
        let url = self.world.url(node, &path);
        let proof = prove(key, self.world.now(), &Method::GET, &url, &[]);
        let (status, body) =
            self.ask(Request::get(url, Trust::Configured).header(header::AUTHORIZATION, proof)).await?;
        if status != 200 {
            return Err(format!("{status} {body}"));
        }
        #[derive(serde::Deserialize)]
        struct Told {
            items: Vec<Box<serde_json::value::RawValue>>,
            next: String,
            more: bool,
        }
        let Told { items, next, more } = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        Ok(Page { items: items.into_iter().map(|item| item.get().to_owned()).collect(), next, more })
    }

    async fn ask(&self, request: Request) -> Answered {
        let answer = self.http.request(request, LIMITS).await.map_err(|error| error.to_string())?;
        Ok((answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
    }
}

/// NIP-98.
fn prove(key: &SecretKey, now: Timestamp, method: &Method, url: &Url, body: &[u8]) -> HeaderValue {
    let tag = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let mut tags = vec![tag("u", url.as_str()), tag("method", method.as_str())];
    if !body.is_empty() {
        tags.push(tag("payload", &hex::encode(&Sha256::digest(body))));
    }
    let event = Event::sign(key, now, kind::HTTP_AUTH, tags, String::new());
    HeaderValue::from_str(&format!("Nostr {}", STANDARD.encode(event.to_json()))).expect("ASCII")
}
