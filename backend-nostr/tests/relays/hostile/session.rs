//! One connection to the scripted relay.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{SinkExt as _, StreamExt as _};
use negentropy::{Id, NegentropyStorageVector};
use serde_json::{Value, json};
use talkbox_core::{event::Event, hex};
use tokio::{net::TcpStream, sync::broadcast};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::{Frame, Gate, Negentropy, Reads, Script, State, Writes};

type Engine = negentropy::Negentropy<'static, NegentropyStorageVector>;

/// The end of a connection, for whatever reason.
struct End;

struct Session {
    socket: WebSocketStream<TcpStream>,
    state: Arc<State>,
    challenge: String,
    identities: Vec<String>,
    /// The filters of each.
    subscriptions: HashMap<String, Vec<Value>>,
    engines: HashMap<String, Engine>,
    is_poisoned: bool,
}

pub(super) async fn run(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).expect("an option");
    let (mut news, mut kick) = (state.news.subscribe(), state.kick.subscribe());
    let challenge = format!("challenge-{}", state.connections.load(Ordering::SeqCst));
    let Ok(socket) = accept_async(stream).await else { return };
    let mut session = Session {
        socket,
        state,
        challenge,
        identities: Vec::new(),
        subscriptions: HashMap::new(),
        engines: HashMap::new(),
        is_poisoned: false,
    };
    if session.script().gate != Gate::Open && !session.script().challenges_late && session.ask_who().await.is_err() {
        return;
    }
    loop {
        let step = tokio::select! {
            _ = kick.recv() => Err(End),
            message = session.socket.next() => match message {
                Some(Ok(Message::Text(text))) => session.hear(&text).await,
                Some(Ok(_)) => Ok(()),
                _ => Err(End),
            },
            event = news.recv() => match event {
                Ok(event) => session.tell(&event).await,
                Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
                Err(broadcast::error::RecvError::Closed) => Err(End),
            },
        };
        if step.is_err() {
            return;
        }
    }
}

impl Session {
    fn script(&self) -> Script {
        self.state.script.lock().expect("not poisoned").clone()
    }

    async fn say(&mut self, message: &Value) -> Result<(), End> {
        self.send(Message::text(message.to_string())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        self.socket.send(message).await.map_err(|_| End)
    }

    async fn hear(&mut self, text: &str) -> Result<(), End> {
        let message: Value = serde_json::from_str(text).expect("the client speaks JSON");
        self.state.heard.lock().expect("not poisoned").push(message.clone());
        let label = message[0].as_str().expect("a label").to_owned();
        let sub = message[1].as_str().unwrap_or_default().to_owned();
        match label.as_str() {
            "EVENT" => self.event(&message[1]).await,
            "REQ" => self.question(&sub, &message.as_array().expect("a list")[2..]).await,
            "CLOSE" => {
                self.subscriptions.remove(&sub);
                Ok(())
            }
            "AUTH" => self.auth(&message[1]).await,
            "NEG-OPEN" => self.reconcile(&sub, &message[2], message[3].as_str().expect("a message")).await,
            "NEG-MSG" => self.step(&sub, message[2].as_str().expect("a message")).await,
            "NEG-CLOSE" => {
                self.engines.remove(&sub);
                Ok(())
            }
            other => panic!("the client says {other}"),
        }
    }

    async fn ask_who(&mut self) -> Result<(), End> {
        self.say(&json!(["AUTH", self.challenge])).await
    }

    async fn auth(&mut self, event: &Value) -> Result<(), End> {
        let signed = Event::parse(&event.to_string()).expect("a valid event");
        let is_right = signed.kind() == 22242 && signed.value("challenge") == Some(&self.challenge);
        if is_right {
            self.identities.push(signed.author().to_hex());
        }
        self.say(&json!(["OK", event["id"], is_right, if is_right { "" } else { "restricted: another challenge" }]))
            .await
    }

    async fn event(&mut self, event: &Value) -> Result<(), End> {
        let script = self.script();
        let id = event["id"].as_str().expect("an id").to_owned();
        if script.gate == Gate::Writes && self.identities.is_empty() {
            self.ask_who().await?;
            return self.say(&json!(["OK", id, false, "auth-required: who are you?"])).await;
        }
        match script.writes {
            Writes::Refuse(words) => return self.say(&json!(["OK", id, false, words])).await,
            Writes::RefuseBefore(time) if event["created_at"].as_u64() < Some(time) => {
                return self.say(&json!(["OK", id, false, "invalid: created_at too early"])).await;
            }
            Writes::OkButDrop => return self.say(&json!(["OK", id, true, ""])).await,
            Writes::Never => return Ok(()),
            Writes::Poisoned(poison) if poison == id || self.is_poisoned => {
                self.is_poisoned = true;
                return Ok(());
            }
            Writes::CloseOn(last) if last == id => return Err(End),
            Writes::Close => return Err(End),
            _ => {}
        }
        if self.state.events.lock().expect("not poisoned").iter().any(|known| known["id"] == event["id"]) {
            return self.say(&json!(["OK", id, false, "duplicate: exists"])).await;
        }
        if event["kind"] == 5 && !script.keeps_deleted {
            let gone: Vec<_> = tags(event, "e");
            self.state.events.lock().expect("not poisoned").retain(|kept| !gone.iter().any(|id| kept["id"] == **id));
        }
        self.state.events.lock().expect("not poisoned").push(event.clone());
        self.say(&json!(["OK", id, true, ""])).await?;
        let _ = self.state.news.send(event.clone());
        Ok(())
    }

    async fn tell(&mut self, event: &Value) -> Result<(), End> {
        let concerned: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|(_, filters)| filters.iter().any(|filter| matches(filter, event)))
            .map(|(sub, _)| sub.clone())
            .collect();
        for sub in concerned {
            self.say(&json!(["EVENT", sub, event])).await?;
        }
        Ok(())
    }

    fn may_read(&self, filter: &Value) -> bool {
        let gated = matches!(self.script().gate, Gate::Reads | Gate::ReadsSilently) && filter["kinds"][0] == 1059;
        let concerns = |who: &String| filter["#p"][0] == **who || filter["authors"][0] == **who;
        !gated || self.identities.iter().any(concerns)
    }

    async fn question(&mut self, sub: &str, filters: &[Value]) -> Result<(), End> {
        let script = self.script();
        if !filters.iter().all(|filter| self.may_read(filter)) {
            if self.identities.is_empty() {
                self.ask_who().await?;
            }
            return match script.gate {
                Gate::ReadsSilently => self.say(&json!(["EOSE", sub])).await,
                _ => self.say(&json!(["CLOSED", sub, "auth-required: whose are they?"])).await,
            };
        }
        self.subscriptions.insert(sub.to_owned(), filters.to_vec());
        let is_bounded = !matches!(script.reads, Reads::Disorder);
        let (mut found, is_all) = self.stored(filters, script.cap, is_bounded);
        match &script.reads {
            Reads::Never => return Ok(()),
            Reads::Closed(words) => return self.say(&json!(["CLOSED", sub, words])).await,
            Reads::EarlyEose => return self.say(&json!(["EOSE", sub])).await,
            Reads::Flood => return self.flood(sub).await,
            Reads::Preface(frames) => {
                for frame in frames {
                    self.send(match frame {
                        Frame::Text(text) => Message::text(text.clone()),
                        Frame::Binary(bytes) => Message::binary(bytes.clone()),
                    })
                    .await?;
                }
            }
            Reads::Babble(number) => {
                for _ in 0..*number {
                    self.send(Message::text("babble")).await?;
                }
            }
            Reads::Invent(events) => found.clone_from(events),
            Reads::Disorder => found.reverse(),
            Reads::Honest | Reads::CloseAfter(_) | Reads::NeverEose => {}
        }
        for (at, event) in found.iter().enumerate() {
            if matches!(script.reads, Reads::CloseAfter(number) if at == number) {
                return Err(End);
            }
            self.say(&json!(["EVENT", sub, event])).await?;
        }
        match script.reads {
            Reads::NeverEose => Ok(()),
            Reads::CloseAfter(_) => Err(End),
            _ if script.says_finish => self.say(&json!(["EOSE", sub, if is_all { "finish" } else { "more" }])).await,
            _ => self.say(&json!(["EOSE", sub])).await,
        }
    }

    /// What is stored for any of these filters, each event once, newest first; and whether that is all of it.
    fn stored(&self, filters: &[Value], cap: Option<usize>, is_bounded: bool) -> (Vec<Value>, bool) {
        let events = self.state.events.lock().expect("not poisoned");
        let (mut found, mut is_all) = (Vec::<Value>::new(), true);
        for filter in filters {
            let mut matching: Vec<&Value> = events.iter().filter(|event| matches(filter, event)).collect();
            matching.sort_by_key(|event| Reverse(event["created_at"].as_u64()));
            let limit = filter["limit"].as_u64().map_or(usize::MAX, |limit| limit as usize);
            let limit = if is_bounded { limit.min(cap.unwrap_or(usize::MAX)) } else { usize::MAX };
            is_all &= matching.len() <= limit;
            for event in matching.into_iter().take(limit) {
                if !found.contains(event) {
                    found.push(event.clone());
                }
            }
        }
        found.sort_by_key(|event| Reverse(event["created_at"].as_u64()));
        (found, is_all)
    }

    /// Well-formed events for whoever is asked about, one after the other, until the client goes.
    async fn flood(&mut self, sub: &str) -> Result<(), End> {
        let filter = self.subscriptions[sub][0].clone();
        for number in 0_u64.. {
            let id = format!("{number:064x}");
            let event = json!({
                "id": id, "pubkey": id, "created_at": 1_790_000_000 - number, "kind": filter["kinds"][0],
                "tags": [["p", filter["#p"][0]]], "content": "x".repeat(1000), "sig": format!("{id}{id}"),
            });
            self.say(&json!(["EVENT", sub, event])).await?;
        }
        Ok(())
    }

    async fn reconcile(&mut self, sub: &str, filter: &Value, message: &str) -> Result<(), End> {
        match self.script().negentropy {
            Negentropy::Speaks if self.may_read(filter) => {}
            Negentropy::Speaks => return self.say(&json!(["NEG-ERR", sub, "auth-required: whose are they?"])).await,
            Negentropy::Silence => return Ok(()),
            Negentropy::Notice(words) => return self.say(&json!(["NOTICE", words])).await,
            Negentropy::Error(words) => return self.say(&json!(["NEG-ERR", sub, words])).await,
            Negentropy::Closed(words) => return self.say(&json!(["CLOSED", sub, words])).await,
            Negentropy::Garbage => return self.say(&json!(["NEG-MSG", sub, "ff00"])).await,
        }
        let mut storage = NegentropyStorageVector::new();
        for event in self.state.events.lock().expect("not poisoned").iter().filter(|event| matches(filter, event)) {
            let id = hex::decode32(event["id"].as_str().expect("an id")).expect("digits");
            storage.insert(event["created_at"].as_u64().expect("a time"), Id::from_byte_array(id)).expect("open");
        }
        storage.seal().expect("open");
        self.engines.insert(sub.to_owned(), Engine::owned(storage, 60_000).expect("a frame"));
        self.step(sub, message).await
    }

    async fn step(&mut self, sub: &str, message: &str) -> Result<(), End> {
        let bytes: Vec<u8> = message
            .as_bytes()
            .chunks(2)
            .map(|pair| hex::decode::<1>(std::str::from_utf8(pair).expect("digits")).expect("digits")[0])
            .collect();
        let answer = self.engines.get_mut(sub).expect("open").reconcile(&bytes).expect("a message");
        self.say(&json!(["NEG-MSG", sub, hex::encode(&answer)])).await
    }
}

fn tags<'a>(event: &'a Value, name: &str) -> Vec<&'a str> {
    let tags = event["tags"].as_array().expect("tags");
    tags.iter().filter(|tag| tag[0] == name).filter_map(|tag| tag[1].as_str()).collect()
}

fn matches(filter: &Value, event: &Value) -> bool {
    let has = |name: &str, value: &Value| filter[name].as_array().is_none_or(|wanted| wanted.contains(value));
    let tagged = |name: &str| {
        let wanted = filter[format!("#{name}")].as_array();
        wanted.is_none_or(|wanted| tags(event, name).iter().any(|value| wanted.iter().any(|wanted| wanted == value)))
    };
    let time = event["created_at"].as_u64();
    has("kinds", &event["kind"])
        && has("ids", &event["id"])
        && has("authors", &event["pubkey"])
        && tagged("p")
        && tagged("d")
        && filter["since"].as_u64().is_none_or(|since| time >= Some(since))
        && filter["until"].as_u64().is_none_or(|until| time <= Some(until))
}
