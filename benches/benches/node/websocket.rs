//! A WebSocket that costs next to nothing, so that what is measured is the server: frames are made beforehand, many go out
//! in one write, and what comes is not copied.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use talkbox_core::{
    Clock as _, SecretKey, SystemClock,
    event::{Event, kind},
};

/// Longer than any server takes for anything here.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is read at once at first; it grows to the largest message.
const BUFFER: usize = 256 * 1024;

/// The request that makes a WebSocket of a connection. The key is an example of RFC 6455; whether the server hashes it right
/// is not the question here.
pub(crate) fn upgrade(to: SocketAddr) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A connection.
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer is not looked at yet.
    unread: std::ops::Range<usize>,
}

impl Socket {
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(to)?, to)
    }

    /// Makes a WebSocket of a connection.
    pub(crate) fn over(stream: TcpStream, to: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut socket = Self { stream, buffer: vec![0; BUFFER], unread: 0..0 };
        socket.send(upgrade(to).as_bytes())?;
        loop {
            socket.fill()?;
            let head = &socket.buffer[socket.unread.clone()];
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101") {
                    return Err(io::Error::other("no WebSocket"));
                }
                socket.unread.start += end + 4;
                return Ok(socket);
            }
        }
    }

    /// Connects to a node as the owner of a key.
    pub(crate) fn connect_as(to: SocketAddr, keys: &[&SecretKey]) -> io::Result<Self> {
        let mut socket = Self::connect(to)?;
        socket.authenticate(to, keys)?;
        Ok(socket)
    }

    /// Proves the keys.
    pub(crate) fn authenticate(&mut self, to: SocketAddr, keys: &[&SecretKey]) -> io::Result<()> {
        let greeting: Value = serde_json::from_str(self.next()?)?;
        let challenge = greeting[1].as_str().expect("a node begins with AUTH").to_owned();
        for key in keys {
            let tags = [["relay", &format!("ws://{to}")], ["challenge", &challenge]];
            let tags = tags.iter().map(|tag| tag.iter().map(|&word| word.to_owned()).collect()).collect();
            let event = Event::sign(key, SystemClock.now(), kind::RELAY_AUTH, tags, String::new());
            self.say(&format!("[\"AUTH\",{}]", event.to_json()))?;
            if !is_accepted(self.next()?) {
                return Err(io::Error::other("not authenticated"));
            }
        }
        Ok(())
    }

    /// Opens a subscription, and waits until it is live. How many events were stored.
    pub(crate) fn subscribe(&mut self, name: &str, filter: &Value) -> io::Result<usize> {
        self.say(&json!(["REQ", name, filter]).to_string())?;
        let mut stored = 0;
        loop {
            let message = self.next()?;
            if message.starts_with("[\"EVENT\"") {
                stored += 1;
            } else if message.starts_with("[\"EOSE\"") {
                return Ok(stored);
            } else if !message.starts_with("[\"AUTH\"") {
                return Err(io::Error::other(message.to_owned()));
            }
        }
    }

    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(text.len() + 14);
        push_frame(&mut bytes, text);
        self.send(&bytes)
    }

    /// Sends frames that were made before.
    pub(crate) fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames)
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> io::Result<&str> {
        loop {
            match frame(&self.buffer[self.unread.clone()]) {
                Some((is_text, content)) => {
                    let at = self.unread.start;
                    self.unread.start += content.end;
                    if is_text {
                        let bytes = &self.buffer[at + content.start..at + content.end];
                        return std::str::from_utf8(bytes).map_err(io::Error::other);
                    }
                }
                None => self.fill()?,
            }
        }
    }

    /// Whether a whole message has been read already.
    pub(crate) fn has_next(&self) -> bool {
        frame(&self.buffer[self.unread.clone()]).is_some()
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.unread.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread.end += read;
                Ok(())
            }
        }
    }
}

/// Whether this is an OK that says yes.
pub(crate) fn is_accepted(message: &str) -> bool {
    // The id is of 64 digits, so that nobody has to look for the end of it.
    message.starts_with("[\"OK\"") && message.get(72..).is_some_and(|rest| rest.starts_with(",true"))
}

/// Appends a frame with this text, masked by zeros: the mask that changes nothing.
pub(crate) fn push_frame(frames: &mut Vec<u8>, text: &str) {
    frames.push(0x81);
    match text.len() {
        short @ 0..126 => frames.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            frames.push(0x80 | 126);
            frames.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frames.push(0x80 | 127);
            frames.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(&[0; 4]);
    frames.extend_from_slice(text.as_bytes());
}

/// Whether the first frame is text, and where its content is; `None` where it is not whole.
fn frame(bytes: &[u8]) -> Option<(bool, std::ops::Range<usize>)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, head) = match second & 0x7f {
        126 => (u16::from_be_bytes(rest.get(..2)?.try_into().ok()?).into(), 4),
        127 => (usize::try_from(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    (bytes.len() >= head + length).then_some((first & 0x0f == 1, head..head + length))
}
