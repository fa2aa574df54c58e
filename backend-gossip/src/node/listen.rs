//! Where connections come from: TCP, or what a simulation has in its place.

use std::{fmt, io, net::SocketAddr};

use talkbox_core::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Opens listeners.
#[async_trait]
pub trait Bind: fmt::Debug + Send + Sync + 'static {
    /// Listens on an address.
    ///
    /// # Errors
    /// Those of the network.
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listen>>;
}

/// Takes connections.
#[async_trait]
pub trait Listen: Send + 'static {
    /// Where it listens.
    ///
    /// # Errors
    /// Those of the network.
    fn address(&self) -> io::Result<SocketAddr>;

    /// The next connection, and whose it is.
    ///
    /// # Errors
    /// Those of the network; the listener goes on.
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)>;
}

/// TCP of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

#[async_trait]
impl Bind for Tcp {
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listen>> {
        Ok(Box::new(TcpListener::bind(address).await?))
    }
}

#[async_trait]
impl Listen for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        // An answer of a few bytes must not wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        Ok((Box::new(stream), address))
    }
}
