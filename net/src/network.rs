//! The one place where bytes leave the process.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use talkbox_core::{ErrorKind, Proxy, Result, async_trait};
use tokio::{net::TcpStream, time::timeout};
use tokio_socks::tcp::Socks5Stream;

use crate::{
    connect::{ByteStream, Connect},
    endpoint::Endpoint,
    reach::{self, Resolve, System, Trust},
    tls::Tls,
};

/// The network as it is: names resolved once and checked, TCP without delay, SOCKS5 where a proxy is set, TLS by rustls
/// with the system's authorities (or those that `SSL_CERT_FILE` names).
#[derive(Debug)]
pub struct Network {
    timeout: Duration,
    proxy: Option<Proxy>,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
}

impl Network {
    /// A network on which opening a connection takes at most `timeout`, and goes by this proxy. What one's own
    /// configuration names by an address of one's own network is reached past the proxy, which has no way there.
    pub fn new(timeout: Duration, proxy: Option<Proxy>) -> Self {
        Self { timeout, proxy, resolver: Arc::new(System), tls: Tls::default() }
    }

    /// Asks this one which addresses a name has. What it answers is checked as the system's answer is.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    async fn open(&self, endpoint: &Endpoint, trust: Trust) -> Result<ByteStream> {
        if endpoint.is_encrypted() {
            // Where nobody is trusted, nobody is bothered.
            self.tls.config(endpoint).await?;
        }
        let stream = match &self.proxy {
            Some(proxy) if !reach::is_at_home(endpoint, trust) => by_proxy(proxy, endpoint, trust).await?,
            _ => self.directly(endpoint, trust).await?,
        };
        if endpoint.is_encrypted() {
            return Ok(Box::new(self.tls.encrypt(endpoint, stream).await?));
        }
        Ok(Box::new(stream))
    }

    async fn directly(&self, endpoint: &Endpoint, trust: Trust) -> Result<TcpStream> {
        let mut last = None;
        for address in reach::resolve(&*self.resolver, endpoint, trust).await? {
            match undelayed(TcpStream::connect(address).await) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        Err(endpoint.error(ErrorKind::Unreachable, format!("no connection: {error}")).source(error))
    }
}

#[async_trait]
impl Connect for Network {
    async fn connect(&self, endpoint: &Endpoint, trust: Trust) -> Result<ByteStream> {
        timeout(self.timeout, self.open(endpoint, trust)).await.map_err(|_| {
            endpoint.error(ErrorKind::Timeout, format!("the {} cannot be reached in time", endpoint.what()))
        })?
    }
}

/// The proxy gets the endpoint's name as it stands. Only its own name is resolved here.
async fn by_proxy(proxy: &Proxy, endpoint: &Endpoint, trust: Trust) -> Result<TcpStream> {
    reach::check_unresolved(endpoint, trust)?;
    let unreachable = |words: String| endpoint.error(ErrorKind::Unreachable, words).with("proxy", proxy);
    let stream = undelayed(TcpStream::connect((proxy.host(), proxy.port())).await)
        .map_err(|error| unreachable(format!("no connection to the proxy: {error}")).source(error))?;
    let (host, port) = (endpoint.host(), endpoint.port());
    let asked = match host.parse::<IpAddr>() {
        Ok(address) => Socks5Stream::connect_with_socket(stream, SocketAddr::from((address, port))).await,
        Err(_) => Socks5Stream::connect_with_socket(stream, (host, port)).await,
    };
    let through =
        asked.map_err(|error| unreachable(format!("the proxy does not lead there: {error}")).source(error))?;
    Ok(through.into_inner())
}

fn undelayed(stream: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = stream?;
    // An answer is awaited after each message: holding back small ones costs 40 ms each.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn nothing_is_held_back_to_be_sent_with_what_follows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
        let endpoint = Endpoint::new("node", &url).expect("an endpoint");
        let network = Network::new(Duration::from_secs(30), None);
        let stream = network.directly(&endpoint, Trust::Configured).await.expect("connected");
        assert!(stream.nodelay().expect("asked"));
    }
}
