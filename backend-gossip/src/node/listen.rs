//! Where connections come from: TCP, or what a simulation has in its place.

use std::{fmt, io, net::SocketAddr};

use talkbox_core::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
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

/// Bytes that the system keeps of what a connection has sent and the node does not read yet: two messages of the largest
/// size. By itself it keeps several megabytes, and who is over his rate fills them.
const RECEIVE_BUFFER: u32 = 262_144;
/// Connections that wait to be taken, as Tokio has it.
const BACKLOG: u32 = 1_024;

/// TCP of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

#[async_trait]
impl Bind for Tcp {
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listen>> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A node that is started again gets its port while connections of before still end. Elsewhere than on Unix it
        // would take a port that another program has.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(address)?;
        Ok(Box::new(socket.listen(BACKLOG)?))
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
