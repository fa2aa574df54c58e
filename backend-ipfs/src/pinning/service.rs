//! One pinning service, asked over HTTP.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use serde_json::Value;
use talkbox_core::{Error, ErrorKind, Result, async_trait};
use talkbox_net::{Bounds, Connect, HeaderValue, Http, Limits, Method, Request, Trust, header};
use url::Url;

use super::{
    api::{ListPage, Listing, Pin, PinStatus, RequestId, State, read_json},
    refused::refused,
    settings::Service,
    token::{Token, TokenFile},
};
use crate::orbitdb::Cid;

/// How long one answer may take: services look up quotas before they answer, and none is waited for by a person.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes of an answer about one pin: twenty addresses in each direction, and as many metadata as anybody adds.
const MOST_OF_ONE: usize = 256 * 1024;
/// Pins on one page, of the thousand that the API allows: a page is answered and read within a moment.
const PAGE: usize = 100;
/// Most bytes of a page.
const MOST_OF_PAGE: usize = 4 * 1024 * 1024;
/// Most pages: ten thousand pins are those of many mailboxes for years.
const MAX_PAGES: usize = 100;
/// Most CIDs that one question may name, by the API.
const MAX_CIDS: usize = 10;

/// A service that keeps a DAG for others.
#[async_trait]
pub(crate) trait PinService: fmt::Debug + Send + Sync + 'static {
    /// What it is called here.
    fn name(&self) -> &str;

    /// Asks for a new pin.
    ///
    /// # Errors
    /// What the service refuses with; those of the way there; `ConfigInvalid` without a token; `Unexpected` for an answer
    /// that makes no sense. None of them has the token. So it is with all others.
    async fn add(&self, pin: &Pin) -> Result<PinStatus>;

    /// Asks for a pin in the place of another. What both have in common stays where it is.
    ///
    /// # Errors
    /// `NotFound` where there is no such request (any more); else as [`add`](Self::add).
    async fn replace(&self, id: &RequestId, pin: &Pin) -> Result<PinStatus>;

    /// Asks how far a request is.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    async fn get(&self, id: &RequestId) -> Result<PinStatus>;

    /// Lists requests in every state: those for these CIDs, at most ten, or all.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    async fn list(&self, cids: &[Cid]) -> Result<Listing>;

    /// Takes a request back.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    async fn delete(&self, id: &RequestId) -> Result<()>;
}

/// A service as the settings name it.
#[derive(Clone, Debug)]
pub(crate) struct HttpService {
    name: String,
    endpoint: Url,
    token: TokenFile,
    http: Http,
    deadline: Duration,
}

impl HttpService {
    /// Asks this service on these connections, as [`connections`] makes them.
    pub(crate) fn new(service: Service, http: Http) -> Self {
        Self { name: service.name, endpoint: service.endpoint, token: service.token, http, deadline: DEADLINE }
    }

    /// Waits so long for each answer.
    #[cfg(test)]
    #[must_use]
    pub(crate) const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Asks one thing. A body is returned as it came.
    async fn ask(&self, method: Method, url: Url, body: Option<Vec<u8>>, most: usize) -> Result<(Token, Vec<u8>)> {
        let file = self.token.clone();
        // A file may be on a disk that is asleep or far away.
        let token = tokio::task::spawn_blocking(move || file.read())
            .await
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the token was not read").source(error))??;
        let mut request = Request::new(method, url, Trust::Configured)
            .header(header::AUTHORIZATION, token.header()?)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        let limits = Limits { max_response_bytes: most, deadline: self.deadline };
        let response = self.http.request(request, limits).await?;
        if !response.status.is_success() {
            return Err(refused(response.status, &response.headers, &response.body, &token));
        }
        Ok((token, response.body.to_vec()))
    }

    /// Asks, and reads a status.
    async fn ask_status(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<PinStatus> {
        let (token, body) = self.ask(method, url, body, MOST_OF_ONE).await?;
        read_json(&body, &token).as_ref().and_then(PinStatus::read).ok_or_else(nonsense)
    }

    /// Asks for a pin, and checks that it is the one that was asked for.
    async fn ask_for(&self, url: Url, pin: &Pin) -> Result<PinStatus> {
        let status = self.ask_status(Method::POST, url, Some(pin.to_json())).await?;
        if status.cid.hash() != pin.cid.hash() {
            return Err(Error::new(ErrorKind::Unexpected, "the pinning service answers with another pin"));
        }
        Ok(status)
    }

    /// The URL of all pins, or of one.
    fn url(&self, id: Option<&RequestId>) -> Result<Url> {
        let mut url = self.endpoint.clone();
        {
            let mut segments = url
                .path_segments_mut()
                .map_err(|()| Error::new(ErrorKind::ConfigInvalid, "the endpoint is no URL of a host"))?;
            segments.pop_if_empty().push("pins");
            if let Some(id) = id {
                segments.push(id.as_str());
            }
        }
        Ok(url)
    }

    async fn page(&self, cids: &[Cid], before: Option<&str>) -> Result<ListPage> {
        let mut url = self.url(None)?;
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("status", State::ALL).append_pair("limit", &PAGE.to_string());
            if !cids.is_empty() {
                let cids: Vec<_> = cids.iter().take(MAX_CIDS).map(ToString::to_string).collect();
                query.append_pair("cid", &cids.join(","));
            }
            if let Some(before) = before {
                query.append_pair("before", before);
            }
        }
        let (token, body) = self.ask(Method::GET, url, None, MOST_OF_PAGE).await?;
        let answer: Option<Value> = read_json(&body, &token);
        answer.and_then(|answer| ListPage::read(&answer, PAGE)).ok_or_else(nonsense)
    }

    /// The error, with the service that it is about.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.op("pin").with("service", &self.name))
    }
}

#[async_trait]
impl PinService for HttpService {
    fn name(&self) -> &str {
        &self.name
    }

    async fn add(&self, pin: &Pin) -> Result<PinStatus> {
        self.named(async { self.ask_for(self.url(None)?, pin).await.map_err(elsewhere) }.await)
    }

    async fn replace(&self, id: &RequestId, pin: &Pin) -> Result<PinStatus> {
        self.named(async { self.ask_for(self.url(Some(id))?, pin).await }.await)
    }

    async fn get(&self, id: &RequestId) -> Result<PinStatus> {
        self.named(async { self.ask_status(Method::GET, self.url(Some(id))?, None).await }.await)
    }

    async fn list(&self, cids: &[Cid]) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut known = BTreeSet::new();
        let mut before = None;
        for _ in 0..MAX_PAGES {
            let page = self.named(self.page(cids, before.as_deref()).await.map_err(elsewhere))?;
            let is_last = page.len() == 0
                || page.count.is_some_and(|count| count <= page.len() as u64)
                || (page.count.is_none() && page.len() < PAGE);
            let oldest = page.pins.last().map(|pin| pin.created.clone()).filter(|created| !created.is_empty());
            listing.unreadable += page.unreadable;
            let known_before = known.len();
            listing.pins.extend(page.pins.into_iter().filter(|pin| known.insert(pin.id.clone())));
            if is_last {
                return Ok(listing);
            }
            // A service that goes in a circle, or names no time to go on from, is not followed.
            if known.len() == known_before || oldest.is_none() {
                break;
            }
            before = oldest;
        }
        listing.has_more = true;
        Ok(listing)
    }

    async fn delete(&self, id: &RequestId) -> Result<()> {
        let url = self.named(self.url(Some(id)))?;
        self.named(self.ask(Method::DELETE, url, None, MOST_OF_ONE).await).map(drop)
    }
}

/// Connections for all services. None is kept: there are seconds between two requests, and on a fresh one no request is
/// ever sent twice, which would be a second pin that nobody remembers.
pub(crate) fn connections(way: Arc<dyn Connect>) -> Http {
    let mut bounds = Bounds::default();
    bounds.idle = 0;
    Http::new("pinning service", way, bounds)
}

/// Where not even the place of all pins is, there is no service at all.
fn elsewhere(error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::new(ErrorKind::Unsupported, "what answers there is no pinning service: correct `endpoint`").source(error)
}

fn nonsense() -> Error {
    Error::new(ErrorKind::Unexpected, "the pinning service's answer makes no sense")
}
