//! The seam between what is said and how it gets there.

use std::fmt;

use talkbox_core::{Result, async_trait};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{endpoint::Endpoint, reach::Trust};

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// An open connection, encrypted where its endpoint is.
pub type ByteStream = Box<dyn Duplex>;

/// Opens connections: [`Network`](crate::Network) the real ones, a test its own.
///
/// Whatever stands above it takes bytes from here and time from `tokio::time`, and nothing from the system. So all of it
/// runs in a simulated network, where the same seed gives the same run.
#[async_trait]
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Opens a connection to an endpoint, if that trust leads there.
    ///
    /// # Errors
    /// `Unreachable`, also where the endpoint's name leads to an address that is closed to it; `Timeout`. They name the
    /// endpoint.
    async fn connect(&self, endpoint: &Endpoint, trust: Trust) -> Result<ByteStream>;
}
