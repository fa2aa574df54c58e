//! Nodes as processes of their own, which can be killed: this same program, started again.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use talkbox_backend_gossip::node::{Node, NodeConfig, NodeContext};
use talkbox_core::ManualClock;

use crate::support::NOW;

/// The settings of the node that a child is to be, as JSON.
const CONFIG: &str = "TALKBOX_TEST_NODE";
/// Set where its clock is that of the system, and not the one of the tests.
const CLOCK: &str = "TALKBOX_TEST_CLOCK";

/// Not a test by itself: what the children do.
#[test]
fn child() {
    let Ok(config) = env::var(CONFIG) else { return };
    let config: NodeConfig = serde_json::from_str(&config).expect("settings");
    let context = match env::var_os(CLOCK) {
        Some(_) => NodeContext::default(),
        None => NodeContext::default().with_clock(ManualClock::new(NOW)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let node = Node::start(config, context).await.expect("the node starts");
        // On a line of its own: the test harness leaves the one that it is on unfinished.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nlistens on {}", node.addr()).and_then(|()| out.flush()).expect("the parent listens");
        drop(out);
        std::future::pending::<()>().await;
    });
}

/// A test of this program as a child, which only it does anything in.
pub(crate) fn this_program(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args([test, "--exact", "--nocapture", "--test-threads", "1"]).stdout(Stdio::piped()).stdin(Stdio::null());
    command
}

/// A node that is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(config: &NodeConfig) -> Self {
        Self::start_as(this_program("processes::child"), config)
    }

    /// By the clock of the system.
    pub(crate) fn start_in_real_time(mut command: Command, config: &NodeConfig) -> Self {
        command.env(CLOCK, "system");
        Self::start_as(command, config)
    }

    /// By another command.
    pub(crate) fn start_as(mut command: Command, config: &NodeConfig) -> Self {
        command.env(CONFIG, serde_json::to_string(config).expect("serialises")).stdout(Stdio::piped());
        Self(command.spawn().expect("starts"))
    }

    /// Where it listens, once it does.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let lines = BufReader::new(self.0.stdout.take().expect("piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("listens on ")?.parse().ok());
        address.expect("the child listens")
    }

    /// Where a WebSocket finds it, once it listens.
    pub(crate) fn url(&mut self) -> String {
        format!("ws://{}", self.address())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().expect("is running");
        self.0.wait().expect("ends");
    }
}
