//! HTTP over one connection that is kept, as cheap as the WebSocket beside it.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than any server takes for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::with_capacity(256 * 1024) })
    }

    /// Sends a request that was made before; the body of its answer, which has to be a success.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<&str> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let (body, end) = loop {
            self.read()?;
            if let Some(found) = body(&self.buffer)? {
                break found;
            }
        };
        while self.buffer.len() < end {
            self.read()?;
        }
        std::str::from_utf8(&self.buffer[body..end]).map_err(io::Error::other)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}

/// A request with a body, as bytes.
pub(crate) fn post(to: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A request without one.
pub(crate) fn get(to: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes()
}

/// Where the body of an answer is, once its head is there.
fn body(answer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(io::Error::other(String::from_utf8_lossy(answer).into_owned()));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((end + 4, end + 4 + length)))
}
