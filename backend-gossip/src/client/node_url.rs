//! The URL of a node, in one spelling: what it is asked by and holders are named by.

use std::{fmt, sync::Arc};

use talkbox_core::{Error, ErrorKind, Locator, Result};
use url::Url;

/// The scheme of the locators that this backend opens.
pub(super) const SCHEME: &str = "gossip";

/// A node's URL: `https` or `http`, lower-case host, no default port, no slash at the end, no user, query or fragment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeUrl(Arc<str>);

impl NodeUrl {
    /// Brings a node's URL into its one spelling.
    ///
    /// # Errors
    /// `InvalidInput` where it is no URL of HTTP, or one that names a user, has a query or is too long for a locator.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidInput, why);
        let mut url = Url::parse(text.trim())
            .map_err(|error| invalid("not the URL of a node, such as `https://node.example`").source(error))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(invalid("a node's URL begins with `https://` or `http://`"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("a node's URL names a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a node's URL names no user"));
        }
        if url.query().is_some() {
            return Err(invalid("a node's URL has no query: what is asked stands there"));
        }
        url.set_fragment(None);
        let text = url.as_str().trim_end_matches('/');
        // Whatever is opened can also be named.
        Locator::new(SCHEME, text)?;
        Ok(Self(text.into()))
    }

    /// The node that a locator names.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); `InvalidInput` for a locator of another scheme.
    pub(super) fn of(locator: &Locator) -> Result<Self> {
        if locator.scheme() != SCHEME {
            return Err(Error::new(ErrorKind::InvalidInput, "not the locator of a node").with("locator", locator));
        }
        Self::parse(locator.rest())
    }

    /// The node as a holder is named.
    pub(super) fn locator(&self) -> Locator {
        Locator::new(SCHEME, &self.0).expect("checked when it was parsed")
    }

    /// A place on the node: a path of this program's own, such as `/v1/have`, perhaps with a query.
    pub(super) fn at(&self, path: &str) -> Url {
        Url::parse(&format!("{}{path}", self.0)).expect("a URL that was parsed, and plain symbols after its path")
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_node_has_one_spelling() {
        for (given, kept) in [
            ("https://node.example", "https://node.example"),
            (" HTTPS://Node.Example:443/#x", "https://node.example"),
            ("http://127.0.0.1:80/", "http://127.0.0.1"),
            ("http://[::1]:7000/", "http://[::1]:7000"),
            ("https://node.example/box//", "https://node.example/box"),
        ] {
            assert_eq!(NodeUrl::parse(given).expect(given).to_string(), kept);
        }
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for bad in [
            "",
            "node.example",
            "wss://node.example",
            "https://",
            "https://user@node.example",
            "https://node.example/?a",
        ] {
            assert_eq!(NodeUrl::parse(bad).expect_err(bad).kind(), ErrorKind::InvalidInput);
        }
        assert!(NodeUrl::parse(&format!("https://node.example/{}", "x".repeat(256))).is_err());
        assert!(NodeUrl::of(&"nostr:https://node.example".parse().expect("a locator")).is_err());
    }

    #[test]
    fn places_stand_below_the_path_of_the_node() {
        let at = |node: &str, path: &str| NodeUrl::parse(node).expect(node).at(path).to_string();
        assert_eq!(at("https://node.example", "/v1/have"), "https://node.example/v1/have");
        assert_eq!(at("https://node.example/box/", "/v1/log?after=1.2"), "https://node.example/box/v1/log?after=1.2");
        assert_eq!(at("http://[::1]:7000", "/"), "http://[::1]:7000/");
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "https?://[a-zA-Z0-9.-]{1,20}(:[0-9]{1,5})?(/[ -~]{0,20})?") {
            if let Ok(once) = NodeUrl::parse(&text) {
                prop_assert_eq!(NodeUrl::parse(&once.to_string()).expect("its own spelling"), once.clone());
                prop_assert_eq!(NodeUrl::of(&once.locator()).expect("its own locator"), once.clone());
                prop_assert!(once.at("/v1/have").path().ends_with("/v1/have"));
            }
        }
    }
}
