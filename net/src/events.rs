//! Server-sent events, by the rules of the WHATWG's HTML standard (§9.2, "server-sent events"), with bounds.
//!
//! The field `retry` is passed over: how long to wait before asking again is for whoever asks.

use std::mem;

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use talkbox_core::{Error, ErrorKind, Result};

use crate::http::Chunks;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// The last id that was sent, with this event or before it: what `Last-Event-ID` says to go on from here. Empty where
    /// there was none.
    pub id: String,
    /// What kind of event it is; `message` where it was not said.
    pub event: String,
    /// The data; its lines are joined by line feeds.
    pub data: String,
}

/// How large events may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Most bytes of one line.
    pub max_line: usize,
    /// Most bytes of the data of one event.
    pub max_event: usize,
}

/// The events in a body.
///
/// What comes after the last empty line is no event: it broke off.
///
/// # Errors
/// Those of the body; `TooLarge` for a line or an event over its bound. It ends after the first one.
///
/// ```
/// use futures_util::{StreamExt as _, TryStreamExt as _, stream};
/// use talkbox_net::{EventLimits, events};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let body = stream::iter([Ok("id: 7\nda".into()), Ok("ta: one\ndata: two\n\n".into())]).boxed();
/// let found: Vec<_> = events(body, EventLimits { max_line: 1_024, max_event: 4_096 }).try_collect().await?;
/// assert_eq!((found[0].id.as_str(), found[0].event.as_str(), found[0].data.as_str()), ("7", "message", "one\ntwo"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn events(chunks: Chunks, limits: EventLimits) -> impl Stream<Item = Result<ServerEvent>> + Send + Unpin + 'static {
    let reading = Reading { chunks, chunk: Bytes::new(), parser: Parser::new(limits) };
    stream::try_unfold(reading, async |mut reading: Reading| Ok(reading.next().await?.map(|event| (event, reading))))
        .boxed()
}

struct Reading {
    chunks: Chunks,
    /// What is left of the last one.
    chunk: Bytes,
    parser: Parser,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<ServerEvent>> {
        loop {
            if let Some(event) = self.parser.next(&mut self.chunk)? {
                return Ok(Some(event));
            }
            match self.chunks.next().await {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(None),
            }
        }
    }
}

/// Where reading has got to. It takes bytes as they come, whatever their borders.
struct Parser {
    limits: EventLimits,
    /// What has come of the line.
    line: Vec<u8>,
    /// The next line is the first: a byte order mark is no part of it.
    at_start: bool,
    /// The line ended with CR: an LF after it is no further end.
    after_cr: bool,
    /// The event so far; each line of its data ends with LF.
    event: ServerEvent,
}

impl Parser {
    fn new(limits: EventLimits) -> Self {
        Self { limits, line: Vec::new(), at_start: true, after_cr: false, event: ServerEvent::default() }
    }

    /// The next event of a chunk, of which the rest stays; `None` where all of it is read.
    fn next(&mut self, chunk: &mut Bytes) -> Result<Option<ServerEvent>> {
        while !chunk.is_empty() {
            if mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
                chunk.advance(1);
                continue;
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let part = chunk.split_to(end.unwrap_or(chunk.len()));
            if part.len() > self.limits.max_line - self.line.len() {
                return Err(too_large("a line", self.limits.max_line));
            }
            self.line.extend_from_slice(&part);
            if end.is_some() {
                self.after_cr = chunk.get_u8() == b'\r';
                let line = mem::take(&mut self.line);
                if let Some(event) = self.end_of_line(&line)? {
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }

    fn end_of_line(&mut self, mut line: &[u8]) -> Result<Option<ServerEvent>> {
        if mem::take(&mut self.at_start) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_of_event());
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.event),
            "data" => {
                if value.len() >= self.limits.max_event.saturating_sub(self.event.data.len()) {
                    return Err(too_large("an event", self.limits.max_event));
                }
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.event.id),
            // Comments, which keep the connection alive, and what is not known.
            _ => {}
        }
        Ok(None)
    }

    fn end_of_event(&mut self) -> Option<ServerEvent> {
        let next = ServerEvent { id: self.event.id.clone(), ..ServerEvent::default() };
        let mut event = mem::replace(&mut self.event, next);
        // Without data there was no event.
        event.data.pop()?;
        if event.event.is_empty() {
            "message".clone_into(&mut event.event);
        }
        Some(event)
    }
}

fn too_large(what: &'static str, most: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("{what} of the answer is larger than {most} bytes"))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, TryStreamExt as _};
    use proptest::prelude::*;

    use super::*;

    const LIMITS: EventLimits = EventLimits { max_line: 100, max_event: 200 };

    /// Each chunk is there when it is asked for, so that nothing is waited for.
    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ServerEvent>> {
        let chunks: Vec<_> = chunks.into_iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        events(stream::iter(chunks).boxed(), LIMITS).try_collect().now_or_never().expect("nothing to wait for")
    }

    fn event(id: &str, event: &str, data: &str) -> ServerEvent {
        ServerEvent { id: id.to_owned(), event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn the_examples_of_the_standard() {
        for (body, expected) in [
            ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![event("", "message", "YHOO\n+2\n10")]),
            (
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                vec![
                    event("1", "message", "first event"),
                    event("", "message", "second event"),
                    event("", "message", " third event"),
                ],
            ),
            ("data\n\ndata\ndata\n\ndata:", vec![event("", "message", ""), event("", "message", "\n")]),
            ("data:test\n\ndata: test\n\n", vec![event("", "message", "test"), event("", "message", "test")]),
        ] {
            assert_eq!(read([body.as_bytes()]).expect("reads"), expected, "{body:?}");
        }
    }

    #[test]
    fn fields_and_ends_of_lines() {
        for (body, expected) in [
            ("\u{feff}data: a\n\n", vec![event("", "message", "a")]),
            ("\u{feff}\u{feff}data: a\n\ndata: b\n\n", vec![event("", "message", "b")]),
            ("data: a\r\rdata: b\r\n\r\ndata: c\n\r\n", {
                vec![event("", "message", "a"), event("", "message", "b"), event("", "message", "c")]
            }),
            ("event: mail\ndata: a\n\ndata: b\n\n", vec![event("", "mail", "a"), event("", "message", "b")]),
            ("event: mail\n\ndata: b\n\n", vec![event("", "message", "b")]),
            ("id: 5\n\ndata: b\n\n", vec![event("5", "message", "b")]),
            ("id: 5\ndata: a\n\nid: 6\0\ndata: b\n\n", vec![event("5", "message", "a"), event("5", "message", "b")]),
            ("retry: 10\nDATA: a\n data: a\nother: a\ndata: : b\n\n", vec![event("", "message", ": b")]),
            ("data: broke off\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(read([body.as_bytes()]).expect("reads"), expected, "{body:?}");
        }
        assert_eq!(read([&b"data: \xff\n\n"[..]]).expect("reads"), [event("", "message", "\u{fffd}")]);
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let line = |length: usize| format!("data:{}\n", "x".repeat(length - 5));
        assert_eq!(read([format!("{}\n", line(100)).as_bytes()]).expect("just fits").len(), 1);
        let two_lines = format!("{}{}\n", line(100), line(100));
        assert_eq!(read([two_lines.as_bytes()]).expect("fits").len(), 1);
        for (body, words) in [
            (line(101), "a line"),
            ("x".repeat(101), "a line"),
            (format!(":{}", "x".repeat(1_000)), "a line"),
            (line(100).repeat(3), "an event"),
            ("data\n".repeat(201), "an event"),
        ] {
            let error = read([body.as_bytes()]).expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.message().starts_with(words), "{error}");
            let error = read(body.as_bytes().chunks(1)).expect_err("too large in pieces, too");
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
    }

    #[test]
    fn an_event_is_there_before_the_line_feed_that_may_follow() {
        let chunks = stream::iter([Ok("data: a\r\r".into())]).chain(stream::pending()).boxed();
        let mut events = events(chunks, LIMITS);
        let first = events.next().now_or_never().expect("does not wait").expect("an event");
        assert_eq!(first.expect("reads"), event("", "message", "a"));
    }

    #[test]
    fn an_error_of_the_body_ends_it() {
        let broken = Err(Error::new(ErrorKind::Unreachable, "broke off"));
        let chunks = stream::iter([Ok("data: a\n\n".into()), broken, Ok("data: b\n\n".into())]).boxed();
        let found: Vec<_> = events(chunks, LIMITS).collect().now_or_never().expect("nothing to wait for");
        assert!(matches!(&found[..], [Ok(_), Err(error)] if error.kind() == ErrorKind::Unreachable));
    }

    proptest! {
        #[test]
        fn borders_of_chunks_change_nothing(
            parts in prop::collection::vec(
                prop::sample::select(vec!["\r", "\n", "\r\n", "data", "id", "event", ":", " ", "ü", "\u{feff}", "x", "\0"]),
                0..60,
            ),
            borders in prop::collection::vec(0_usize..200, 0..20),
        ) {
            let body = parts.concat().into_bytes();
            let mut borders: Vec<_> = borders.into_iter().map(|at| at.min(body.len())).collect();
            borders.extend([0, body.len()]);
            borders.sort_unstable();
            let chunks = borders.windows(2).map(|border| &body[border[0]..border[1]]);
            let (whole, pieces) = (read([&body[..]]), read(chunks));
            match (whole, pieces) {
                (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
                (whole, pieces) => prop_assert_eq!(whole.is_err(), pieces.is_err()),
            }
        }
    }
}
