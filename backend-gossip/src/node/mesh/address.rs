//! How an operator names a peer: its URL, and its key behind a `#` where it is known.

use std::{fmt, str::FromStr};

use talkbox_core::{Address, Error, ErrorKind, PublicKey, Result, Target};
use url::Url;

/// Most peers. Every node asks every other, which is meant for some fifty.
const MAX_PEERS: usize = 64;

/// Where a peer is, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    /// Of HTTP, without a slash at its end.
    url: Url,
    /// `None`: the key that it shows first.
    key: Option<PublicKey>,
}

impl PeerAddress {
    /// The URL as text, without a slash at its end: what the peer is known by.
    pub(crate) fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) const fn key(&self) -> Option<PublicKey> {
        self.key
    }

    /// The URL of one of its routes.
    ///
    /// # Errors
    /// `ConfigInvalid`, which does not happen: the address was checked.
    pub(crate) fn route(&self, route: &str) -> Result<Url> {
        format!("{}{route}", self.name())
            .parse()
            .map_err(|error| Error::new(ErrorKind::ConfigInvalid, "no URL of a peer").source(error))
    }
}

impl FromStr for PeerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::ConfigInvalid, why).with("peer", text);
        let (url, key) = match text.split_once('#') {
            Some((url, key)) => (url, Some(key)),
            None => (text, None),
        };
        let url: Url = url.parse().map_err(|_| invalid("a peer is named by a URL such as https://node.example"))?;
        if !matches!(url.scheme(), "https" | "http") || url.query().is_some() || has_user(&url) {
            return Err(invalid("the URL of a peer begins with https:// or http:// and has no user and no query"));
        }
        let key = key.map(|key| match Address::parse(key).map(|address| address.target()) {
            Ok(Target::Mailbox(key)) => Ok(PublicKey::from(key)),
            _ => Err(invalid("what stands behind the # is not the npub of the peer's key")),
        });
        Ok(Self { url, key: key.transpose()? })
    }
}

/// Whether a URL says as whom it is asked for, which would be told to whoever sees it.
fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads all of them.
///
/// # Errors
/// `ConfigInvalid` for one that is none, or that is named twice; and for too many.
pub(super) fn read(texts: &[String]) -> Result<Vec<PeerAddress>> {
    if texts.len() > MAX_PEERS {
        return Err(Error::new(ErrorKind::ConfigInvalid, "more than 64 peers").with("given", texts.len()));
    }
    let mut peers: Vec<PeerAddress> = Vec::new();
    for text in texts {
        let peer: PeerAddress = text.parse()?;
        let is_known =
            |known: &PeerAddress| known.name() == peer.name() || known.key.is_some() && known.key == peer.key;
        if peers.iter().any(is_known) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a peer is named twice").with("peer", text));
        }
        peers.push(peer);
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NPUB: &str = "npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d";

    #[test]
    fn a_peer_is_a_url_and_perhaps_a_key() {
        let peer: PeerAddress = format!("https://Node.example/#{NPUB}").parse().expect("a peer");
        assert_eq!(peer.name(), "https://node.example");
        assert!(peer.key().is_some());
        assert_eq!(peer.route("/v1/have").expect("a URL").as_str(), "https://node.example/v1/have");
        let below: PeerAddress = "http://10.0.0.1:7447/box".parse().expect("a peer");
        assert_eq!(below.route("/v1/have").expect("a URL").as_str(), "http://10.0.0.1:7447/box/v1/have");
        assert_eq!(below.key(), None);
        for wrong in [
            "",
            "node.example",
            "wss://node.example",
            "https://a@node.example",
            "https://:b@node.example",
            "https://node.example?x",
            "https://node.example#key",
            "https://node.example#F12TW-YXSDN-W8QCK-54PDT",
        ] {
            assert_eq!(wrong.parse::<PeerAddress>().expect_err(wrong).kind(), ErrorKind::ConfigInvalid, "{wrong}");
        }
    }

    #[test]
    fn no_peer_is_named_twice() {
        let read = |texts: &[&str]| super::read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["https://a.example", "https://b.example"]).expect("two").len(), 2);
        assert!(read(&["https://a.example", "https://A.example/"]).is_err());
        let (a, b) = (format!("https://a.example#{NPUB}"), format!("https://b.example#{NPUB}"));
        assert!(read(&[&a, &b]).is_err());
        assert!(read(&["https://a.example"; 65]).is_err());
    }
}
