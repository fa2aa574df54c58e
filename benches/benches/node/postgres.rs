//! PostgreSQL as Debian has it, with a store of its own: durable, one table, one index beside the primary key. It checks
//! nothing of what it is given, so that it is the floor of "store and read".

use std::{
    fs, io,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use talkbox_core::event::Wire;
use tokio_postgres::{Client, NoTls, Statement};

use crate::servers::{Server, any_port};

/// Where Debian puts its versions.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whom it runs as: it refuses to be root.
const USER: &str = "postgres";
const SCHEMA: &str = "CREATE TABLE event (id bytea PRIMARY KEY, mailbox bytea NOT NULL, created_at bigint NOT NULL,
                                          body bytea NOT NULL);
                      CREATE INDEX ON event (mailbox, created_at);";
const INSERT: &str = "INSERT INTO event VALUES ($1, $2, $3, $4)";
const INSERT_MANY: &str = "INSERT INTO event SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[])";
const QUERY: &str = "SELECT body FROM event WHERE mailbox = $1 ORDER BY created_at DESC LIMIT 500";

/// A server and a connection to it.
pub(crate) struct Postgres {
    pub(crate) server: Server,
    client: Client,
    insert: Statement,
    query: Statement,
}

impl Postgres {
    /// Starts it with a new store; `None` where it is not installed.
    pub(crate) async fn start() -> io::Result<Option<Self>> {
        let Some(binaries) = binaries() else { return Ok(None) };
        let (folder, address) = (tempfile::tempdir()?, any_port()?);
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let mut initdb = as_user(&binaries.join("initdb"), &[folder.path(), &data])?;
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
        if !initdb.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            return Err(io::Error::other("initdb failed"));
        }
        let mut postgres = as_user(&binaries.join("postgres"), &[])?;
        postgres.arg("-D").arg(&data).args(["-c", "fsync=on", "-c", "synchronous_commit=on"]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={}", address.port())]);
        postgres.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
        let server = Server::spawn(postgres, folder, address)?;
        let settings = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", address.port());
        let (client, connection) = loop {
            match tokio_postgres::connect(&settings, NoTls).await {
                Ok(connected) => break connected,
                // It listens before it is ready.
                Err(error) if error.as_db_error().is_some() => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return Err(io::Error::other(error)),
            }
        };
        tokio::spawn(connection);
        client.batch_execute(SCHEMA).await.map_err(io::Error::other)?;
        let insert = client.prepare(INSERT).await.map_err(io::Error::other)?;
        let query = client.prepare(QUERY).await.map_err(io::Error::other)?;
        Ok(Some(Self { server, client, insert, query }))
    }

    /// Why there is none.
    pub(crate) const fn why_none() -> &'static str {
        "no /usr/lib/postgresql: apt-get install postgresql"
    }

    /// Stores an event.
    pub(crate) async fn insert(&self, row: &Rowed) -> io::Result<()> {
        let Rowed { id, mailbox, created_at, body } = row;
        let stored = self.client.execute(&self.insert, &[id, mailbox, created_at, body]).await;
        stored.map(drop).map_err(io::Error::other)
    }

    /// Stores many.
    pub(crate) async fn fill(&self, events: &[String]) -> io::Result<()> {
        for events in events.chunks(1_000) {
            let rows: Vec<Rowed> = events.iter().map(|event| Rowed::new(event)).collect();
            let ids: Vec<&[u8]> = rows.iter().map(|row| &row.id[..]).collect();
            let mailboxes: Vec<&[u8]> = rows.iter().map(|row| &row.mailbox[..]).collect();
            let times: Vec<i64> = rows.iter().map(|row| row.created_at).collect();
            let bodies: Vec<&[u8]> = rows.iter().map(|row| &row.body[..]).collect();
            let stored = self.client.execute(INSERT_MANY, &[&ids, &mailboxes, &times, &bodies]).await;
            stored.map_err(io::Error::other)?;
        }
        // What comes after a burst is not what is measured.
        self.client.batch_execute("VACUUM ANALYZE event").await.map_err(io::Error::other)?;
        self.client.batch_execute("CHECKPOINT").await.map_err(io::Error::other)
    }

    /// The newest 500 of a mailbox: how many there are.
    pub(crate) async fn query(&self, mailbox: &[u8]) -> io::Result<usize> {
        self.client.query(&self.query, &[&mailbox]).await.map(|rows| rows.len()).map_err(io::Error::other)
    }
}

/// An event as a row of it.
pub(crate) struct Rowed {
    id: Vec<u8>,
    mailbox: Vec<u8>,
    created_at: i64,
    body: Vec<u8>,
}

impl Rowed {
    pub(crate) fn new(event: &str) -> Self {
        let wire = Wire::parse(event).expect("an event");
        let mailbox = wire.values("p").next().and_then(talkbox_core::hex::decode32).expect("a mailbox");
        Self {
            id: wire.id().as_bytes().to_vec(),
            mailbox: mailbox.to_vec(),
            created_at: i64::try_from(wire.created_at().secs()).expect("a time"),
            body: event.as_bytes().to_vec(),
        }
    }
}

/// The programs of the newest version that is installed.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(Path::new(VERSIONS).join(newest.to_string()).join("bin")).filter(|path| path.join("initdb").is_file())
}

/// A program to be run as somebody who is not root, whose these folders become.
fn as_user(program: &Path, folders: &[&Path]) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.current_dir("/").env_clear();
    if rustix::process::getuid().is_root() {
        let users = fs::read_to_string("/etc/passwd")?;
        let ours = users.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(":x:"));
        let mut numbers = ours.into_iter().flat_map(|line| line.split(':')).filter_map(|number| number.parse().ok());
        let (Some(user), Some(group)) = (numbers.next(), numbers.next()) else {
            return Err(io::Error::other("PostgreSQL refuses to be root, and there is no user postgres"));
        };
        folders.iter().try_for_each(|folder| chown(folder, Some(user), Some(group)))?;
        command.uid(user).gid(group);
    }
    Ok(command)
}
