//! Records: published at every node, and looked for at all at once. Nothing is believed here; core checks and chooses.

use std::sync::Arc;

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, Either},
    stream::{self, BoxStream},
};
use serde_json::value::RawValue;
use talkbox_core::{
    Error, ErrorKind, EventId, Level, RawRecord, ResolveEvent, Result, Shortcode, Target, event::Event,
    record::MAX_RECORD_BYTES,
};
use talkbox_net::Method;
use tokio::sync::watch;

use super::{
    ask::{Asker, Proof, Question},
    deliver::Taken,
    network::{Network, RemoteNode, no_nodes},
};

/// Records that are taken from one node, as many as nodes give. Core tries each key at 0.2 s.
const MAX_RECORDS: usize = 16;
/// Bytes of them, and of what stands around them.
const MAX_ANSWER: usize = (MAX_RECORDS + 1) * MAX_RECORD_BYTES;

/// Publishes a record, or a list of inbox relays, at a node.
///
/// # Errors
/// As [`Asker::ask`].
pub(super) async fn publish(asker: &Asker, event: &Event) -> Result<Taken> {
    let question = Question::post("/v1/records", "application/json", event.to_json()).method(Method::PUT);
    let answer = asker.ask(&question, Proof::WhereAsked, 0).await?;
    taken(asker, &answer.body, event.id())
}

/// Reads what became of the one event that was sent.
///
/// # Errors
/// `Unexpected` where the answer does not name the event.
pub(super) fn taken(asker: &Asker, body: &[u8], id: EventId) -> Result<Taken> {
    #[derive(serde::Deserialize)]
    struct Answer {
        id: String,
        status: String,
    }
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let answer = answer.filter(|answer| answer.id == id.to_hex());
    let level = match answer.as_ref().map(|answer| &*answer.status) {
        Some("stored") => Level::Stored,
        Some("duplicate") => Level::Duplicate,
        _ => return Err(asker.nonsense("the node does not say what became of it")),
    };
    Ok(Taken { level, until: None })
}

/// Every record of a target that these nodes have. They know records by their codes; that of a key is computed.
pub(super) fn resolve(
    network: &Arc<Network>,
    nodes: Vec<RemoteNode>,
    target: &Target,
    mut end: watch::Receiver<bool>,
) -> BoxStream<'static, Result<ResolveEvent>> {
    if nodes.is_empty() {
        return stream::iter([Err(no_nodes().op("resolve"))]).boxed();
    }
    let code = code_of(*target);
    let network = Arc::clone(network);
    let answers = code.map(move |code| match code {
        Err(error) => Either::Left(stream::iter([Err(error.op("resolve"))])),
        Ok(code) => Either::Right(stream::select_all(nodes.into_iter().map(|node| {
            let asker = Asker { network: Arc::clone(&network), node, auth: None };
            stream::once(ask(asker, code)).flat_map(stream::iter).boxed()
        }))),
    });
    let ended = async move {
        // An error means that the transport was dropped, which ends the stream as well.
        let _ = end.wait_for(|closed| *closed).await;
    };
    answers.flatten_stream().take_until(Box::pin(ended)).boxed()
}

/// The code of a target. That of a key takes 0.2 s of computing: not on an async thread.
fn code_of(target: Target) -> impl Future<Output = Result<Shortcode>> + Send {
    match target {
        Target::Code(code) => Either::Left(future::ready(Ok(code))),
        Target::Mailbox(mailbox) => Either::Right(async move {
            let computing = tokio::task::spawn_blocking(move || Shortcode::of(&mailbox));
            computing.await.map_err(|error| Error::new(ErrorKind::Unexpected, "the code ended").source(error))
        }),
    }
}

/// All that one node has.
async fn ask(asker: Asker, code: Shortcode) -> Vec<Result<ResolveEvent>> {
    let source = asker.node.holder.clone();
    match records(&asker, code).await {
        Ok(records) => {
            let found = records.into_iter().map(|json| RawRecord { json, source: source.clone() });
            let mut events: Vec<_> = found.map(|record| Ok(ResolveEvent::Record(record))).collect();
            events.push(Ok(ResolveEvent::End { source }));
            events
        }
        Err(error) => vec![Err(asker.named(error).op("resolve"))],
    }
}

async fn records(asker: &Asker, code: Shortcode) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    let question = Question::get(format!("/v1/records/{}", code.symbols()));
    let answer = asker.ask(&question, Proof::WhereAsked, MAX_ANSWER).await?;
    let answer: Answer<'_> = serde_json::from_slice(&answer.body)
        .map_err(|error| asker.nonsense("the node's records make no sense").source(error))?;
    let fitting = answer.items.into_iter().map(RawValue::get).filter(|json| json.len() <= MAX_RECORD_BYTES);
    Ok(fitting.take(MAX_RECORDS).map(str::to_owned).collect())
}
