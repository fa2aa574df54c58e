//! What needs more than this program: clocks that are wrong (libfaketime), and networks that lose and part (namespaces of
//! Linux, as root). `scripts/test --full` runs these where it can, and says so where it cannot.

use std::{
    collections::HashSet,
    env,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use talkbox_backend_gossip::node::NodeConfig;
use talkbox_core::{Clock as _, MailboxId, SystemClock, event::Event};

use crate::{
    processes::{Process, this_program},
    support::{PATIENCE, key, wrap_by},
    three::{alike, held, publish, settings, state},
};

/// An envelope of this very moment.
fn fresh(to: MailboxId) -> Event {
    wrap_by(&key(), to, SystemClock.now(), &[])
}

/// Publishes until so many are acknowledged.
async fn acknowledged(to: SocketAddr, number: usize) -> HashSet<String> {
    let owner = key().id();
    let mut ids = HashSet::new();
    while ids.len() < number {
        let events: Vec<Event> = (0..16).map(|_| fresh(owner)).collect();
        ids.extend(publish(to, &events).await);
    }
    ids
}

/// The library of libfaketime, as Debian has it, or as `TALKBOX_FAKETIME` says.
fn faketime() -> String {
    let path = env::var("TALKBOX_FAKETIME");
    path.unwrap_or_else(|_| format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", env::consts::ARCH))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libfaketime: scripts/test --full"]
async fn clocks_that_are_wrong_lose_nothing_and_are_caught_up_when_set_right() {
    let library = faketime();
    assert!(Path::new(&library).exists(), "there is no {library}");
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let settings = settings(4, &folders);
    let nodes: Vec<SocketAddr> = settings.iter().map(|config| config.listen).collect();
    let start = |at: usize, clock: &str| {
        let mut command = this_program("processes::child");
        command.env("LD_PRELOAD", &library).env("FAKETIME", clock).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut process = Process::start_in_real_time(command, &settings[at]);
        assert_eq!(process.address(), nodes[at]);
        process
    };
    let clocks = ["+0d", "+0d", "-10d", "+10d"];
    let mut processes: Vec<_> = clocks.iter().enumerate().map(|(at, clock)| Some(start(at, clock))).collect();
    // What lasts for five days is over where the clock is ten days ahead, and ahead of its time where it is behind.
    let owner = key().id();
    let until = SystemClock.now().plus(5 * 86_400).to_string();
    let short = wrap_by(&key(), owner, SystemClock.now(), &[&["expiration", &until]]);
    assert_eq!(publish(nodes[3], std::slice::from_ref(&short)).await, Vec::<String>::new(), "over, by its clock");
    assert_eq!(publish(nodes[2], &[fresh(owner)]).await, Vec::<String>::new(), "too early, by its clock");
    let mut all: HashSet<String> = publish(nodes[0], &[short]).await.into_iter().collect();
    all.extend(acknowledged(nodes[0], 200).await);
    all.extend(acknowledged(nodes[1], 200).await);
    alike(&nodes[..2], all.len(), PATIENCE).await;
    // A node whose clock is ahead takes what is of now; those whose clock is right do not take its word for who it is.
    let ahead = acknowledged(nodes[3], 50).await;
    let shown = state(nodes[0]).await.expect("answers");
    for at in [2, 3] {
        let url = format!("http://{}", nodes[at]);
        let peer = shown["peers"].as_array().expect("peers").iter().find(|peer| peer["url"] == *url);
        assert_eq!(peer.expect("is listed")["state"], "away", "{shown}");
    }
    for at in [2, 3] {
        processes[at] = None;
        processes[at] = Some(start(at, "+0d"));
    }
    all.extend(ahead);
    // Peers that were away so long are tried once a minute.
    alike(&nodes, all.len(), Duration::from_secs(150)).await;
    for node in nodes {
        assert_eq!(held(node, &all).await, all);
    }
}

/// Runs a command of root's. What it says is shown where it fails.
fn run(command: &str) {
    assert!(tried(command), "{command}");
}

fn tried(command: &str) -> bool {
    let mut words = command.split(' ');
    let status = Command::new(words.next().expect("a word")).args(words).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Hosts on a network of their own, which goes when this is dropped.
struct Network {
    hosts: usize,
    /// What its names begin with: others may run this test too.
    name: String,
    /// The third number of its addresses.
    net: u8,
}

impl Network {
    fn new(hosts: usize) -> Self {
        let own = std::process::id();
        let network = Self { hosts, name: format!("tb{own:x}"), net: (own % 251) as u8 };
        let name = &network.name;
        run(&format!("ip link add {name} type bridge"));
        run(&format!("ip addr add 10.213.{}.254/24 dev {name}", network.net));
        run(&format!("ip link set {name} up"));
        for host in 0..hosts {
            let (space, address) = (network.space(host), network.address(host));
            run(&format!("ip netns add {space}"));
            run(&format!("ip link add {name}v{host} type veth peer name eth0 netns {space}"));
            run(&format!("ip link set {name}v{host} master {name} up"));
            run(&format!("ip -n {space} addr add {}/24 dev eth0", address.ip()));
            run(&format!("ip -n {space} link set eth0 up"));
            run(&format!("ip -n {space} link set lo up"));
            run(&format!("ip netns exec {space} nft add table inet faults"));
            run(&format!(
                "ip netns exec {space} nft add chain inet faults in {{ type filter hook input priority 0; }}"
            ));
        }
        network
    }

    fn space(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    fn address(&self, host: usize) -> SocketAddr {
        SocketAddr::from(([10, 213, self.net, host as u8 + 1], 7_447))
    }

    /// Lets this host drop what comes from that one, as the rest of the rule says.
    fn fault(&self, host: usize, from: usize, how: &str) {
        let rule = format!("inet faults in ip saddr {} {how}", self.address(from).ip());
        run(&format!("ip netns exec {} nft add rule {rule}", self.space(host)));
    }

    /// Every packet between two nodes is lost, both ways.
    fn part(&self, one: usize, other: usize) {
        self.fault(one, other, "drop");
        self.fault(other, one, "drop");
    }

    fn heal(&self) {
        for host in 0..self.hosts {
            run(&format!("ip netns exec {} nft flush chain inet faults in", self.space(host)));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // A namespace lives on as long as sockets in it do: the link would too.
            tried(&format!("ip link del {}v{host}", self.name));
            tried(&format!("ip netns del {}", self.space(host)));
        }
        tried(&format!("ip link del {}", self.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, iproute2 and nftables: scripts/test --full"]
async fn networks_that_part_and_lose_a_third_of_all_packets_keep_nodes_from_nothing() {
    let network = Network::new(3);
    let nodes: Vec<SocketAddr> = (0..3).map(|host| network.address(host)).collect();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let _processes: Vec<Process> = (0..3)
        .map(|host| {
            let mut config = NodeConfig::loopback();
            config.listen = nodes[host];
            config.data = Some(folders[host].path().to_owned());
            config.sync_interval = 1;
            config.limits.events_per_second = 1_000_000;
            config.limits.requests_per_second = 1_000_000;
            config.peers =
                nodes.iter().filter(|node| **node != nodes[host]).map(|node| format!("http://{node}")).collect();
            let program = this_program("processes::child");
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &network.space(host)]).arg(program.get_program()).args(program.get_args());
            command.stdin(Stdio::null());
            let mut process = Process::start_in_real_time(command, &config);
            assert_eq!(process.address(), nodes[host]);
            process
        })
        .collect();
    let mut all = acknowledged(nodes[0], 100).await;
    alike(&nodes, all.len(), PATIENCE).await;

    // One apart from the two others, each of which goes on.
    network.part(0, 1);
    network.part(0, 2);
    let (here, there) = (acknowledged(nodes[0], 200).await, acknowledged(nodes[1], 200).await);
    all.extend(acknowledged(nodes[2], 200).await);
    alike(&nodes[1..], all.len() + there.len(), PATIENCE).await;
    assert!(held(nodes[0], &there).await.is_empty() && held(nodes[1], &here).await.is_empty(), "they are apart");
    all.extend(here.into_iter().chain(there));
    network.heal();
    alike(&nodes, all.len(), Duration::from_secs(150)).await;

    // One way alone: requests arrive, and answers do not.
    network.fault(0, 1, "drop");
    all.extend(acknowledged(nodes[0], 200).await);
    all.extend(acknowledged(nodes[1], 200).await);
    network.heal();
    alike(&nodes, all.len(), Duration::from_secs(150)).await;

    // A third of everything between the nodes.
    for (host, from) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        network.fault(host, from, "numgen random mod 100 < 30 drop");
    }
    for node in &nodes {
        all.extend(acknowledged(*node, 200).await);
    }
    alike(&nodes, all.len(), Duration::from_secs(150)).await;
    network.heal();
    for node in nodes {
        assert_eq!(held(node, &all).await, all);
    }
}
