//! `shim.c` stands between the processes and their disk. It is the same for the node and for what has to fail it.

use std::{
    collections::HashSet,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use talkbox_backend_gossip::node::NodeConfig;
use tokio::task::JoinSet;

use crate::{
    kill::{Acknowledged, CLIENTS, publish, served},
    processes::{Process, this_program},
    support::{PATIENCE, key},
};

/// How a child of [`plain`] is to keep what it acknowledges, and where.
const SYNCHRONOUS: &str = "TALKBOX_TEST_SYNCHRONOUS";
const PLACE: &str = "TALKBOX_TEST_PLACE";

fn rounds(quick: usize, long: usize) -> usize {
    if env::var_os("TALKBOX_FULL").is_some() { long } else { quick }
}

/// A folder, and what is durable of it.
struct Disk {
    folder: tempfile::TempDir,
    kept: tempfile::TempDir,
    shim: PathBuf,
}

impl Disk {
    /// Compiles the shim. `None`, with a notice, where that is not possible.
    fn new(tools: &Path) -> Option<Self> {
        let shim = tools.join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/power/shim.c");
        let compiled =
            Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source).arg("-ldl").status();
        if !compiled.is_ok_and(|status| status.success()) {
            let _unseen = writeln!(std::io::stderr(), "skipped: there is no C compiler for the shim");
            return None;
        }
        let disk = Self {
            folder: tempfile::tempdir().expect("a directory"),
            kept: tempfile::tempdir().expect("a directory"),
            shim,
        };
        Some(disk)
    }

    /// Lets the command write to this disk. All that is there when it starts is durable.
    fn under(&self, command: &mut Command) {
        for kept in [self.kept(), self.contents()] {
            let _not_there = fs::remove_dir_all(&kept);
            fs::create_dir(&kept).expect("makes");
        }
        command.env("LD_PRELOAD", &self.shim);
        command.env("FOLDER", self.folder.path().canonicalize().expect("is there"));
        command.env("DURABLE", self.kept()).env("CONTENTS", self.contents());
    }

    fn kept(&self) -> PathBuf {
        self.kept.path().join("names")
    }

    fn contents(&self) -> PathBuf {
        self.kept.path().join("contents")
    }

    /// After the power has failed: what was not durable is gone.
    fn lose(&self) {
        for entry in fs::read_dir(self.folder.path()).expect("reads") {
            fs::remove_file(entry.expect("an entry").path()).expect("removes");
        }
        copy(&self.kept(), self.folder.path());
    }
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("reads") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_takes_nothing_that_was_acknowledged() {
    let tools = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::new(tools.path()) else { return };
    let owner = key();
    let (mut everything, mut identity) = (HashSet::new(), None);
    let (mut unsynced, least) = (0, rounds(10, 200));
    for round in 0..least * 5 {
        // On until it could have taken something.
        if round >= least && unsynced > 0 {
            break;
        }
        let mut config = NodeConfig::loopback();
        config.data = Some(disk.folder.path().to_owned());
        let mut command = this_program("processes::child");
        disk.under(&mut command);
        let mut child = Process::start_as(command, &config);
        let url = child.url();
        let (all, wanted) = (Arc::new(Acknowledged::default()), 20 + round * 37 % 300);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(publish(url.clone(), owner.clone(), wanted, Arc::clone(&all)));
        }
        tokio::time::timeout(PATIENCE, all.enough.notified()).await.expect("so many are acknowledged");
        // Any instant of a commit.
        tokio::time::sleep(Duration::from_micros(round as u64 * 1_237 % 9_000)).await;
        drop(child);
        let acknowledged: HashSet<String> = clients.join_all().await.into_iter().flatten().collect();
        unsynced += usize::from(differs(&disk));
        disk.lose();
        assert_eq!(served(disk.folder.path(), &owner, &acknowledged).await, acknowledged, "round {round}");
        everything.extend(acknowledged);
        let now = fs::read(disk.folder.path().join("node.key")).expect("the node has its key");
        assert_eq!(*identity.get_or_insert_with(|| now.clone()), now, "the node is who it was");
    }
    assert_eq!(served(disk.folder.path(), &owner, &everything).await, everything, "after all rounds");
    assert!(everything.len() > 200, "there was load: {}", everything.len());
    assert!(unsynced > 0, "the power took something: what nobody was told is kept");
    let mut notice = std::io::stderr().lock();
    let _unseen = writeln!(notice, "{} acknowledged, none lost; {unsynced} rounds lost something", everything.len());
}

/// Whether the folder has something that is not durable.
fn differs(disk: &Disk) -> bool {
    let read = |folder: &Path| fs::read(folder.join("node.sqlite3-wal")).ok();
    read(disk.folder.path()) != read(&disk.kept())
}

/// Not a test by itself: a child that acknowledges what it has committed to SQLite, as the node does, row by row.
#[test]
fn plain() {
    let (Ok(synchronous), Ok(place)) = (env::var(SYNCHRONOUS), env::var(PLACE)) else { return };
    let conn = rusqlite::Connection::open(Path::new(&place).join("rows")).expect("opens");
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         CREATE TABLE IF NOT EXISTS row (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB) STRICT;"
    ))
    .expect("opens");
    let mut out = std::io::stdout().lock();
    writeln!(out).expect("the parent listens");
    loop {
        conn.execute("INSERT INTO row (body) VALUES (zeroblob(500))", []).expect("commits");
        if writeln!(out, "acknowledged {}", conn.last_insert_rowid()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// How many rows it acknowledges, and how many of them are gone when the power has failed.
fn lost(synchronous: &str, rounds: usize) -> Option<(usize, usize)> {
    let tools = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(tools.path())?;
    let (mut acknowledged, mut lost) = (0, 0);
    for round in 0..rounds {
        let mut command = this_program("power::failing::plain");
        disk.under(&mut command);
        command.env(SYNCHRONOUS, synchronous).env(PLACE, disk.folder.path()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let rows = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok());
        let last = rows.take(50 + round * 61 % 200).last().expect("it acknowledges");
        child.kill().expect("is running");
        child.wait().expect("ends");
        disk.lose();
        let conn = rusqlite::Connection::open(disk.folder.path().join("rows")).expect("opens");
        let found = conn.query_row("SELECT coalesce(max(number), 0) FROM row", [], |row| row.get::<_, i64>(0));
        let found = found.unwrap_or(0);
        acknowledged += 50 + round * 61 % 200;
        lost += usize::try_from((last - found).max(0)).expect("a number");
    }
    Some((acknowledged, lost))
}

/// The test above proves nothing unless what is not durable fails it.
#[test]
fn the_same_disk_takes_what_sqlite_acknowledged_with_less_care() {
    let rounds = rounds(5, 25);
    let (Some((sure, kept)), Some((hoped, gone))) = (lost("FULL", rounds), lost("NORMAL", rounds)) else { return };
    assert_eq!(kept, 0, "of {sure} rows with FULL");
    assert!(gone > 0, "of {hoped} rows with NORMAL");
    let _unseen = writeln!(std::io::stderr(), "FULL: {kept} of {sure} lost; NORMAL: {gone} of {hoped} lost");
}
