//! One connection through the proxy.

use std::{collections::HashMap, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use talkbox_core::testkit::Lie;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite::Message};

use crate::front::{State, prefix};

/// The end of a connection, for whatever reason.
struct End;

/// Passes on what both sides say, until one of them ends.
pub(crate) async fn run(stream: TcpStream, state: Arc<State>) {
    // While the relay is down, nobody answers.
    let Ok(relay) = TcpStream::connect(state.relay()).await else { return };
    for stream in [&stream, &relay] {
        stream.set_nodelay(true).expect("an option");
    }
    let Ok(client) = accept_async(stream).await else { return };
    let Ok((mut relay, _)) = client_async(format!("ws://{}", state.relay()), relay).await else { return };
    let mut session = Session { state, client, open: HashMap::new() };
    loop {
        let step = tokio::select! {
            message = session.client.next() => match message {
                Some(Ok(Message::Text(text))) => session.ask(&text, &mut relay).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End),
                Some(Ok(_)) => Ok(()),
            },
            message = relay.next() => match message {
                Some(Ok(Message::Text(text))) => session.answer(&text).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End),
                Some(Ok(_)) => Ok(()),
            },
        };
        if step.is_err() {
            return;
        }
    }
}

struct Session {
    state: Arc<State>,
    client: WebSocketStream<TcpStream>,
    open: HashMap<String, Open>,
}

/// An open subscription.
struct Open {
    filter: Value,
    /// What is stored comes in another order: kept until its end.
    held_back: Vec<String>,
    is_live: bool,
    _counted: Arc<()>,
}

impl Session {
    /// What the client says.
    async fn ask(&mut self, text: &str, relay: &mut WebSocketStream<TcpStream>) -> Result<(), End> {
        let fault = self.state.fault();
        if fault.hang {
            return Ok(());
        }
        if let Some(delay) = fault.delay {
            tokio::time::sleep(delay).await;
        }
        let message: Value = serde_json::from_str(text).expect("the client speaks JSON");
        let label = message[0].as_str().expect("a label");
        let name = message[1].as_str().unwrap_or_default().to_owned();
        if let Some((kind, words)) = fault.refuse {
            let words = format!("{}{words}", prefix(kind).expect("checked when it was set"));
            match label {
                "EVENT" => return self.say(&json!(["OK", message[1]["id"], false, words])).await,
                "REQ" => return self.say(&json!(["CLOSED", name, words])).await,
                "NEG-OPEN" => return self.say(&json!(["NEG-ERR", name, words])).await,
                _ => {}
            }
        }
        match label {
            "EVENT" if self.state.happens(fault.drop) => {
                return self.say(&json!(["OK", message[1]["id"], true, ""])).await;
            }
            "EVENT" => self.state.pass(&message[1]),
            "REQ" => {
                let counted = self.state.subscription();
                let filter = message[2].clone();
                let open = Open { filter, held_back: Vec::new(), is_live: false, _counted: counted };
                self.open.insert(name, open);
            }
            "CLOSE" => drop(self.open.remove(&name)),
            _ => {}
        }
        relay.send(Message::text(text)).await.map_err(|_| End)
    }

    /// What the relay says.
    async fn answer(&mut self, text: &str) -> Result<(), End> {
        let fault = self.state.fault();
        if fault.hang {
            return Ok(());
        }
        let message: Value = serde_json::from_str(text).expect("the relay speaks JSON");
        let name = message[1].as_str().unwrap_or_default();
        match (message[0].as_str(), self.open.get_mut(name)) {
            (Some("EVENT"), Some(_)) if fault.lies.contains(&Lie::Withhold) => return Ok(()),
            (Some("EVENT"), Some(open)) => {
                let times = 1 + usize::from(self.state.happens(fault.duplicate));
                if fault.reorder && !open.is_live {
                    open.held_back.extend(std::iter::repeat_n(text.to_owned(), times));
                    return Ok(());
                }
                for _ in 1..times {
                    self.send(text).await?;
                }
            }
            (Some("EOSE"), Some(open)) => {
                open.is_live = true;
                let held_back = std::mem::take(&mut open.held_back);
                let made_up = self.state.lies(&open.filter);
                for text in held_back.iter().rev() {
                    self.send(text).await?;
                }
                for event in made_up {
                    self.send(&format!("[\"EVENT\",\"{name}\",{event}]")).await?;
                }
            }
            (Some("CLOSED"), _) => drop(self.open.remove(name)),
            _ => {}
        }
        self.send(text).await
    }

    async fn say(&mut self, message: &Value) -> Result<(), End> {
        self.send(&message.to_string()).await
    }

    async fn send(&mut self, text: &str) -> Result<(), End> {
        self.client.send(Message::text(text)).await.map_err(|_| End)
    }
}
