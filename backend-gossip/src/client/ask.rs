//! One question to one node: signed where it has to be, within its bounds, and its refusal as an error.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use talkbox_core::{AuthRequest, Authorizer, Error, ErrorKind, Result};
use talkbox_net::{HeaderName, HeaderValue, Limits, Method, Request, Response, header};
use tokio::time::Instant;
use url::Url;

use super::{
    network::{Network, RemoteNode},
    refused::Refused,
};

/// What each further 64 KiB of a request and of its answer may take, beside the time for a small one: 5 Mbit/s, as the
/// layers above count.
const PER_BLOCK: Duration = Duration::from_millis(100);
const BLOCK: usize = 64 * 1024;
/// Bytes that are read of an answer in any case: a problem is told in less.
pub(super) const LEAST_ANSWER: usize = 16 * 1024;

/// Somebody who asks a node.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) network: Arc<Network>,
    pub(super) node: RemoteNode,
    pub(super) auth: Option<Arc<dyn Authorizer>>,
}

/// When it is proved who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// At once: what is read is for this key.
    First,
    /// Where the node wants to know: what anybody may do says nothing of who does it.
    WhereAsked,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    /// Below the URL of the node, with the query.
    pub(super) path: String,
    pub(super) body: Bytes,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Question {
    /// Asks for what is there.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new(), headers: Vec::new() }
    }

    /// Hands something over, of this kind.
    pub(super) fn post(path: impl Into<String>, kind: &'static str, body: impl Into<Bytes>) -> Self {
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        Self { method: Method::POST, path: path.into(), body: body.into(), headers }
    }

    /// By another method.
    pub(super) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With this header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Asker {
    /// Asks, and takes at most so many bytes of an answer.
    ///
    /// # Errors
    /// What the node refuses with; those of the way there; where the key does not answer this node.
    pub(super) async fn ask(&self, question: &Question, proof: Proof, most: usize) -> Result<Response> {
        self.network.health.check(&self.node.url)?;
        let most = most.max(LEAST_ANSWER);
        let blocks = u32::try_from((question.body.len() + most) / BLOCK).unwrap_or(u32::MAX);
        let deadline = self.network.timeout.saturating_add(PER_BLOCK.saturating_mul(blocks));
        let limits = Limits { max_response_bytes: most, deadline };
        let asked = async |request| {
            let before = Instant::now();
            let answer = self.network.http.request(request, limits).await;
            self.judge(answer.as_ref().err(), before.elapsed());
            answer
        };
        let mut response = asked(self.request(question, proof == Proof::First).await?).await?;
        if response.status.as_u16() == 401 && proof == Proof::WhereAsked && self.auth.is_some() {
            response = asked(self.request(question, true).await?).await?;
        }
        if response.status.is_success() {
            return Ok(response);
        }
        Err(self.named(Refused::of_answer(response.status, &response.headers, &response.body).into_error()))
    }

    /// The question as it is sent, signed where that is wanted and there is a key.
    pub(super) async fn request(&self, question: &Question, signed: bool) -> Result<Request> {
        let url = self.node.url.at(&question.path);
        let proof = match &self.auth {
            Some(auth) if signed => Some(self.proof(&**auth, &url, &question.method, &question.body).await?),
            _ => None,
        };
        let mut request = Request::new(question.method.clone(), url, self.node.trust).body(question.body.clone());
        for (name, value) in &question.headers {
            request = request.header(name.clone(), value.clone());
        }
        Ok(match proof {
            Some(proof) => request.header(header::AUTHORIZATION, proof),
            None => request,
        })
    }

    /// Remembers whether the node answered.
    pub(super) fn judge(&self, failure: Option<&Error>, took: Duration) {
        match failure {
            None => self.network.health.answered(&self.node.url),
            Some(error) => self.network.health.failed(&self.node.url, error, took),
        }
    }

    /// The error, with the node that it is about.
    pub(super) fn named(&self, error: Error) -> Error {
        if error.context("node").is_some() { error } else { error.with("node", &self.node.url) }
    }

    /// That an answer is not what was asked for.
    pub(super) fn nonsense(&self, why: &'static str) -> Error {
        self.named(Error::new(ErrorKind::Unexpected, why))
    }

    /// Who asks, by NIP-98.
    async fn proof(&self, auth: &dyn Authorizer, url: &Url, method: &Method, body: &[u8]) -> Result<HeaderValue> {
        let digest: [u8; 32] = Sha256::digest(body).into();
        let request = AuthRequest::Http {
            holder: &self.node.holder,
            url: url.as_str(),
            method: method.as_str(),
            body: (!body.is_empty()).then_some(&digest),
        };
        let event = auth.authorize(request).await?;
        let mut value = HeaderValue::from_str(&format!("Nostr {}", STANDARD.encode(event.to_json())))
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the proof cannot be sent").source(error))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
