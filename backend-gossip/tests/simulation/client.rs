//! Those who put envelopes, put them again, delete some, and read; and strangers who ask for what is not theirs to ask.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use serde_json::Value;
use talkbox_core::{
    DeleteRequest, Envelope, EnvelopeId, Timestamp,
    custody::CustodyReceipt,
    event::{Event, kind},
};
use tokio::time::sleep;

use crate::{history::Mail, plan::HEALED_AT, rng::Rng, talk::Talk, world::World};

/// How often a client tries, each time elsewhere or once more.
const TRIES: usize = 4;

struct Client {
    name: String,
    talk: Talk,
    rng: Rng,
}

/// Puts and deletes until all is healed.
pub(crate) async fn run(world: Arc<World>, number: usize) -> turmoil::Result {
    let rng = Rng::new(world.seed, "client", number);
    let name = format!("client {number}");
    let mut client = Client { talk: Talk::new(&world, name.clone()), name, rng };
    while turmoil::sim_elapsed().unwrap_or_default() < Duration::from_millis(HEALED_AT) {
        sleep(Duration::from_millis(client.rng.between(100, 1_400))).await;
        match client.rng.below(11) {
            0..=4 => client.put_new().await,
            5..=7 => client.put_again().await,
            8..=9 => client.delete().await,
            _ => client.interfere().await,
        }
    }
    world.clients_busy.fetch_sub(1, SeqCst);
    Ok(())
}

/// Reads mailboxes at nodes, page by page, until all is healed.
pub(crate) async fn read(world: Arc<World>) -> turmoil::Result {
    let (talk, mut rng) = (Talk::new(&world, "reader".to_owned()), Rng::new(world.seed, "reader", 0));
    while !world.healed.load(SeqCst) {
        sleep(Duration::from_millis(rng.between(100, 900))).await;
        let (node, mailbox) = (rng.below(world.nodes.len()), rng.below(world.mailboxes.len()));
        let _unreachable = read_on(&talk, node, mailbox).await;
    }
    world.clients_busy.fetch_sub(1, SeqCst);
    Ok(())
}

/// Reads the next page of a mailbox at a node; whether there is more.
pub(crate) async fn read_on(talk: &Talk, node: usize, mailbox: usize) -> Result<bool, String> {
    let seen = talk.world.state().history.seen.get(&(node, mailbox)).cloned().unwrap_or_default();
    let page = talk.page(node, mailbox, seen.cursor.as_deref(), 3).await;
    if page.as_ref().is_err_and(|error| error.starts_with("410")) {
        // As a client has to: from the start.
        talk.world.state().history.seen.remove(&(node, mailbox));
        return Ok(true);
    }
    let page = page?;
    let mut state = talk.world.state();
    let seen = state.history.seen.entry((node, mailbox)).or_default();
    seen.cursor = Some(page.next.clone());
    seen.ids.extend(page.items.iter().filter_map(|json| Envelope::restore(json).ok()).map(|envelope| envelope.id()));
    drop(state);
    talk.world.note(format!("reads mailbox {mailbox} at {node} up to {}", page.next));
    Ok(page.more)
}

impl Client {
    async fn put_new(&mut self) {
        let world = Arc::clone(&self.talk.world);
        let mut ids = Vec::new();
        for _ in 0..self.rng.between(1, 3) {
            let mailbox = self.rng.below(world.mailboxes.len());
            let envelope = self.wrap(mailbox);
            let mail = Mail {
                mailbox,
                json: envelope.json().to_owned(),
                expires: envelope.expires_at(),
                held_by: Default::default(),
                asked_to_delete: false,
                deleted_by: Default::default(),
            };
            ids.push(envelope.id());
            let history = &mut world.state().history;
            history.mail.insert(envelope.id(), mail);
            history.order.push(envelope.id());
        }
        self.put(ids).await;
    }

    /// A gift wrap. Some expire within the hour, some within the time that passes in some runs, most later.
    fn wrap(&mut self, mailbox: usize) -> Envelope {
        let now = self.talk.world.now();
        let at = now.minus(self.rng.between(0, 172_800));
        let lasts = match self.rng.below(5) {
            0 => self.rng.between(20, 3_600),
            1 => self.rng.between(86_400, 20 * 86_400),
            _ => self.rng.between(60 * 86_400, 80 * 86_400),
        };
        let tag = |name: &str, value: String| vec![name.to_owned(), value];
        let tags = vec![
            tag("p", self.talk.world.mailboxes[mailbox].public().to_hex()),
            tag("expiration", now.plus(lasts).secs().to_string()),
        ];
        let event = Event::sign(&self.rng.key(), at, kind::GIFT_WRAP, tags, "A+/0".repeat(8));
        Envelope::parse(&event.to_json()).expect("a gift wrap")
    }

    /// What was put before, whatever became of it.
    async fn put_again(&mut self) {
        let known = self.talk.world.state().history.order.clone();
        if !known.is_empty() {
            let again = (0..self.rng.between(1, 3)).map(|_| known[self.rng.below(known.len())]).collect();
            self.put(again).await;
        }
    }

    /// Puts until each has been acknowledged, or too often.
    async fn put(&mut self, mut ids: Vec<EnvelopeId>) {
        ids.sort_unstable();
        ids.dedup();
        let mut node = self.somebody();
        for _ in 0..TRIES {
            let body: String = {
                let mail = &self.talk.world.state().history.mail;
                ids.iter().map(|id| format!("{}\n", mail[id].json)).collect()
            };
            let answer = self.talk.post(node, "/v1/envelopes", body).await;
            let held = match &answer {
                Ok((200, body)) => self.acknowledged(node, &ids, body),
                Ok(_) | Err(_) => Vec::new(),
            };
            let status = answer.map_or_else(|_| "silence".to_owned(), |(status, _)| status.to_string());
            self.note(format!("puts {} at {node}: {status}, held {}", shown(&ids), shown(&held)));
            ids.retain(|id| !held.contains(id));
            if ids.is_empty() {
                return;
            }
            if self.rng.chance(60) {
                node = self.somebody();
            }
            sleep(Duration::from_millis(self.rng.between(50, 500))).await;
        }
    }

    /// Those of these envelopes that the answer says are held; it has to say so with a receipt.
    fn acknowledged(&self, node: usize, ids: &[EnvelopeId], body: &str) -> Vec<EnvelopeId> {
        let world = &self.talk.world;
        let mut held = Vec::new();
        for line in body.lines().take(ids.len()) {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let id = line["id"].as_str().and_then(|id| EnvelopeId::from_hex(id).ok());
            if matches!(line["status"].as_str(), Some("stored" | "duplicate")) {
                held.extend(id.filter(|id| ids.contains(id)));
            }
        }
        let Some(member) = world.nodes.get(node) else { return held };
        if held.is_empty() {
            return held;
        }
        let receipt = body.lines().nth(ids.len()).and_then(|line| CustodyReceipt::parse(line).ok());
        let until = {
            let state = world.state();
            held.iter().map(|id| state.history.mail[id].expires).min().unwrap_or(Timestamp(0))
        };
        let is_true = receipt.is_some_and(|receipt| {
            let mut named = receipt.ids().to_vec();
            named.sort_unstable();
            named == held && receipt.node() == member.key.public() && receipt.until() == until
        });
        if !is_true {
            world.fault(format!("node {node} gives a wrong receipt: {body}"));
        }
        for id in &held {
            world.state().history.mail.get_mut(id).expect("known").held_by.insert(node);
        }
        held
    }

    /// Deletes some of a mailbox, as its owner.
    async fn delete(&mut self) {
        let world = Arc::clone(&self.talk.world);
        let mailbox = self.rng.below(world.mailboxes.len());
        let of_it: Vec<EnvelopeId> = {
            let state = world.state();
            let of_it = |id: &&EnvelopeId| state.history.mail[*id].mailbox == mailbox;
            state.history.order.iter().filter(of_it).copied().collect()
        };
        if of_it.is_empty() {
            return;
        }
        let mut ids: Vec<_> = (0..self.rng.between(1, 2)).map(|_| of_it[self.rng.below(of_it.len())]).collect();
        ids.sort_unstable();
        ids.dedup();
        let key = &world.mailboxes[mailbox];
        let request = DeleteRequest::sign(key, key.id(), &ids, world.now()).expect("signs").event().to_json();
        for id in &ids {
            world.state().history.mail.get_mut(id).expect("known").asked_to_delete = true;
        }
        for _ in 0..TRIES {
            let node = self.somebody();
            let answer = self.talk.post(node, "/v1/deletions", request.clone()).await;
            let status = answer.map_or(0, |(status, _)| status);
            self.note(format!("deletes {} at {node}: {status}", shown(&ids)));
            if status == 200 && node < world.nodes.len() {
                for id in &ids {
                    world.state().history.mail.get_mut(id).expect("known").deleted_by.insert(node);
                }
                return;
            }
            sleep(Duration::from_millis(self.rng.between(50, 500))).await;
        }
    }

    /// As somebody else asks one node to delete mail, which it decides by what it knows at the time, and two nodes to forget
    /// a key, each by a request of the same second.
    async fn interfere(&mut self) {
        let world = Arc::clone(&self.talk.world);
        let key = self.rng.key();
        let known = world.state().history.order.clone();
        if !known.is_empty() {
            let ids = [known[self.rng.below(known.len())]];
            let request = DeleteRequest::sign(&key, key.id(), &ids, world.now()).expect("signs").event().to_json();
            let node = self.rng.below(world.nodes.len());
            let status = self.talk.post(node, "/v1/deletions", request).await.map_or(0, |(status, _)| status);
            self.note(format!("as a stranger deletes {} at {node}: {status}", shown(&ids)));
        }
        for words in ["one", "other"] {
            let tags = vec![vec!["relay".to_owned(), "ALL_RELAYS".to_owned()]];
            let request = Event::sign(&key, world.now(), kind::VANISH, tags, words.to_owned());
            let node = self.rng.below(world.nodes.len());
            let status = self.talk.post(node, "/v1/envelopes", request.to_json()).await.map_or(0, |(status, _)| status);
            self.note(format!("vanishes at {node}: {status}"));
        }
    }

    /// Any node, or at times the liar.
    fn somebody(&mut self) -> usize {
        let nodes = self.talk.world.nodes.len();
        if self.talk.world.liar.is_some() && self.rng.chance(10) { nodes } else { self.rng.below(nodes) }
    }

    fn note(&self, what: String) {
        self.talk.world.note(format!("{} {what}", self.name));
    }
}

/// The beginnings of ids.
pub(crate) fn shown<'a>(ids: impl IntoIterator<Item = &'a EnvelopeId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_hex()[..8].to_owned()).collect();
    format!("[{}]", ids.join(" "))
}
