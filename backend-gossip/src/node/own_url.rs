//! The URL under which clients reach the node, and whether something that they signed names it.

use std::{fmt, net::SocketAddr};

use talkbox_core::{Error, ErrorKind, Result};
use url::{Host, Url};

use super::config::NodeConfig;

/// The URL of the WebSocket; that of HTTP is the same but for the scheme. And others under which the node is reached, such
/// as one inside of a private network.
#[derive(Clone, Debug)]
pub(crate) struct OwnUrl {
    public: Url,
    others: Vec<Url>,
}

impl OwnUrl {
    /// The configured URLs, or the address that the node listens on.
    ///
    /// # Errors
    /// `ConfigInvalid` for what is no URL of a WebSocket.
    pub(crate) fn new(config: &NodeConfig, address: SocketAddr) -> Result<Self> {
        let scheme = if config.tls.is_some() { "wss" } else { "ws" };
        let text = config.public_url.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
        let others = config.other_urls.iter().map(|text| read("other_url", text)).collect::<Result<_>>()?;
        Ok(Self { public: read("public_url", &text)?, others })
    }

    /// The URL of a peer, by which it is named as a relay, too.
    pub(crate) fn of_peer(url: &Url) -> Self {
        Self { public: url.clone(), others: Vec::new() }
    }

    /// Whether a URL names this node as a relay: by host, port and path.
    pub(crate) fn is_relay(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| self.all().any(|own| is_at(own, &url) && path(&url) == path(own)))
    }

    /// Whether a URL names a request to this node, whose path and query are these.
    pub(crate) fn is_request(&self, url: &str, asked: &str) -> bool {
        let (asked_path, query) = match asked.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked, None),
        };
        let is_it = |own: &Url, url: &Url| {
            is_at(own, url) && url.path() == format!("{}{asked_path}", path(own)) && url.query() == query
        };
        Url::parse(url).is_ok_and(|url| self.all().any(|own| is_it(own, &url)))
    }

    fn all(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.public).chain(&self.others)
    }
}

impl fmt::Display for OwnUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public.fmt(f)
    }
}

/// Reads the URL of a setting.
fn read(setting: &'static str, text: &str) -> Result<Url> {
    let invalid = |why: &'static str| Error::new(ErrorKind::ConfigInvalid, why).with(setting, text);
    let url = Url::parse(text).map_err(|error| invalid("the URL of the node is none").source(error))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Without what was given: it may be a secret.
        let why = "the URL of the node has a user or a password, which would be shown to everybody";
        return Err(Error::new(ErrorKind::ConfigInvalid, why).with(setting, "…"));
    }
    if !matches!(url.scheme(), "ws" | "wss") || url.host().is_none() {
        return Err(invalid("the URL of the node is not one of a WebSocket (ws or wss)"));
    }
    // Clients put paths behind it, and sign what comes of that.
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("the URL of the node has a query or a fragment, behind which no path can stand"));
    }
    Ok(url)
}

fn is_at(own: &Url, url: &Url) -> bool {
    host(url) == host(own) && port(url) == port(own)
}

fn path(url: &Url) -> &str {
    url.path().trim_end_matches('/')
}

fn port(url: &Url) -> Option<u16> {
    url.port().or(match url.scheme() {
        "ws" | "http" => Some(80),
        "wss" | "https" => Some(443),
        _ => None,
    })
}

/// The host. All names of this machine are one: `localhost` and `127.0.0.1` reach the same listener.
fn host(url: &Url) -> Option<String> {
    Some(match url.host()? {
        Host::Domain(name) if name.eq_ignore_ascii_case("localhost") => "localhost".to_owned(),
        // So is a node that listens on all addresses, and was told no name: at least from this machine it can be reached.
        Host::Ipv4(address) if address.is_loopback() || address.is_unspecified() => "localhost".to_owned(),
        Host::Ipv6(address) if address.is_loopback() || address.is_unspecified() => "localhost".to_owned(),
        // `Url` takes the host of web schemes through IDNA, in lower case.
        Host::Domain(name) => name.trim_end_matches('.').to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(url: &str) -> OwnUrl {
        OwnUrl::of_peer(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn a_public_url_is_one_that_paths_can_stand_behind() {
        let read = |text: &str| {
            let config = NodeConfig { public_url: Some(text.to_owned()), ..NodeConfig::default() };
            OwnUrl::new(&config, SocketAddr::from(([127, 0, 0, 1], 1)))
        };
        assert!(read("wss://node.example/box").is_ok());
        for wrong in [
            "",
            "node.example",
            "https://node.example",
            "wss://node.example/?a=b",
            "wss://node.example?",
            "wss://node.example/#x",
            "wss://me@node.example",
            "wss://:secret@node.example",
        ] {
            assert_eq!(read(wrong).expect_err(wrong).kind(), ErrorKind::ConfigInvalid, "{wrong}");
        }
    }

    #[test]
    fn a_node_has_other_urls_too() {
        let config = NodeConfig {
            public_url: Some("wss://node.example".to_owned()),
            other_urls: vec!["ws://inside:7447/box".to_owned()],
            ..NodeConfig::default()
        };
        let own = OwnUrl::new(&config, SocketAddr::from(([127, 0, 0, 1], 1))).expect("URLs");
        assert!(own.is_relay("wss://node.example") && own.is_relay("ws://inside:7447/box"));
        assert!(own.is_request("http://inside:7447/box/v1/log", "/v1/log"));
        assert!(!own.is_request("https://node.example/box/v1/log", "/v1/log"));
        assert_eq!(own.to_string(), "wss://node.example/");
        let wrong = NodeConfig { other_urls: vec!["http://inside".to_owned()], ..NodeConfig::default() };
        assert!(OwnUrl::new(&wrong, SocketAddr::from(([127, 0, 0, 1], 1))).is_err());
    }

    #[test]
    fn a_relay_is_named_by_host_port_and_path() {
        let node = own("wss://node.example/relay");
        assert!(node.is_relay("wss://NODE.example:443/relay/"));
        for other in
            ["wss://other.example/relay", "wss://node.example/", "wss://node.example:444/relay", "node.example", ""]
        {
            assert!(!node.is_relay(other), "{other}");
        }
    }

    #[test]
    fn names_of_this_machine_are_one() {
        assert!(own("ws://127.0.0.1:7/").is_relay("ws://localhost:7"));
        assert!(own("ws://127.0.0.1:7/").is_relay("ws://[::1]:7"));
        assert!(!own("ws://127.0.0.1:7/").is_relay("ws://localhost:8"));
    }

    #[test]
    fn a_node_without_a_name_is_reached_from_this_machine() {
        assert!(own("ws://0.0.0.0:7").is_relay("ws://127.0.0.1:7"));
        assert!(own("ws://[::]:7").is_request("http://localhost:7/v1/log", "/v1/log"));
        assert!(!own("ws://0.0.0.0:7").is_relay("ws://192.0.2.1:7"));
    }

    #[test]
    fn a_request_is_named_with_its_query() {
        let node = own("wss://node.example/");
        assert!(node.is_request("https://node.example/v1/log?after=1", "/v1/log?after=1"));
        assert!(!node.is_request("https://node.example/v1/log?after=2", "/v1/log?after=1"));
        assert!(!node.is_request("https://node.example/v1/log", "/v1/log?after=1"));
        assert!(!node.is_request("http://node.example/v1/log", "/v1/log"), "another port");
        assert!(own("ws://127.0.0.1:7/box/").is_request("http://127.0.0.1:7/box/v1/log", "/v1/log"));
    }
}
