//! The settings: `pins = [{ name, endpoint, token_file }]` under `[backends.ipfs]`.

use std::{collections::BTreeSet, fmt, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use talkbox_core::{Error, ErrorKind, Result};
use url::{Host, Url};

use super::token::TokenFile;

/// Most services: each is asked for every month, and one or two are what anybody pays for.
const MAX_SERVICES: usize = 8;
/// Most characters of a service's name, which stands in tables of the command.
const MAX_NAME: usize = 64;

/// What is said where `pins` is something else.
const NO_LIST: &str = "`pins` is a list of tables, each with `name`, `endpoint` and `token_file`";

/// One service, as it stands in the settings.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinSettings {
    /// What it is called here.
    name: String,
    /// Where its API begins, such as `https://api.pinata.cloud/psa`.
    endpoint: String,
    /// The file of its token, as an absolute path.
    token_file: PathBuf,
}

/// A service whose settings were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// What it is called here.
    pub(crate) name: String,
    /// Where its API begins; the path does not end with a slash.
    pub(crate) endpoint: Url,
    /// Where its token is kept.
    pub(crate) token: TokenFile,
}

/// Checks all services.
///
/// # Errors
/// `ConfigInvalid`, with the name of the service. No value that may be a secret is repeated.
pub(crate) fn services(settings: &[PinSettings]) -> Result<Vec<Service>> {
    if settings.len() > MAX_SERVICES {
        return Err(invalid("more than 8 pinning services").with("given", settings.len()));
    }
    let mut names = BTreeSet::new();
    let checked = settings.iter().map(|one| {
        if !names.insert(&one.name) {
            return Err(invalid("two pinning services have the same name").with("service", one.shown()));
        }
        one.check().map_err(|error| error.with("service", one.shown()))
    });
    checked.collect()
}

impl PinSettings {
    /// A service of this name, whose API begins at `endpoint` and whose token is in this file of its own.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>, token_file: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), endpoint: endpoint.into(), token_file: token_file.into() }
    }

    fn check(&self) -> Result<Service> {
        let is_plain = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(is_plain) {
            return Err(invalid("a pinning service's name is up to 64 letters, digits, dashes, underscores and dots"));
        }
        if !self.token_file.is_absolute() {
            return Err(invalid("`token_file` is the absolute path of a file that holds the token"));
        }
        Ok(Service {
            name: self.name.clone(),
            endpoint: endpoint(&self.endpoint)?,
            token: TokenFile::new(self.token_file.clone()),
        })
    }

    /// The name, cut: it is not checked yet where it is shown.
    fn shown(&self) -> String {
        self.name.chars().filter(|symbol| !symbol.is_control()).take(MAX_NAME).collect()
    }
}

impl fmt::Debug for PinSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinSettings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where an API begins.
fn endpoint(text: &str) -> Result<Url> {
    let mut url = Url::parse(text).map_err(|_| invalid("`endpoint` is no URL"))?;
    let has_more =
        !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
    if has_more {
        return Err(invalid("`endpoint` has a user, a query or a fragment: the token is read from `token_file`"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_at_home(&url) => {}
        "http" => return Err(invalid("`endpoint` is not encrypted, and the token would be read on its way")),
        _ => return Err(invalid("`endpoint` does not begin with `https://`")),
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Whether it is on the user's own computer or network, by an address.
fn is_at_home(url: &Url) -> bool {
    let is_home = |address: IpAddr| !talkbox_net::is_global(address);
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => is_home(address.into()),
        Some(Host::Ipv6(address)) => is_home(address.into()),
        None => false,
    }
}

/// Reads `pins`, for serde's `deserialize_with`. What stands there in place of a list of tables is not repeated: it may be
/// a token.
///
/// # Errors
/// What is wrong, with what belongs there.
pub fn read_pins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PinSettings>, D::Error> {
    let Value::Array(all) = Value::deserialize(deserializer)? else { return Err(D::Error::custom(NO_LIST)) };
    let one = |value: Value| match &value {
        Value::Object(table) if table.contains_key("token") => Err(D::Error::custom(
            "a token does not stand in the settings: put it into a file of mode 0600 and name that as `token_file`",
        )),
        Value::Object(_) => PinSettings::deserialize(value).map_err(D::Error::custom),
        _ => Err(D::Error::custom(NO_LIST)),
    };
    all.into_iter().map(one).collect()
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use talkbox_core::BackendConfig;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(deserialize_with = "read_pins")]
        pins: Vec<PinSettings>,
    }

    fn read(pins: Value) -> Result<Vec<Service>> {
        let table = serde_json::Map::from_iter([("pins".to_owned(), pins)]);
        services(&BackendConfig::new(table).read::<Config>()?.pins)
    }

    fn one(endpoint: &str) -> Result<Service> {
        read(json!([{ "name": "a", "endpoint": endpoint, "token_file": "/etc/token" }])).map(|mut all| all.remove(0))
    }

    #[test]
    fn a_base_path_is_kept() {
        for (text, shown) in [
            ("https://api.pinata.cloud/psa", "https://api.pinata.cloud/psa"),
            ("https://api.pinata.cloud/psa/", "https://api.pinata.cloud/psa"),
            ("https://pins.example/a/b//", "https://pins.example/a/b"),
            ("https://pins.example", "https://pins.example/"),
            ("http://127.0.0.1:9097", "http://127.0.0.1:9097/"),
            ("http://[::1]:9097/x", "http://[::1]:9097/x"),
            ("http://192.168.1.7", "http://192.168.1.7/"),
            ("http://localhost:1/", "http://localhost:1/"),
        ] {
            assert_eq!(one(text).expect(text).endpoint.as_str(), shown);
        }
    }

    #[test]
    fn an_endpoint_that_would_show_the_token_is_refused() {
        for bad in [
            "http://pins.example",
            "http://1.1.1.1",
            "ftp://pins.example",
            "https://s3cr3t@pins.example",
            "https://:s3cr3t@pins.example",
            "https://pins.example/?key=s3cr3t",
            "https://pins.example/#s3cr3t",
            "s3cr3t",
            "",
        ] {
            let error = one(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
    }

    #[test]
    fn a_token_in_the_settings_is_refused_with_what_to_do() {
        for token in [json!("s3cr3t"), json!({ "file": "s3cr3t" }), json!(null), json!(7)] {
            let pins = json!([{ "name": "a", "endpoint": "https://a.example", "token_file": "/t", "token": token }]);
            let error = read(pins).expect_err("a token");
            assert!(error.to_string().contains("token_file") && error.to_string().contains("0600"), "{error}");
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
    }

    #[test]
    fn what_stands_in_place_of_services_is_not_repeated() {
        for pins in [json!("s3cr3t"), json!(["s3cr3t"]), json!({ "token": "s3cr3t" }), json!([["s3cr3t"]])] {
            let error = read(pins).expect_err("no services");
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains("token_file"), "{error}");
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
    }

    #[test]
    fn a_misspelt_key_is_answered_with_those_that_are_taken() {
        let pins = json!([{ "name": "a", "endpoint": "https://a.example", "token_fil": "/t" }]);
        let error = read(pins).expect_err("misspelt").to_string();
        assert!(error.contains("`token_file`") && !error.contains("`token`"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let service =
            |name: &str, file: &str| json!({ "name": name, "endpoint": "https://a.example", "token_file": file });
        for bad in [
            json!([service("", "/t")]),
            json!([service("a b", "/t")]),
            json!([service(&"a".repeat(65), "/t")]),
            json!([service("a", "s3cr3t")]),
            json!([service("a", "/t"), service("a", "/u")]),
            json!([{ "name": "a", "endpoint": "https://a.example" }]),
            json!([{ "name": "a", "endpoint": "https://a.example", "token_file": "/t", "tokenfile": "s3cr3t" }]),
            Value::Array((0..9).map(|number| service(&number.to_string(), "/t")).collect()),
        ] {
            let error = read(bad).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
        assert!(read(json!([])).expect("none").is_empty());
        let all = read(json!([service("a", "/t"), service("b", "/t")])).expect("two");
        assert!(!format!("{all:?}").contains("/t"), "{all:?}");
    }
}
