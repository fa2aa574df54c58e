//! The load: events until they are acknowledged, over HTTP and over WebSockets.

use std::{io, net::SocketAddr, thread};

use crate::{
    http::{self, Http},
    websocket::{Socket, is_accepted, push_frame},
};

/// Events of one request: the most that a node takes.
pub(crate) const BATCH: usize = 256;
/// Connections over HTTP: while some wait for their receipts, the others keep the node busy.
pub(crate) const REQUESTERS: usize = 8;
/// WebSockets, and events that each has under way.
pub(crate) const SOCKETS: usize = 16;
pub(crate) const WINDOW: usize = 64;

/// Publishes over HTTP, in batches, and checks that all are acknowledged with receipts.
pub(crate) fn over_http(to: SocketAddr, batches: &[Vec<u8>], events: usize) -> io::Result<()> {
    let acknowledged = thread::scope(|scope| {
        let requesters: Vec<_> = (0..REQUESTERS)
            .map(|first| {
                scope.spawn(move || {
                    let (mut http, mut stored) = (Http::connect(to)?, 0);
                    for batch in batches.iter().skip(first).step_by(REQUESTERS) {
                        let answer = http.ask(batch)?;
                        let lines = answer.lines().filter(|line| line.contains("\"status\":\"stored\"")).count();
                        if lines > 0 && !answer.contains("\"kind\":1788") {
                            return Err(io::Error::other("no receipt"));
                        }
                        stored += lines;
                    }
                    Ok(stored)
                })
            })
            .collect();
        requesters.into_iter().map(|it| it.join().expect("no panic")).sum::<io::Result<usize>>()
    })?;
    if acknowledged == events { Ok(()) } else { Err(io::Error::other(format!("{acknowledged} of {events} stored"))) }
}

/// The requests for these events.
pub(crate) fn batches(to: SocketAddr, events: &[String]) -> Vec<Vec<u8>> {
    let body = |events: &[String]| events.iter().fold(String::new(), |body, event| body + event + "\n");
    events.chunks(BATCH).map(|events| http::post(to, "/v1/envelopes", &body(events))).collect()
}

/// The frames for these events, and where each ends.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Frames {
    pub(crate) fn new(events: &[String]) -> Self {
        let mut frames = Self { bytes: Vec::new(), ends: vec![0] };
        for event in events {
            push_frame(&mut frames.bytes, &format!("[\"EVENT\",{event}]"));
            frames.ends.push(frames.bytes.len());
        }
        frames
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    pub(crate) fn some(&self, events: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[self.ends[events.start]..self.ends[events.end]]
    }
}

/// The same for each of the sockets.
pub(crate) fn frames(events: &[String]) -> Vec<Frames> {
    events.chunks(events.len().div_ceil(SOCKETS)).map(Frames::new).collect()
}

/// Publishes over WebSockets, each with a window of events that are not acknowledged yet.
pub(crate) fn over_websockets(to: SocketAddr, frames: &[Frames]) -> io::Result<()> {
    thread::scope(|scope| {
        let publishers: Vec<_> = frames.iter().map(|frames| scope.spawn(move || publish(to, frames))).collect();
        publishers.into_iter().try_for_each(|it| it.join().expect("no panic"))
    })
}

fn publish(to: SocketAddr, frames: &Frames) -> io::Result<()> {
    let mut socket = Socket::connect(to)?;
    let (mut sent, mut answered) = (0, 0);
    while answered < frames.len() {
        let until = frames.len().min(answered + WINDOW);
        if until > sent {
            socket.send(frames.some(sent..until))?;
            sent = until;
        }
        // All answers that are there make room for as many events, which go out in one write.
        loop {
            let message = socket.next()?;
            if is_accepted(message) {
                answered += 1;
            } else if message.starts_with("[\"OK\"") {
                return Err(io::Error::other(message.to_owned()));
            }
            if !socket.has_next() {
                break;
            }
        }
    }
    Ok(())
}
