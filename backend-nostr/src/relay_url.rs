//! The URL of a relay, in one spelling: what connections are pooled by and holders are named by.

use std::{fmt, sync::Arc};

use talkbox_core::{Error, ErrorKind, Locator, Result};
use talkbox_net::Endpoint;
use url::Url;

/// The scheme of the locators that this backend opens.
pub(crate) const SCHEME: &str = "nostr";

/// A relay's URL: `ws` or `wss`, lower-case host, no default port, no slash where the path is empty, no user, no
/// fragment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RelayUrl(Arc<str>);

impl RelayUrl {
    /// Brings a relay's URL into its one spelling.
    ///
    /// # Errors
    /// `InvalidInput` where it is no WebSocket URL, or one that names a user or is too long for a locator.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidInput, why);
        let mut url = Url::parse(text.trim())
            .map_err(|error| invalid("not the URL of a relay, such as `wss://relay.example`").source(error))?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(invalid("a relay's URL begins with `wss://` or `ws://`"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("a relay's URL names a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a relay's URL names no user"));
        }
        url.set_fragment(None);
        let mut text = String::from(url.clone());
        if url.path() == "/" && url.query().is_none() {
            text.pop();
        }
        // Whatever is opened can also be named.
        Locator::new(SCHEME, &text)?;
        Ok(Self(text.into()))
    }

    /// The relay that a locator names.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); `InvalidInput` for a locator of another scheme.
    pub(crate) fn of(locator: &Locator) -> Result<Self> {
        if locator.scheme() != SCHEME {
            return Err(Error::new(ErrorKind::InvalidInput, "not the locator of a relay").with("locator", locator));
        }
        Self::parse(locator.rest())
    }

    /// The relay as a holder is named.
    pub(crate) fn locator(&self) -> Locator {
        Locator::new(SCHEME, &self.0).expect("checked when it was parsed")
    }

    /// The whole.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its connections go. Errors name the whole URL: relays of one host are told apart by their paths.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let url = Url::parse(&self.0).expect("it was printed by the same parser");
        Endpoint::new("relay", &url).expect("scheme, host and user were checked when it was parsed").named(&self.0)
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_relay_has_one_spelling() {
        for spelling in
            ["wss://relay.example", "WSS://Relay.Example/", "wss://relay.example:443/#x", " wss://relay.example:443"]
        {
            assert_eq!(RelayUrl::parse(spelling).expect(spelling).as_str(), "wss://relay.example");
        }
        for (given, kept) in [
            ("ws://127.0.0.1:80/", "ws://127.0.0.1"),
            ("ws://[::1]:7000/", "ws://[::1]:7000"),
            ("wss://relay.example/inbox/", "wss://relay.example/inbox/"),
            ("wss://relay.example/?key=a", "wss://relay.example/?key=a"),
        ] {
            assert_eq!(RelayUrl::parse(given).expect(given).as_str(), kept);
        }
    }

    #[test]
    fn what_is_no_relay_is_refused() {
        for bad in ["", "relay.example", "https://relay.example", "wss://", "wss://user@relay.example", "wss://:7000"] {
            assert_eq!(RelayUrl::parse(bad).expect_err(bad).kind(), ErrorKind::InvalidInput);
        }
        assert!(RelayUrl::parse(&format!("wss://relay.example/{}", "x".repeat(256))).is_err());
    }

    #[test]
    fn every_relay_has_an_endpoint_which_goes_by_its_whole_name() {
        for (url, host, port, is_encrypted) in [
            ("ws://[::1]:7000", "::1", 7000, false),
            ("wss://a.example", "a.example", 443, true),
            ("wss://a.example/inbox?key=a", "a.example", 443, true),
        ] {
            let endpoint = RelayUrl::parse(url).expect("a relay").endpoint();
            assert_eq!((endpoint.host(), endpoint.port(), endpoint.is_encrypted()), (host, port, is_encrypted));
            assert_eq!((endpoint.what(), endpoint.to_string().as_str()), ("relay", url));
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "wss?://[a-zA-Z0-9.-]{1,20}(:[0-9]{1,5})?(/[ -~]{0,20})?") {
            if let Ok(once) = RelayUrl::parse(&text) {
                prop_assert_eq!(RelayUrl::parse(once.as_str()).expect("its own spelling"), once.clone());
                prop_assert_eq!(RelayUrl::of(&once.locator()).expect("its own locator"), once.clone());
                prop_assert_eq!(once.endpoint().is_encrypted(), once.as_str().starts_with("wss:"));
            }
        }
    }
}
