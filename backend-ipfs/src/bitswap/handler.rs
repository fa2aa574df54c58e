//! The streams of one connection.

use std::{
    collections::VecDeque,
    io, mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    StreamProtocol,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, Stream, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
        },
    },
};
use tokio::{
    sync::Semaphore,
    time::{Duration, Sleep, sleep},
};

use super::{
    Config,
    framing::{self, Incoming},
    wire::MESSAGE_BYTES,
};

/// The one version that is spoken: what every implementation of the last years offers.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/bitswap/1.2.0");
/// Streams that wait to be read. Some peers open one for each message, and are not to lose what they sent in a burst.
const WAITING_STREAMS: usize = 16;
/// What messages of one peer may take up in memory until they have been dealt with: two of the longest.
const ROOM: usize = 2 * MESSAGE_BYTES;
/// How long a stream is kept for the next message, which saves the round trip that opening one takes. Helia gives a
/// stream up that is silent for 10 s.
const KEPT: Duration = Duration::from_secs(2);

/// Wants and answers go separate ways, so that neither waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Wants,
    Answers,
}

/// What the behaviour tells a connection.
#[derive(Debug)]
pub(crate) enum Command {
    /// To send a message; the next one of the lane only after the report about it.
    Send { lane: Lane, frame: Bytes },
}

/// What a connection tells the behaviour.
#[derive(Debug)]
pub(crate) enum Report {
    /// A message has come.
    Received(Incoming),
    /// The message of a lane has been written, or cannot be: the lane is free.
    Free(Lane),
    /// Whether the peer speaks the protocol, where that has become known.
    Speaks(bool),
}

type Read = Option<(Stream, Incoming)>;

/// The streams of one connection.
pub(crate) struct Handler {
    config: Config,
    /// Whether there are wants at the peer, for which the connection is kept.
    wanted: Arc<AtomicBool>,
    room: Arc<Semaphore>,
    readers: FuturesUnordered<BoxFuture<'static, Read>>,
    waiting: VecDeque<Stream>,
    wants: Writer,
    answers: Writer,
    closing: FuturesUnordered<BoxFuture<'static, ()>>,
    reports: VecDeque<Report>,
}

impl Handler {
    pub(super) fn new(config: Config, wanted: Arc<AtomicBool>) -> Self {
        Self {
            config,
            wanted,
            room: Arc::new(Semaphore::new(ROOM)),
            readers: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            wants: Writer::Closed,
            answers: Writer::Closed,
            closing: FuturesUnordered::new(),
            reports: VecDeque::new(),
        }
    }

    fn writer(&mut self, lane: Lane) -> &mut Writer {
        match lane {
            Lane::Wants => &mut self.wants,
            Lane::Answers => &mut self.answers,
        }
    }

    /// Reads as many streams at once as is allowed.
    fn read(&mut self, stream: Option<Stream>) {
        self.waiting.extend(stream);
        while self.readers.len() < self.config.streams
            && let Some(stream) = self.waiting.pop_front()
        {
            self.readers.push(framing::read(stream, self.config.patience, Arc::clone(&self.room)).boxed());
        }
    }

    fn poll_readers(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        while let Poll::Ready(Some(read)) = self.readers.poll_next_unpin(cx) {
            let Some((stream, incoming)) = read else {
                self.read(None);
                continue;
            };
            self.read(Some(stream));
            return Poll::Ready(incoming);
        }
        Poll::Pending
    }

    /// Moves a lane on; ready where a stream is to be opened for it.
    fn poll_writer(&mut self, lane: Lane, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.config.patience;
        let writer = self.writer(lane);
        match mem::replace(writer, Writer::Closed) {
            Writer::Wishing { frame } => {
                *writer = Writer::Opening { frame };
                return Poll::Ready(());
            }
            Writer::Writing { mut future, again } => match future.poll_unpin(cx) {
                Poll::Pending => *writer = Writer::Writing { future, again },
                Poll::Ready(Ok(stream)) => {
                    *writer = Writer::Kept { stream, until: Box::pin(sleep(KEPT)) };
                    self.reports.push_back(Report::Free(lane));
                    return self.poll_writer(lane, cx);
                }
                Poll::Ready(Err(_)) => match again {
                    // The peer had given the stream up while it was kept.
                    Some(frame) => {
                        *writer = Writer::Opening { frame };
                        return Poll::Ready(());
                    }
                    None => self.reports.push_back(Report::Free(lane)),
                },
            },
            Writer::Kept { stream, mut until } => match until.poll_unpin(cx) {
                Poll::Pending => *writer = Writer::Kept { stream, until },
                Poll::Ready(()) => self.closing.push(framing::close(stream, patience).boxed()),
            },
            other => *writer = other,
        }
        Poll::Pending
    }
}

/// What one lane does.
enum Writer {
    Closed,
    /// A stream has to be asked for.
    Wishing {
        frame: Bytes,
    },
    /// A stream has been asked for.
    Opening {
        frame: Bytes,
    },
    /// A message is written; `again` on a new stream if this one proves to be of no more use.
    Writing {
        future: BoxFuture<'static, io::Result<Stream>>,
        again: Option<Bytes>,
    },
    /// A stream waits for the next message.
    Kept {
        stream: Stream,
        until: Pin<Box<Sleep>>,
    },
}

impl Writer {
    fn write(&mut self, stream: Stream, frame: Bytes, again: Option<Bytes>, patience: Duration) {
        *self = Self::Writing { future: framing::write(stream, frame, patience).boxed(), again };
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Lane, Self::ToBehaviour>> {
        for lane in [Lane::Wants, Lane::Answers] {
            if self.poll_writer(lane, cx).is_ready() {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), lane);
                let protocol = protocol.with_timeout(self.config.patience);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        while let Poll::Ready(Some(())) = self.closing.poll_next_unpin(cx) {}
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        self.poll_readers(cx).map(|incoming| ConnectionHandlerEvent::NotifyBehaviour(Report::Received(incoming)))
    }

    fn on_behaviour_event(&mut self, command: Command) {
        let Command::Send { lane, frame } = command;
        let patience = self.config.patience;
        let writer = self.writer(lane);
        match mem::replace(writer, Writer::Closed) {
            Writer::Kept { stream, .. } => writer.write(stream, frame.clone(), Some(frame), patience),
            _ => *writer = Writer::Wishing { frame },
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Lane>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. })
                if self.waiting.len() < WAITING_STREAMS =>
            {
                self.read(Some(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: lane }) => {
                let patience = self.config.patience;
                let writer = self.writer(lane);
                if let Writer::Opening { frame } = mem::replace(writer, Writer::Closed) {
                    writer.write(stream, frame, None, patience);
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: lane, error }) => {
                *self.writer(lane) = Writer::Closed;
                if matches!(error, StreamUpgradeError::NegotiationFailed) {
                    self.reports.push_back(Report::Speaks(false));
                }
                self.reports.push_back(Report::Free(lane));
            }
            ConnectionEvent::RemoteProtocolsChange(change) => {
                let speaks = match change {
                    ProtocolsChange::Added(mut added) => added.any(|it| *it == PROTOCOL).then_some(true),
                    ProtocolsChange::Removed(mut removed) => removed.any(|it| *it == PROTOCOL).then_some(false),
                };
                self.reports.extend(speaks.map(Report::Speaks));
            }
            // A stream that is one too many ends here too, and its sender sees that.
            _ => {}
        }
    }
}
