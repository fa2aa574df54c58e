//! What the task that owns the swarm is asked, and what it tells.

use bytes::Bytes;
use cid::Cid;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    gossipsub::{MessageAcceptance, MessageId},
    kad::RecordKey,
};
use talkbox_core::Result;
use tokio::sync::{mpsc, oneshot};

/// What the task is asked.
pub(in crate::node) enum Command {
    /// Connects to a peer, unless it is connected.
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        done: oneshot::Sender<Result<()>>,
    },
    /// How many connections there are.
    Connections(oneshot::Sender<u32>),
    Subscribe(String),
    Unsubscribe(String),
    /// Who of the connected peers is subscribed.
    Subscribers(String, oneshot::Sender<Vec<PeerId>>),
    Publish(String, Bytes),
    /// What is to become of a message that [`Happening::Message`] told of.
    Judge {
        message: MessageId,
        source: PeerId,
        verdict: MessageAcceptance,
    },
    /// Fetches blocks: from these peers, or from all that are connected.
    Want {
        cids: Vec<Cid>,
        from: Vec<PeerId>,
        found: mpsc::Sender<Fetched>,
    },
    /// Nobody waits for these any more.
    Unwant(Vec<Cid>),
    /// These are here now.
    Arrived(Vec<Cid>),
    Provide(RecordKey),
    StopProviding(RecordKey),
    /// Tells when a peer of the DHT is known; at once where one is, and never without a part in the DHT.
    Enter(oneshot::Sender<()>),
    /// Who provides a key; ends when no more are found.
    Providers(RecordKey, mpsc::Sender<PeerId>),
    /// Ends it.
    Close(oneshot::Sender<()>),
}

/// What became of a wanted block.
#[derive(Clone, Debug)]
pub(in crate::node) struct Fetched {
    pub(in crate::node) cid: Cid,
    /// `None` where nobody who could be asked has it.
    pub(in crate::node) bytes: Option<Bytes>,
}

/// What happens, for whoever keeps logs.
#[derive(Debug)]
pub(in crate::node) enum Happening {
    /// A peer listens to a topic from now on.
    Subscribed {
        peer: PeerId,
        topic: String,
    },
    /// It does not any more.
    Unsubscribed {
        peer: PeerId,
        topic: String,
    },
    /// A peer has introduced itself: where it is that others may go, and what it speaks.
    Introduced {
        peer: PeerId,
        places: Vec<Multiaddr>,
        protocols: Vec<StreamProtocol>,
    },
    /// More peers of the DHT are known, where few were before.
    Reached,
    Message {
        topic: String,
        message: MessageId,
        source: PeerId,
        data: Bytes,
    },
}
