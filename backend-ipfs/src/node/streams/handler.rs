//! The streams of one connection.

use std::{
    convert::Infallible,
    future::ready,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{AsyncReadExt as _, FutureExt as _, future::BoxFuture};
use libp2p::{
    StreamProtocol,
    core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    OPEN_TIMEOUT,
    control::{OpenError, Reply, Requests},
    names::{MAX_NAME, NAMED, Names},
    stream::{ConnectionDoor, Stream},
};

/// Streams that one connection opens at once; what is asked for beyond waits its turn.
const MAX_OPENING: usize = 32;

/// Opens what is asked of its connection, and hands over what comes in.
#[derive(Debug)]
pub(crate) struct Handler {
    accepted: Accepted,
    requests: Requests,
    opening: usize,
    door: ConnectionDoor,
}

impl Handler {
    pub(super) fn new(
        fixed: Arc<[StreamProtocol]>,
        names: Arc<Names>,
        requests: Requests,
        door: ConnectionDoor,
    ) -> Self {
        Self { accepted: Accepted { fixed, names }, requests, opening: 0, door }
    }

    /// Whoever asked may have given up meanwhile: then the stream is reset.
    fn answer(&mut self, reply: Reply, answer: Result<Stream, OpenError>) {
        self.opening -= 1;
        drop(reply.send(answer));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accepted;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Accepted> {
        SubstreamProtocol::new(self.accepted.clone(), ()).with_timeout(OPEN_TIMEOUT)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Reply, Infallible>> {
        while self.opening < MAX_OPENING {
            match self.requests.received.poll_recv(cx) {
                Poll::Ready(Some(request)) if request.reply.is_closed() => {}
                Poll::Ready(Some(request)) => {
                    self.opening += 1;
                    let protocol = SubstreamProtocol::new(ReadyUpgrade::new(request.protocol), request.reply);
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                        protocol: protocol.with_timeout(OPEN_TIMEOUT),
                    });
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Accepted, Self::OutboundProtocol, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream), ..
            }) => self.door.enter(protocol, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                self.answer(info, Ok(Stream::opened(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenError::Io(error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.answer(info, Err(error));
            }
            _ => {}
        }
    }
}

/// What a stream that comes in may be for.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    fixed: Arc<[StreamProtocol]>,
    names: Arc<Names>,
}

/// The protocols that libp2p knows: the fixed ones, then the one for all others.
#[derive(Debug)]
pub(crate) struct Known {
    fixed: Arc<[StreamProtocol]>,
    next: usize,
}

impl Iterator for Known {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let index = self.next;
        self.next += 1;
        let fixed = self.fixed.get(index).cloned();
        fixed.or_else(|| (index == self.fixed.len()).then_some(StreamProtocol::new(NAMED)))
    }
}

impl UpgradeInfo for Accepted {
    type Info = StreamProtocol;
    type InfoIter = Known;

    fn protocol_info(&self) -> Known {
        Known { fixed: Arc::clone(&self.fixed), next: 0 }
    }
}

impl InboundUpgrade<libp2p::Stream> for Accepted {
    type Output = (StreamProtocol, libp2p::Stream);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        if protocol == NAMED { self.named(stream).boxed() } else { ready(Ok((protocol, stream))).boxed() }
    }
}

impl Accepted {
    /// Reads which of the changing protocols it is.
    async fn named(self, mut stream: libp2p::Stream) -> io::Result<(StreamProtocol, libp2p::Stream)> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a stream has a name that is not accepted");
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_NAME {
            return Err(unknown());
        }
        let mut name = vec![0; length];
        stream.read_exact(&mut name).await?;
        let name = String::from_utf8(name).map_err(|_| unknown())?;
        if !self.names.has(&name) {
            return Err(unknown());
        }
        let protocol = StreamProtocol::try_from_owned(name).map_err(|_| unknown())?;
        Ok((protocol, stream))
    }
}
