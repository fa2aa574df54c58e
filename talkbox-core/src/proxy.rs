//! A proxy, as a user names it: the way to the network, for those whose address is nobody's business.

use std::{fmt, str::FromStr};

use crate::{Error, ErrorKind, Result};

/// The port where none is named (RFC 1928).
const PORT: u16 = 1080;

/// A SOCKS5 proxy. It resolves the names that it is asked for, so that no name server of the user's own learns them.
///
/// ```
/// use talkbox_core::Proxy;
///
/// let tor: Proxy = "socks5://127.0.0.1:9050".parse()?;
/// assert_eq!((tor.host(), tor.port()), ("127.0.0.1", 9050));
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
}

impl Proxy {
    /// Its name or address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Proxy {
    type Err = Error;

    /// `socks5h`, with which some programs say that the proxy resolves names, means the same here.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidInput, why);
        let place = ["socks5://", "socks5h://"].iter().find_map(|scheme| text.trim().strip_prefix(scheme));
        let place = place.ok_or_else(|| invalid("a proxy is one of SOCKS5, such as `socks5://127.0.0.1:9050`"))?;
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains('@') {
            return Err(invalid("a proxy that wants a password is not supported"));
        }
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| invalid("the port of a proxy is a number"))?;
        if host.is_empty() || host.contains(|symbol: char| symbol == '/' || symbol.is_whitespace()) {
            return Err(invalid("a proxy names a host"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "socks5://[{host}]:{port}") } else { write!(f, "socks5://{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_proxy() {
        for (text, shown) in [
            ("socks5://127.0.0.1:9050", "socks5://127.0.0.1:9050"),
            ("socks5h://proxy.example/", "socks5://proxy.example:1080"),
            ("socks5://[::1]:9050", "socks5://[::1]:9050"),
            ("socks5://[::1]", "socks5://[::1]:1080"),
        ] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(shown.parse::<Proxy>().expect(shown), proxy);
        }
        for bad in ["", "http://a:1", "127.0.0.1:9050", "socks5://", "socks5://u:p@a:1", "socks5://a:x", "socks5://a/b"]
        {
            assert_eq!(bad.parse::<Proxy>().expect_err(bad).kind(), ErrorKind::InvalidInput);
        }
    }
}
