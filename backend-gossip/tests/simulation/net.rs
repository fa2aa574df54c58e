//! The simulated network, under the node and under those who ask it.

use std::{io, net::SocketAddr, time::Duration};

use talkbox_backend_gossip::node::{Bind, Listen, Stream};
use talkbox_core::{ErrorKind, Result, async_trait};
use talkbox_net::{ByteStream, Connect, Endpoint, Trust};
use turmoil::net::{TcpListener, TcpStream};

/// Of all nodes.
pub(crate) const PORT: u16 = 7447;
/// How long it may take to reach somebody: what the node has outside.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Simulated;

#[async_trait]
impl Connect for Simulated {
    async fn connect(&self, endpoint: &Endpoint, _: Trust) -> Result<ByteStream> {
        let connecting = TcpStream::connect((endpoint.host().to_owned(), endpoint.port()));
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(endpoint.error(ErrorKind::Unreachable, "it refuses the connection").source(error)),
            Err(_) => Err(endpoint.error(ErrorKind::Timeout, "it does not answer")),
        }
    }
}

#[async_trait]
impl Bind for Simulated {
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listen>> {
        Ok(Box::new(Listener(TcpListener::bind(address).await?)))
    }
}

struct Listener(TcpListener);

#[async_trait]
impl Listen for Listener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, address) = self.0.accept().await?;
        Ok((Box::new(stream), address))
    }
}
