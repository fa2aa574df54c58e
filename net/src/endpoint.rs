//! Whom bytes go to.

use std::{fmt, sync::Arc};

use talkbox_core::{Error, ErrorKind, Result};
use url::{Host, Position, Url};

/// The other end of a connection: a host, a port, and whether what goes there is encrypted.
///
/// It also knows what to call itself, so that an error says "the relay's name does not resolve" where it is a relay and
/// "the node's …" where it is a node.
///
/// ```
/// use talkbox_net::Endpoint;
///
/// let node = Endpoint::new("node", &"https://Node.Example/v1/peers?after=3".parse()?)?;
/// assert_eq!((node.host(), node.port(), node.is_encrypted()), ("node.example", 443, true));
/// assert_eq!(node.to_string(), "https://node.example");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: Arc<str>,
    port: u16,
    encrypted: bool,
    what: &'static str,
    name: Arc<str>,
}

impl Endpoint {
    /// The endpoint that a URL leads to. `what` is the noun for it in errors, and the name of the pair of context that
    /// says which one it was. It shows itself by the URL's origin alone: never by path, query or fragment.
    ///
    /// # Errors
    /// `InvalidInput` where the URL is not one of `https`, `http`, `wss` or `ws`, or names a user.
    pub fn new(what: &'static str, url: &Url) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidInput, why);
        let encrypted = match url.scheme() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return Err(invalid("the URL begins with none of `https://`, `http://`, `wss://` and `ws://`")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a URL with a user's name or a password is not supported"));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(invalid("the URL names no host"));
        };
        let host = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let name = url[..Position::AfterPort].into();
        Ok(Self { host: host.into(), port, encrypted, what, name })
    }

    /// The same endpoint under another name, for those who name more than the origin.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The noun for it, such as `relay`.
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// Its name or address, as it is resolved; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether what goes there is encrypted.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// An error that says which endpoint it is about.
    ///
    /// ```
    /// use talkbox_core::ErrorKind;
    /// use talkbox_net::Endpoint;
    ///
    /// let relay = Endpoint::new("relay", &"wss://relay.example/?key=1".parse()?)?;
    /// let error = relay.error(ErrorKind::Timeout, "the relay does not answer");
    /// assert_eq!(error.to_string(), "the relay does not answer (relay: wss://relay.example)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn error(&self, kind: ErrorKind, words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::new(kind, words).with(self.what, self)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint> {
        Endpoint::new("node", &url.parse().expect(url))
    }

    #[test]
    fn what_a_url_leads_to() {
        for (url, host, port, is_encrypted, shown) in [
            ("https://a.example", "a.example", 443, true, "https://a.example"),
            ("https://A.example:443/x?y#z", "a.example", 443, true, "https://a.example"),
            ("http://a.example:8080/x", "a.example", 8080, false, "http://a.example:8080"),
            ("wss://a.example/?key=secret", "a.example", 443, true, "wss://a.example"),
            ("ws://[::1]:7000", "::1", 7000, false, "ws://[::1]:7000"),
            ("https://0x7f.1", "127.0.0.1", 443, true, "https://127.0.0.1"),
            ("https://bücher.example", "xn--bcher-kva.example", 443, true, "https://xn--bcher-kva.example"),
        ] {
            let found = endpoint(url).expect(url);
            assert_eq!((found.host(), found.port(), found.is_encrypted()), (host, port, is_encrypted), "{url}");
            assert_eq!(found.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for bad in ["ftp://a.example", "mailto:a@b.example", "https://user@a.example", "https://:word@a.example"] {
            assert_eq!(endpoint(bad).expect_err(bad).kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn an_origin_is_one_endpoint_whatever_its_path() {
        assert_eq!(endpoint("https://a.example/x").expect("one"), endpoint("https://a.example/y?z").expect("one"));
        assert_ne!(endpoint("https://a.example").expect("one"), endpoint("http://a.example:443").expect("another"));
    }
}
