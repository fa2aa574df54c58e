//! What stands under `deploy/`, replayed without a container engine, systemd or those hosts: commands, variables and checks
//! are taken out of the files and run as processes.
#![cfg(unix)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::Home;
use serde_json::Value;

/// The program that the image has as `talkbox`.
const PROGRAM: &str = env!("CARGO_BIN_EXE_talkbox");
/// The folder of the store in the image and in the unit.
const VOLUME: &str = "/var/lib/talkbox";
/// Longer than anything takes here; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn file(name: &str) -> String {
    fs::read_to_string(path(name)).expect(name)
}

/// The rest of the one line that begins so.
fn line<'a>(text: &'a str, start: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(start));
    let found = lines.next().unwrap_or_else(|| panic!("no line begins with {start:?}"));
    found.trim()
}

fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).expect("a list")
}

/// The variables of the image.
fn image_variables() -> BTreeMap<String, String> {
    let of = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    line(&file("Dockerfile"), "ENV ").split_whitespace().map(|pair| of(pair).expect("a variable")).collect()
}

/// A service of the compose file.
struct Service {
    name: String,
    /// Its port on the machine of whoever runs it.
    published: u16,
    /// Its variables, where those that they refer to are not set.
    variables: BTreeMap<String, String>,
}

/// The services of the compose file.
fn services() -> Vec<Service> {
    let text = file("compose.3nodes.yml");
    let (_, services) = text.split_once("\nservices:\n").expect("services");
    let (services, _) = services.split_once("\nvolumes:\n").expect("volumes");
    let mut all: Vec<Service> = Vec::new();
    for line in services.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        if line.starts_with("  ") && !line.starts_with("   ") {
            all.push(Service { name: name.to_owned(), published: 0, variables: BTreeMap::new() });
        } else if name == "ports" {
            let ports = words(value.trim());
            let (outside, inside) = ports[0].split_once(':').expect("two ports");
            assert_eq!((ports.len(), inside), (1, "7447"));
            all.last_mut().expect("a service").published = outside.parse().expect("a port");
        } else if name.starts_with("TALKBOX_") {
            let variables = &mut all.last_mut().expect("a service").variables;
            variables.insert(name.to_owned(), by_default(value.trim()).to_owned());
        }
    }
    all
}

/// What `${NAME:-this}` gives where the variable is not set.
fn by_default(value: &str) -> &str {
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.map_or(value, |inner| inner.split_once(":-").expect("a default").1)
}

/// Passes connections on, as the engine does from a port that it publishes. The port.
fn publish(inside: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            // The node may have ended.
            let Ok(node) = TcpStream::connect(("127.0.0.1", inside)) else { continue };
            for (from, to) in [(&client, &node), (&node, &client)] {
                let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                std::thread::spawn(move || {
                    let _broken = std::io::copy(&mut from, &mut to);
                    let _closed = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    port
}

/// A port that is free now.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// The words of a command that no shell reads: what stands in single quotes is one, and nothing is expanded.
fn exec_form(command: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (at, part) in command.split('\'').enumerate() {
        if at % 2 == 1 {
            all.push(part.to_owned());
        } else {
            all.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
    }
    all
}

/// A folder in which `talkbox` is the program, for a path to look in.
fn programs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(PROGRAM, folder.path().join("talkbox")).expect("links");
    std::os::unix::fs::symlink(path("as-talkbox").canonicalize().expect("is there"), folder.path().join("as-talkbox"))
        .expect("links");
    folder
}

fn search_path(programs: &Path) -> String {
    format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"))
}

/// A process that is asked to end when the test does.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.expect("starts"))
    }

    /// Waits until it listens.
    fn listens(&mut self) {
        let mut told = String::new();
        let mut out = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        out.read_line(&mut told).expect("reads");
        if !told.starts_with("listening on ") {
            let mut why = String::new();
            self.0.stderr.take().expect("piped").read_to_string(&mut why).expect("reads");
            panic!("{told}{why}");
        }
    }

    /// Asks it to end, as container engines and systemd do; how it ended.
    fn stop(mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        assert!(sent.expect("runs").success());
        self.0.wait().expect("ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The body of what is served there, with status 200.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").as_bytes())
        .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

#[test]
fn the_compose_file_gives_three_nodes_that_hold_the_same() {
    let services = services();
    let ports: BTreeMap<&str, u16> = services.iter().map(|service| (service.name.as_str(), port())).collect();
    let published: BTreeMap<u16, u16> =
        services.iter().map(|service| (service.published, publish(ports[service.name.as_str()]))).collect();
    assert_eq!(published.len(), 3, "each has a port of its own");
    let here = |url: &str| {
        let url = ports.iter().fold(url.to_owned(), |url, (name, port)| {
            url.replace(&format!("//{name}:7447"), &format!("//127.0.0.1:{port}"))
        });
        published.iter().fold(url, |url, (named, port)| {
            url.replace(&format!("//localhost:{named}"), &format!("//localhost:{port}"))
        })
    };
    let (folder, programs) = (tempfile::tempdir().expect("a directory"), programs());
    let image = file("Dockerfile");
    let entry = words(
        image
            .lines()
            .rfind(|line| line.starts_with("ENTRYPOINT") && !line.contains("as-"))
            .map_or_else(|| panic!("no entry point"), |line| line.trim_start_matches("ENTRYPOINT")),
    );
    let environment = |name: &str, own: &BTreeMap<String, String>| {
        let mut all = image_variables();
        all.extend(own.iter().map(|(name, value)| (name.clone(), here(value))));
        assert_eq!(all["TALKBOX_NODE_LISTEN"], "0.0.0.0:7447", "what the image exposes");
        assert_eq!(all["TALKBOX_NODE_DATA"], VOLUME);
        all.insert("TALKBOX_NODE_LISTEN".to_owned(), format!("127.0.0.1:{}", ports[name]));
        all.insert("TALKBOX_NODE_DATA".to_owned(), folder.path().join(name).display().to_string());
        all.insert("PATH".to_owned(), search_path(programs.path()));
        all
    };
    let mut nodes: Vec<Running> = services
        .iter()
        .map(|Service { name, variables: own, .. }| {
            let mut command = Command::new(programs.path().join(&entry[0]));
            command.args(&entry[1..]).env_clear().envs(environment(name, own)).env("HOME", folder.path());
            Running::start(&mut command)
        })
        .collect();
    assert_eq!(nodes.len(), 3);
    nodes.iter_mut().for_each(Running::listens);

    let url = |name: &str| format!("http://127.0.0.1:{}", ports[name]);
    // A client on the machine knows the ports that are published, and no others.
    let outside = |service: &Service| format!("http://localhost:{}", published[&service.published]);
    let home = Home::with_nodes(
        &services.iter().map(outside).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
    );
    home.run(["new", "--plain-key"]).success();
    home.run(["send", &home.code(), "to all three"]).success();
    assert_eq!(home.bodies(), ["to all three"]);
    let begun = Instant::now();
    loop {
        // Exit code 0 says that all hold the same, and the message is more than nothing.
        let ran = home.run(["node", "verify", "--all", "--url", &url("ap1"), "--json"]);
        let events = ran.objects().first().and_then(|object| object["nodes"][0]["events"].as_u64());
        if ran.code == Some(0) && events > Some(0) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}{}", ran.stdout, ran.stderr);
        std::thread::sleep(Duration::from_millis(50));
    }
    let health = line(&image, "HEALTHCHECK").split_once(" CMD ").expect("a command").1;
    for Service { name, variables: own, .. } in &services {
        let mut check = Command::new("sh");
        let check = check.args(["-c", health]).env_clear().envs(environment(name, own));
        let check = check.env("HOME", folder.path()).output().expect("runs");
        assert!(check.status.success(), "{name}: {}", String::from_utf8_lossy(&check.stderr));
    }
    for node in nodes {
        assert_eq!(node.stop(), Some(0));
    }
    for Service { name, .. } in &services {
        assert!(folder.path().join(name).join("node.sqlite3").is_file(), "{name}");
    }
}

#[test]
fn the_unit_starts_a_node_and_hears_when_it_is_ready_and_when_it_ends() {
    let unit = file("talkbox-node.service");
    // What the head of the file says, in a folder of its own: none of the others is there before.
    let root = tempfile::tempdir().expect("a directory");
    for step in unit.lines().filter_map(|line| line.trim_start_matches('#').trim().strip_prefix("install ")) {
        let words =
            step.replace("target/release/talkbox", PROGRAM).replace("deploy/", &format!("{}/", path("").display()));
        let (from, to) = words.rsplit_once(" /").expect("from and to");
        // What every system has.
        for folder in ["usr/local/bin", "etc/systemd/system"] {
            fs::create_dir_all(root.path().join(folder)).expect("makes");
        }
        let installed = Command::new("install").args(from.split_whitespace()).arg(root.path().join(to)).status();
        assert!(installed.expect("runs").success(), "{step}");
    }
    assert!(root.path().join("etc/talkbox/node.toml").is_file());
    assert_eq!(line(&unit, "Type="), "notify");
    assert_eq!(format!("/var/lib/{}", line(&unit, "StateDirectory=")), VOLUME);
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data");
    let command = line(&unit, "ExecStart=")
        .replace("/usr/local/bin/talkbox", PROGRAM)
        .replace("/etc/talkbox/node.toml", &path("node.toml").display().to_string())
        .replace(VOLUME, &data.display().to_string());
    let mut command = command.split_whitespace().collect::<Vec<_>>();
    // The port of the settings may be taken here.
    command.extend(["--listen", "127.0.0.1:0"]);
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("binds");
    manager.set_read_timeout(Some(PATIENCE)).expect("sets");
    let heard = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).expect("hears");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut process = Command::new(command[0]);
    let process = process.args(&command[1..]).env_clear().env("NOTIFY_SOCKET", &socket).env("HOME", folder.path());
    let mut node = Running::start(process);
    node.listens();
    assert_eq!(heard(), "READY=1\n");
    assert!(data.join("node.sqlite3").is_file());
    let stopping = std::thread::spawn(move || node.stop());
    assert_eq!(heard(), "STOPPING=1\n");
    assert_eq!(stopping.join().expect("ends"), Some(0));
}

#[test]
fn a_host_behind_a_proxy_starts_the_image_and_finds_it_alive() {
    let (folder, programs) = (tempfile::tempdir().expect("a directory"), programs());
    let railway: Value = serde_json::from_str(&file("railway.json")).expect("JSON");
    let deploy = &railway["deploy"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    assert!(path("..").join(text(&railway["build"]["dockerfilePath"])).is_file());
    // As whoever runs the test: what the script does for root has its own test.
    let start =
        text(&deploy["startCommand"]).replace("as-talkbox ", "").replace(VOLUME, &folder.path().display().to_string());
    let port = port();
    let words = exec_form(&start.replace("0.0.0.0:", "127.0.0.1:"));
    let mut command = Command::new(&words[0]);
    let command = command.args(&words[1..]).env("PORT", port.to_string()).env("PATH", search_path(programs.path()));
    let mut node = Running::start(command.env("HOME", folder.path()));
    node.listens();
    assert_eq!(get(port, &text(&deploy["healthcheckPath"])), "ok\n");
    assert_eq!(node.stop(), Some(0));

    let fly: toml::Table = toml::from_str(&file("fly.toml")).expect("TOML");
    let stage = fly["build"]["build-target"].as_str().expect("a stage");
    assert!(file("Dockerfile").contains(&format!(" AS {stage}\n")));
    assert_eq!(fly["mounts"]["destination"].as_str(), Some(VOLUME));
    assert_eq!(fly["env"]["TALKBOX_NODE_DATA"].as_str(), Some(VOLUME));
    let port = self::port();
    let mut command = Command::new(PROGRAM);
    for (name, value) in fly["env"].as_table().expect("variables") {
        command.env(name, value.as_str().expect("text"));
    }
    assert_eq!(fly["http_service"]["internal_port"].as_integer(), Some(7447));
    let command = command.arg("node").env("TALKBOX_NODE_LISTEN", format!("127.0.0.1:{port}"));
    let command = command.env("TALKBOX_NODE_DATA", folder.path()).env("HOME", folder.path());
    let mut node = Running::start(command);
    node.listens();
    for check in fly["http_service"]["checks"].as_array().expect("checks") {
        assert_eq!(get(port, check["path"].as_str().expect("a path")), "ok\n");
    }
    assert_eq!(node.stop(), Some(0));
}

/// Needs root, as the hosts that it is for.
#[test]
fn a_volume_of_root_is_given_to_the_user_who_then_runs_the_node() {
    let folder = tempfile::tempdir().expect("a directory");
    if fs::metadata(folder.path()).expect("is there").uid() != 0 {
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("skipped: this needs root");
        }
        return;
    }
    // What others may enter and run.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("sets");
    let (volume, program) = (folder.path().join("volume"), folder.path().join("talkbox"));
    fs::create_dir(&volume).expect("makes");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o700)).expect("sets");
    fs::copy(PROGRAM, &program).expect("copies");
    // That of root, into which nobody else may look.
    let home = folder.path().join("root");
    fs::create_dir(&home).expect("makes");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("sets");
    let mut command = Command::new(path("as-talkbox"));
    let command = command.arg(&program).args(["node", "--listen", "127.0.0.1:0"]);
    let mut node = Running::start(command.env("TALKBOX_NODE_DATA", &volume).env("HOME", &home));
    node.listens();
    let status = fs::read_to_string(format!("/proc/{}/status", node.0.id()));
    if let Ok(status) = status {
        assert_eq!(line(&status, "Uid:").split_whitespace().collect::<Vec<_>>(), ["10001"; 4]);
    }
    let store = fs::metadata(volume.join("node.sqlite3")).expect("is there");
    assert_eq!((store.uid(), fs::metadata(&volume).expect("is there").uid()), (10001, 10001));
    assert_eq!(node.stop(), Some(0));
}
