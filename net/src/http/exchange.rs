//! One question and its answer, within its bounds.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use talkbox_core::{Error, ErrorKind, Result};
use tokio::time::timeout;
use url::Position;

use super::{
    Chunks, Limits, Request, Response, StreamLimits, Streamed,
    line::{Answer, Line, Question, failed},
    pool::{Pool, Ticket, Use},
};
use crate::endpoint::Endpoint;

/// What is set aside for a body before any of it has come: whoever announces much need not send it.
const FIRST_ROOM: usize = 64 * 1024;

/// Asks, and reads all of the answer.
pub(super) async fn whole(pool: &Arc<Pool>, endpoint: Endpoint, request: Request, limits: Limits) -> Result<Response> {
    let key = (endpoint.clone(), request.trust);
    let question = question(&request)?;
    let work = async {
        let ticket = pool.enter(key, Use::Request).await?;
        let (line, answer) = asked(&ticket, question).await?;
        let (head, body) = answer.into_parts();
        let body = read(&endpoint, body, limits.max_response_bytes).await?;
        ticket.give_back(line).await;
        Ok(Response { status: head.status, headers: head.headers, body })
    };
    let in_time = async {
        let late = |_| endpoint.error(ErrorKind::Timeout, format!("the {} has not answered in time", endpoint.what()));
        timeout(limits.deadline, work).await.map_err(late)?
    };
    Box::pin(pool.run(&endpoint, in_time)).await
}

/// Asks, and leaves the body to come.
pub(super) async fn streamed(
    pool: &Arc<Pool>,
    endpoint: Endpoint,
    request: Request,
    limits: StreamLimits,
) -> Result<Streamed> {
    let key = (endpoint.clone(), request.trust);
    let question = question(&request)?;
    let work = async {
        let ticket = pool.enter(key, Use::Stream).await?;
        let (line, answer) = asked(&ticket, question).await?;
        Ok((ticket, line, answer))
    };
    let in_time = async {
        let late = |_| endpoint.error(ErrorKind::Timeout, format!("the {} has not answered in time", endpoint.what()));
        timeout(limits.head, work).await.map_err(late)?
    };
    let (ticket, line, answer) = Box::pin(pool.run(&endpoint, in_time)).await?;
    let (head, body) = answer.into_parts();
    if body.size_hint().lower() > limits.max_response_bytes {
        return Err(too_large(&endpoint, limits.max_response_bytes));
    }
    let most = limits.max_response_bytes;
    let rest = Rest { ticket, line, body, left: most, most, idle: limits.idle };
    Ok(Streamed { status: head.status, headers: head.headers, chunks: rest.into_chunks() })
}

/// The request as it is sent.
fn question(request: &Request) -> Result<Question> {
    // The foreign errors are left out: some of them quote what they cannot read.
    let invalid = |_| Error::new(ErrorKind::InvalidInput, "the URL has characters that cannot be sent");
    let mut question = http::Request::new(Full::new(request.body.clone()));
    *question.method_mut() = request.method.clone();
    *question.uri_mut() = request.url[Position::BeforePath..Position::AfterQuery].parse().map_err(invalid)?;
    let host = &request.url[Position::BeforeHost..Position::AfterPort];
    let host = HeaderValue::from_str(host)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "the URL's host has characters that cannot be sent"))?;
    *question.headers_mut() = request.headers.clone();
    question.headers_mut().insert(HOST, host);
    Ok(question)
}

/// Asks on a kept connection, and on a fresh one where there is none, or where the kept one turns out to have ended.
async fn asked(ticket: &Ticket, question: Question) -> Result<(Line, Answer)> {
    let endpoint = ticket.endpoint();
    if let Some(mut line) = ticket.kept() {
        match line.ask(endpoint, question.clone()).await {
            Ok(answer) => return Ok((line, answer)),
            Err(failure) if failure.unheard => tracing::debug!(%endpoint, "a kept connection had ended"),
            Err(failure) => return Err(failure.error),
        }
    }
    let mut line = ticket.fresh().await?;
    let answer = line.ask(endpoint, question).await.map_err(|failure| failure.error)?;
    Ok((line, answer))
}

/// The whole body, if it is no larger than this.
async fn read(endpoint: &Endpoint, mut body: Incoming, most: usize) -> Result<Bytes> {
    let announced = body.size_hint().lower();
    if announced > most as u64 {
        return Err(too_large(endpoint, most as u64));
    }
    let mut whole = BytesMut::with_capacity(FIRST_ROOM.min(usize::try_from(announced).unwrap_or(FIRST_ROOM)));
    while let Some(chunk) = next(endpoint, &mut body).await? {
        if chunk.len() > most - whole.len() {
            return Err(too_large(endpoint, most as u64));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The next bytes of a body; trailers are passed over.
async fn next(endpoint: &Endpoint, body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(failed(endpoint, error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn too_large(endpoint: &Endpoint, most: u64) -> Error {
    endpoint.error(ErrorKind::TooLarge, format!("the {}'s answer is larger than {most} bytes", endpoint.what()))
}

/// The part of an answer that is still to come. Dropping it ends the connection.
struct Rest {
    ticket: Ticket,
    line: Line,
    body: Incoming,
    left: u64,
    most: u64,
    idle: Duration,
}

impl Rest {
    fn into_chunks(self) -> Chunks {
        // `try_unfold` ends after the first error, and then holds nothing more.
        stream::try_unfold(self, Self::step).boxed()
    }

    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        let endpoint = self.ticket.endpoint();
        let Ok(came) = timeout(self.idle, next(endpoint, &mut self.body)).await else {
            let words = format!("the {} has been silent for {} s", endpoint.what(), self.idle.as_secs_f32());
            return Err(endpoint.error(ErrorKind::Timeout, words));
        };
        let came = came.map_err(|error| self.ticket.pool().explained(endpoint, error))?;
        let Some(chunk) = came else {
            self.ticket.give_back(self.line).await;
            return Ok(None);
        };
        let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
            return Err(too_large(endpoint, self.most));
        };
        self.left = left;
        Ok(Some((chunk, self)))
    }
}
