//! The simulated network, under the node and under those who ask it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use talkbox_backend_gossip::node::{Bind, Listen, Stream};
use talkbox_core::{ErrorKind, Result, async_trait};
use talkbox_net::{ByteStream, Connect, Endpoint, Trust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::world::World;

/// Of all nodes.
pub(crate) const PORT: u16 = 7447;
/// How long it may take to reach somebody: what the node has outside.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The network as one host has it.
#[derive(Clone, Debug)]
pub(crate) struct Simulated {
    pub(crate) world: Arc<World>,
    pub(crate) host: String,
}

impl Simulated {
    fn traced(&self, stream: TcpStream) -> Traced {
        Traced { stream, on: self.clone() }
    }
}

#[async_trait]
impl Connect for Simulated {
    async fn connect(&self, endpoint: &Endpoint, _: Trust) -> Result<ByteStream> {
        let connecting = TcpStream::connect((endpoint.host().to_owned(), endpoint.port()));
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(stream)) => Ok(Box::new(self.traced(stream))),
            Ok(Err(error)) => Err(endpoint.error(ErrorKind::Unreachable, "it refuses the connection").source(error)),
            Err(_) => Err(endpoint.error(ErrorKind::Timeout, "it does not answer")),
        }
    }
}

#[async_trait]
impl Bind for Simulated {
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listen>> {
        Ok(Box::new(Listener { listener: TcpListener::bind(address).await?, on: self.clone() }))
    }
}

struct Listener {
    listener: TcpListener,
    on: Simulated,
}

#[async_trait]
impl Listen for Listener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, address) = self.listener.accept().await?;
        Ok((Box::new(self.on.traced(stream)), address))
    }
}

/// Notes what a host sends, so that two runs are alike only where that is.
struct Traced {
    stream: TcpStream,
    on: Simulated,
}

impl AsyncRead for Traced {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Traced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.on.world.sent(&self.on.host, self.stream.peer_addr()?, &bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
