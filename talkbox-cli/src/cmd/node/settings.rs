//! The settings of a node: flag before environment before file before default.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use talkbox_backend_gossip::{
    Limits, NodeConfig,
    node::{Subnet, TlsFiles},
};
use talkbox_backend_ipfs::{IpfsNodeConfig, PinSettings};
use talkbox_core::{Error, ErrorKind, pow};

use super::ipfs;
use crate::{
    exit::{Failure, Outcome},
    session::Session,
};

/// Where a node listens by default.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7447);

/// The flags of a node.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// A file with the settings of the node, in TOML; a flag goes before what it says
    #[arg(long, value_name = "FILE", env = "TALKBOX_NODE_SETTINGS", hide_env_values = true)]
    settings: Option<PathBuf>,
    /// The address and port to listen on; port 0 lets the system choose [default: 127.0.0.1:7447]
    #[arg(long, value_name = "ADDRESS:PORT", env = "TALKBOX_NODE_LISTEN", hide_env_values = true)]
    listen: Option<SocketAddr>,
    /// The folder of its store [default: `node` in the data folder]
    #[arg(long, value_name = "DIR", env = "TALKBOX_NODE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// The URL under which clients reach it, such as `wss://node.example`; needed behind a proxy
    #[arg(long, value_name = "URL", env = "TALKBOX_NODE_PUBLIC_URL", hide_env_values = true)]
    public_url: Option<String>,
    /// Another URL under which it is reached, such as `ws://inside:7447` in a private network of its peers; may be given
    /// several times
    #[arg(
        long = "other-url",
        value_name = "URL",
        env = "TALKBOX_NODE_OTHER_URLS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    other_urls: Vec<String>,
    /// The name that it shows
    #[arg(long, value_name = "NAME", env = "TALKBOX_NODE_NAME", hide_env_values = true)]
    name: Option<String>,
    /// Serve sealed messages to anybody, as most relays do
    #[arg(long)]
    open_reads: bool,
    /// A node that holds the same as this one and may read all of it: `https://node.example`, or with its key
    /// `https://node.example#npub1…`; may be given several times
    #[arg(
        long = "peer",
        value_name = "URL",
        env = "TALKBOX_NODE_PEERS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    peers: Vec<String>,
    /// A list of nodes, such as `https://node.example/v1/peers`: those are shown as candidates for peers, and get no right
    /// by it; may be given several times
    #[arg(
        long = "registry",
        value_name = "URL",
        env = "TALKBOX_NODE_REGISTRIES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    registries: Vec<String>,
    /// A relay on which it announces its public URL, and where it looks for candidates; may be given several times
    #[arg(
        long = "announce",
        value_name = "RELAY",
        env = "TALKBOX_NODE_ANNOUNCE",
        value_delimiter = ',',
        hide_env_values = true
    )]
    announce: Vec<String>,
    /// The certificate for TLS and those that lead to its authority, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "TALKBOX_NODE_TLS_CERT", hide_env_values = true)]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "TALKBOX_NODE_TLS_KEY", hide_env_values = true)]
    tls_key: Option<PathBuf>,
    /// A proxy whose `X-Forwarded-For` is believed, as an address or a subnet such as `10.0.0.0/8`; may be given several
    /// times
    #[arg(
        long = "trusted-proxy",
        value_name = "SUBNET",
        env = "TALKBOX_NODE_TRUSTED_PROXIES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    trusted_proxies: Vec<Subnet>,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    ipfs: ipfs::Flags,
}

/// What an operator most often sets. Its defaults are those of [`Limits`], which a test compares.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct Bounds {
    /// The work that a sealed message has to show, in bits (NIP-13), at most 26 [default: 0]
    #[arg(
        long,
        value_name = "BITS",
        value_parser = clap::value_parser!(u8).range(..=i64::from(pow::MAX_BITS)),
        env = "TALKBOX_NODE_MIN_WORK",
        hide_env_values = true
    )]
    min_work: Option<u8>,
    /// The largest store, in MiB; above it only deletions are taken; 0: as much as the disk has [default: 0]
    #[arg(
        long,
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(..=MOST_MEBIBYTES),
        env = "TALKBOX_NODE_MAX_STORE",
        hide_env_values = true
    )]
    max_store: Option<u64>,
    /// Most MiB of one mailbox [default: 256]
    #[arg(
        long,
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(1..=MOST_MEBIBYTES),
        env = "TALKBOX_NODE_MAX_MAILBOX",
        hide_env_values = true
    )]
    max_mailbox: Option<u64>,
    /// Most sealed messages of one mailbox [default: 100000]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u64).range(1..),
        env = "TALKBOX_NODE_MAX_MAILBOX_MESSAGES",
        hide_env_values = true
    )]
    max_mailbox_messages: Option<u64>,
    /// Messages that one address may send per second, on average, and requests that it may make; 0: any number
    /// [default: 20]
    #[arg(long, value_name = "NUMBER", env = "TALKBOX_NODE_RATE", hide_env_values = true)]
    rate: Option<u32>,
    /// Most connections in all [default: 4096]
    #[arg(long, value_name = "NUMBER", env = "TALKBOX_NODE_MAX_CONNECTIONS", hide_env_values = true)]
    max_connections: Option<usize>,
    /// Most connections of one address [default: 32]
    #[arg(long, value_name = "NUMBER", env = "TALKBOX_NODE_MAX_CONNECTIONS_PER_ADDRESS", hide_env_values = true)]
    max_connections_per_address: Option<usize>,
}

/// More than any disk has, and in bytes still far from the end of the numbers.
const MOST_MEBIBYTES: u64 = 1 << 40;

impl Settings {
    /// The settings in force.
    ///
    /// # Errors
    /// Bad input where the file cannot be read, or holds what is no setting.
    pub(super) fn read(&self, data: PathBuf) -> Result<NodeConfig, Failure> {
        let File { mut config, listens, .. } = match &self.settings {
            None => File::default(),
            Some(path) => read_file(path)?,
        };
        if !listens {
            // The library's own default is a free port, which is of no use to a service.
            config.listen = LISTEN;
        }
        self.set(&mut config);
        config.data.get_or_insert(data);
        Ok(config)
    }

    /// The settings of the peer on IPFS that runs beside the node, if one does.
    ///
    /// # Errors
    /// As [`read`](Self::read); those of [`ipfs::Flags::read`].
    pub(super) async fn read_ipfs(&self, session: &Session) -> Outcome<Option<IpfsNodeConfig>> {
        let file = self.settings.as_deref().map(read_file).transpose()?;
        self.ipfs.read(session, file.and_then(|file| file.ipfs)).await
    }

    fn set(&self, config: &mut NodeConfig) {
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(data) = &self.data {
            config.data = Some(data.clone());
        }
        // A variable that is empty says nothing, as one that is not there.
        if let Some(url) = self.public_url.as_ref().filter(|url| !url.is_empty()) {
            config.public_url = Some(url.clone());
        }
        set_list(&mut config.other_urls, &self.other_urls);
        if let Some(name) = &self.name {
            config.name.clone_from(name);
        }
        if self.open_reads {
            config.gate_reads = false;
        }
        set_list(&mut config.peers, &self.peers);
        set_list(&mut config.registries, &self.registries);
        set_list(&mut config.announce, &self.announce);
        if let (Some(certificate), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) {
            config.tls = Some(TlsFiles { certificate, key });
        }
        if !self.trusted_proxies.is_empty() {
            config.trusted_proxies.clone_from(&self.trusted_proxies);
        }
        self.bounds.set(&mut config.limits);
    }
}

/// A list that is given goes before what the file says.
fn set_list(of: &mut Vec<String>, given: &[String]) {
    let given: Vec<String> = given.iter().filter(|one| !one.is_empty()).cloned().collect();
    if !given.is_empty() {
        *of = given;
    }
}

/// The pinning services that a settings file names for the peer on IPFS, and the folder of the node, where it names one.
///
/// # Errors
/// Bad input where the file cannot be read, or holds what is no setting.
pub(super) fn pins(path: &Path) -> Outcome<(Vec<PinSettings>, Option<PathBuf>)> {
    let file = read_file(path)?;
    Ok((file.ipfs.map(|table| table.pins).unwrap_or_default(), file.config.data))
}

/// What a file says.
#[derive(Default)]
struct File {
    config: NodeConfig,
    /// Whether it says where to listen.
    listens: bool,
    ipfs: Option<ipfs::Table>,
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let at = |error: Error| {
        let error = error.with("path", path.display());
        Failure::from(error).hint("correct it there; `talkbox node --help` names what can be set, and deploy/node.toml of the project all of it")
    };
    let invalid = |why: String| Error::new(ErrorKind::ConfigInvalid, why);
    let text = std::fs::read_to_string(path)
        .map_err(|error| at(invalid(format!("the settings of the node cannot be read: {error}"))))?;
    let wrong = |error: toml::de::Error| {
        // The message alone: the error's own form quotes the line, which may hold a token.
        let why = invalid(format!("the settings of the node are wrong: {}", error.message().replace('\n', ", ")));
        let line = |start| 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        at(match error.span() {
            Some(span) => why.with("line", line(span.start)),
            None => why,
        })
    };
    let mut table: toml::Table = toml::from_str(&text).map_err(wrong)?;
    let beside = table.remove("ipfs").map(toml::Value::try_into).transpose().map_err(wrong)?;
    // From the text, where that is all of it: then a mistake is told with its line.
    let config: NodeConfig =
        if beside.is_none() { toml::from_str(&text) } else { table.clone().try_into() }.map_err(wrong)?;
    // As the flag: nobody does more.
    if config.limits.min_work > pow::MAX_BITS {
        return Err(at(invalid(format!("the setting min_work has to be at most {}", pow::MAX_BITS))));
    }
    Ok(File { config, listens: table.contains_key("listen"), ipfs: beside })
}

impl Bounds {
    fn set(&self, limits: &mut Limits) {
        fn put<T: Copy>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        put(&mut limits.min_work, self.min_work);
        put(&mut limits.max_store_bytes, self.max_store.map(|mebibytes| mebibytes << 20));
        put(&mut limits.max_mailbox_bytes, self.max_mailbox.map(|mebibytes| mebibytes << 20));
        put(&mut limits.max_mailbox_events, self.max_mailbox_messages);
        put(&mut limits.events_per_second, self.rate);
        put(&mut limits.requests_per_second, self.rate);
        put(&mut limits.max_connections, self.max_connections);
        put(&mut limits.max_connections_per_address, self.max_connections_per_address);
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Node {
        #[command(flatten)]
        settings: Settings,
    }

    fn read(flags: &[&str]) -> NodeConfig {
        let node = Node::try_parse_from(std::iter::once("node").chain(flags.iter().copied())).expect("flags");
        node.settings.read("data".into()).unwrap_or_else(|_| panic!("settings"))
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("node.toml");
        std::fs::write(&path, "name = \"mine\"\npeers = [\"https://a.example\"]\n[limits]\nmin_work = 7\n")
            .expect("writes");
        let file = path.to_str().expect("text");
        let config = read(&["--settings", file, "--rate", "3", "--name", "other"]);
        assert_eq!((config.name.as_str(), config.limits.min_work), ("other", 7));
        assert_eq!((config.limits.events_per_second, config.limits.max_connections), (3, 4096));
        assert_eq!((config.listen, config.peers.len()), (LISTEN, 1));
        assert_eq!(
            read(&["--settings", file, "--peer", "https://b.example", "--peer", "https://c.example"]).peers.len(),
            2
        );
        assert_eq!(read(&[]).data, Some("data".into()));
        let empty = read(&["--settings", file, "--peer", "", "--public-url", ""]);
        assert_eq!((empty.peers.len(), empty.public_url), (1, None), "an empty variable says nothing");
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("node.toml");
        std::fs::write(&path, "nmae = \"mine\"\n").expect("writes");
        let node = Node::try_parse_from(["node", "--settings", path.to_str().expect("text")]).expect("flags");
        let Err(failure) = node.settings.read("data".into()) else { panic!("it is wrong") };
        assert_eq!(failure.code() as u8, 2);
        assert!(format!("{failure:?}").contains("nmae"), "{failure:?}");
    }

    /// A token that was pasted into it would be shown.
    #[test]
    fn a_mistake_is_told_with_its_line_and_without_what_stands_there() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("node.toml");
        for (text, line) in [
            ("name = \"mine\"\n\npins = s3cr3t\n", "line: 3"),
            ("[ipfs]\npins = [\"s3cr3t\"", "line: 2"),
            ("[ipfs]\npins = \"s3cr3t\"\n", "token_file"),
            ("[ipfs]\npins = [\"s3cr3t\"]\n", "token_file"),
        ] {
            std::fs::write(&path, text).expect("writes");
            let Err(failure) = read_file(&path) else { panic!("it is wrong: {text}") };
            assert_eq!(failure.code() as u8, 2);
            let told = format!("{failure:?}");
            assert!(told.contains(line) && !told.contains("s3cr3t"), "{told}");
        }
    }

    /// What the help says is the default has to be it.
    #[test]
    fn the_help_tells_the_defaults_of_the_library() {
        let limits = Limits::default();
        let told = |flag: &str| {
            let command = Node::command();
            let argument = command.get_arguments().find(|one| one.get_long() == Some(flag)).expect(flag);
            let help = argument.get_help().expect("help").to_string();
            help.rsplit_once("[default: ").and_then(|(_, rest)| rest.trim_end_matches(']').parse().ok())
        };
        assert_eq!(told("min-work"), Some(u64::from(limits.min_work)));
        assert_eq!(told("max-store"), Some(limits.max_store_bytes >> 20));
        assert_eq!(told("max-mailbox"), Some(limits.max_mailbox_bytes >> 20));
        assert_eq!(told("max-mailbox-messages"), Some(limits.max_mailbox_events));
        assert_eq!(told("rate"), Some(u64::from(limits.events_per_second)));
        assert_eq!(limits.events_per_second, limits.requests_per_second);
        assert_eq!(told("max-connections"), Some(limits.max_connections as u64));
        assert_eq!(told("max-connections-per-address"), Some(limits.max_connections_per_address as u64));
    }
}
