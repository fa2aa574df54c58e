//! A visit to a relay: the node announces itself there, and looks who else has.

use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::{json, value::RawValue};
use talkbox_core::{Error, ErrorKind, Result};
use talkbox_net::{Endpoint, Trust};
use tokio::time::timeout;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};
use url::Url;

use super::{MAX_OF_SOURCE, Named, announcement};
use crate::node::{Shared, mesh::ask::nonsense};

/// How long a visit may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Most bytes of a message: an announcement has less than 1 KiB.
const MAX_MESSAGE: usize = 64 << 10;
/// Messages of one visit that are looked at. A relay may say more than it was asked, but not without end.
const MAX_MESSAGES: usize = 4 * MAX_OF_SOURCE;

/// Announces the node, if it has a public URL, and reads the announcements of others.
///
/// # Errors
/// `Unreachable`, `Timeout`; `Refused` for a relay that answers nonsense.
pub(super) async fn visit(node: &Shared, relay: &Url) -> Result<Vec<Named>> {
    let endpoint = Endpoint::new("relay", relay)?;
    let visit = async {
        let stream = node.context.connector().connect(&endpoint, Trust::Configured).await?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (mut socket, _) = client_async_with_config(relay.as_str(), stream, Some(config))
            .await
            .map_err(|error| endpoint.error(ErrorKind::Unreachable, format!("no connection: {error}")))?;
        let named = talk(node, &mut socket).await;
        let _gone = socket.close(None).await;
        named
    };
    timeout(WITHIN, visit).await.map_err(|_| endpoint.error(ErrorKind::Timeout, "the relay takes too long"))?
}

async fn talk<S>(node: &Shared, socket: &mut S) -> Result<Vec<Named>>
where
    S: Stream<Item = tungstenite::Result<Message>> + Sink<Message, Error = tungstenite::Error> + Unpin,
{
    let broken = |error: tungstenite::Error| {
        Error::new(ErrorKind::Unreachable, "the connection to the relay broke").source(error)
    };
    let now = node.now();
    if node.config.public_url.is_some() {
        let event = announcement::announcement(&node.key, &node.url.to_string(), now);
        let event = RawValue::from_string(event.to_json()).map_err(|_| nonsense("no JSON"))?;
        socket.send(Message::text(json!(["EVENT", event]).to_string())).await.map_err(broken)?;
    }
    let request = json!(["REQ", "nodes", announcement::filter(MAX_OF_SOURCE, now)]);
    socket.send(Message::text(request.to_string())).await.map_err(broken)?;
    let mut named = Vec::new();
    for _ in 0..MAX_MESSAGES {
        let Some(message) = socket.next().await.transpose().map_err(broken)? else { break };
        let Message::Text(text) = message else { continue };
        let parts: Vec<&RawValue> =
            serde_json::from_str(&text).map_err(|_| nonsense("the relay says what is no message"))?;
        match parts.as_slice() {
            [label, _, event] if label.get() == "\"EVENT\"" => named.extend(announcement::read(event.get(), now)),
            [label, ..] if matches!(label.get(), "\"EOSE\"" | "\"CLOSED\"") => break,
            // An OK, a notice, a challenge.
            _ => {}
        }
    }
    Ok(named)
}
