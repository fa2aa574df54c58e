//! A pinning service in this process: it does what the API says, or what a test says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use talkbox_net::Network;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::pinning::{HttpService, PinSettings, connections, services};

/// What every test's token begins with: it must be in no text that comes out of a test.
pub(super) const TOKEN: &str = "s3cr3t.token-value";

/// A question that came in.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) authorization: String,
    pub(super) body: Value,
}

/// What a test says is answered next.
#[derive(Clone, Debug)]
pub(super) enum Say {
    /// These bytes, and the end.
    Raw(Vec<u8>),
    /// Nothing at all, and no end either.
    Nothing,
    /// Does what is asked, and ends before it answers.
    DoneUnheard,
}

/// What a service has and does.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) pins: Vec<Value>,
    pub(super) asked: Vec<Asked>,
    pub(super) say: VecDeque<Say>,
    /// What a new pin is at first.
    pub(super) begins_as: &'static str,
    pub(super) delegates: Vec<String>,
    /// Most pins on a page, whatever is asked for.
    pub(super) page: usize,
    next: u32,
}

/// The service. It ends with this.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    inside: Arc<Mutex<Inside>>,
    task: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/base/psa", listener.local_addr().expect("bound"));
        let inside = Arc::new(Mutex::new(Inside {
            pins: Vec::new(),
            asked: Vec::new(),
            say: VecDeque::new(),
            begins_as: "queued",
            delegates: Vec::new(),
            page: 1000,
            next: 0,
        }));
        let shared = Arc::clone(&inside);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inside = Arc::clone(&shared);
                tokio::spawn(serve(stream, inside));
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        Self { url, inside, task, folder }
    }

    /// A client that knows the token.
    pub(super) fn client(&self) -> HttpService {
        self.client_with(TOKEN, "mock")
    }

    pub(super) fn client_with(&self, token: &str, name: &str) -> HttpService {
        let path = self.folder.path().join(name);
        std::fs::write(&path, token).expect("writes");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("sets");
        }
        let settings = json!({ "name": name, "endpoint": self.url, "token_file": path });
        let settings: PinSettings = serde_json::from_value(settings).expect("settings");
        let service = services(&[settings]).expect("valid").remove(0);
        HttpService::new(service, connections(Arc::new(Network::new(Duration::from_secs(10), None))))
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no test failed in it")
    }

    /// Answers the next question with this, whatever it is.
    pub(super) fn say(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let raw = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        self.inside().say.push_back(Say::Raw(raw.into_bytes()));
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inside().asked)
    }

    /// Methods and paths of what was asked since the last time, without the base.
    pub(super) fn routes(&self) -> Vec<String> {
        let route = |asked: Asked| format!("{} {}", asked.method, asked.path.trim_start_matches("/base/psa"));
        self.asked().into_iter().map(route).collect()
    }

    /// Says how far a request is from now on.
    pub(super) fn set(&self, id: &str, status: &str) {
        let mut inside = self.inside();
        let pin = inside.pins.iter_mut().find(|pin| pin["requestid"] == id).expect("a pin");
        pin["status"] = json!(status);
    }

    /// Its requests, with the CID of each.
    pub(super) fn pins(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.inside().pins.iter().map(|pin| (text(&pin["requestid"]), text(&pin["pin"]["cid"]))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, inside: Arc<Mutex<Inside>>) {
    let Some(asked) = read(&mut stream).await else { return };
    let (said, answer) = {
        let mut inside = inside.lock().expect("no test failed in it");
        inside.asked.push(asked.clone());
        let said = inside.say.pop_front();
        let answers = matches!(said, None | Some(Say::DoneUnheard));
        (said, answers.then(|| inside.answer(&asked)))
    };
    match (said, answer) {
        (Some(Say::Raw(bytes)), _) => {
            // Whoever hears enough hangs up.
            let _ = stream.write_all(&bytes).await;
        }
        (Some(Say::Nothing), _) => {
            let _ = stream.read(&mut [0; 1]).await;
        }
        (None, Some((status, body))) => {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
        _ => {}
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let header = |name: &str| {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        authorization: header("authorization").unwrap_or_default(),
        body: serde_json::from_slice(&bytes[end..]).unwrap_or_default(),
    })
}

impl Inside {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.authorization != format!("Bearer {TOKEN}") {
            // As rude as a service can be.
            let details = format!("no such token: {}", asked.authorization);
            return (401, json!({ "error": { "reason": "UNAUTHORIZED", "details": details } }));
        }
        let not_found = (404, json!({ "error": { "reason": "NOT_FOUND" } }));
        let Some(rest) = asked.path.strip_prefix("/base/psa/pins") else { return not_found };
        let at = |pins: &[Value]| pins.iter().position(|pin| pin["requestid"] == rest.trim_start_matches('/'));
        match (asked.method.as_str(), rest) {
            ("GET", "") => (200, self.list(&asked.query)),
            ("POST", "") => (202, self.add(&asked.body)),
            (method, _) => match (method, at(&self.pins)) {
                (_, None) => not_found,
                ("GET", Some(at)) => (200, self.pins[at].clone()),
                ("DELETE", Some(at)) => {
                    self.pins.remove(at);
                    (202, Value::Null)
                }
                ("POST", Some(at)) => {
                    self.pins.remove(at);
                    (202, self.add(&asked.body))
                }
                _ => (405, Value::Null),
            },
        }
    }

    pub(super) fn add(&mut self, pin: &Value) -> Value {
        self.next += 1;
        let status = json!({
            "requestid": format!("request-{}", self.next),
            "status": self.begins_as,
            "created": format!("2026-11-30T10:{:02}:{:02}.{:03}Z", self.next / 60, self.next % 60, self.next % 7),
            "pin": pin,
            "delegates": self.delegates,
            "info": { "status_details": format!("place {} in the queue", self.next) },
        });
        self.pins.push(status.clone());
        status
    }

    fn list(&self, query: &str) -> Value {
        let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let statuses = value("status").unwrap_or("pinned");
        let limit = value("limit").and_then(|text| text.parse().ok()).unwrap_or(10).min(self.page);
        let text = |pin: &Value, name: &str| pin[name].as_str().unwrap_or_default().to_owned();
        let matching: Vec<_> = self
            .pins
            .iter()
            .rev()
            .filter(|pin| {
                let has_status = statuses.split(',').any(|status| pin["status"] == status);
                let is_before = value("before").is_none_or(|before| text(pin, "created").as_str() < before);
                let has_cid = value("cid").is_none_or(|cids| cids.split(',').any(|cid| pin["pin"]["cid"] == cid));
                has_status && is_before && has_cid
            })
            .collect();
        let results: Vec<_> = matching.iter().take(limit).collect();
        json!({ "count": matching.len(), "results": results })
    }
}
