//! A stream that says the name of a changing protocol to the peer, and [`NAMED`] to libp2p.
//!
//! Streams begin with multistream-select: messages of `length ‖ text ‖ "\n"`. The peer sends a header and then the name
//! that it wants; the header and the name come back where it is spoken. If the first name is an accepted one, it is
//! replaced by [`NAMED`] on the way in, followed by the name as the first bytes of the stream, and [`NAMED`] is replaced
//! by the name on the way out. Everything else goes through as it is, and so does every stream from there on.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{AsyncRead, AsyncWrite};

use super::names::{MAX_NAME, NAMED, Names};

/// What either side of a stream sends first.
const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
/// Bytes that the length of a message may take.
const MAX_LENGTH_BYTES: usize = 2;

/// A stream that is translated as long as it has to be.
#[derive(Debug)]
pub(super) struct Translated<S> {
    inner: S,
    /// Nothing once the stream goes through as it is.
    translation: Option<Box<Translation>>,
}

/// Where a translation is.
#[derive(Debug)]
struct Translation {
    names: Arc<Names>,
    reading: Reading,
    /// What was read of the message that is being read, and room for the rest that is wanted of it.
    message: Vec<u8>,
    filled: usize,
    /// What is handed on.
    ready: Vec<u8>,
    handed: usize,
    /// Bytes of our side's header that were not yet written.
    header_left: usize,
    answer: Answer,
}

/// What is read of the peer.
#[derive(Debug)]
enum Reading {
    Header,
    Length,
    Name,
    /// Everything goes through.
    Through,
}

/// What becomes of our side's answer.
#[derive(Debug)]
enum Answer {
    /// It goes through.
    AsItIs,
    /// These bytes are awaited, and nothing is written instead until they have come.
    Awaited { expected: Vec<u8>, taken: usize, instead: Vec<u8> },
    /// These are written before anything else.
    Instead { bytes: Vec<u8>, written: usize },
}

impl<S> Translated<S> {
    /// One that the peer opened.
    pub(super) fn inbound(inner: S, names: Arc<Names>) -> Self {
        let translation = Translation {
            names,
            reading: Reading::Header,
            message: vec![0; HEADER.len()],
            filled: 0,
            ready: Vec::new(),
            handed: 0,
            header_left: HEADER.len(),
            answer: Answer::AsItIs,
        };
        Self { inner, translation: Some(Box::new(translation)) }
    }

    /// One that we opened: nothing is translated.
    pub(super) fn plain(inner: S) -> Self {
        Self { inner, translation: None }
    }

    /// Ends the translation as soon as nothing is left to translate.
    fn settle(&mut self) {
        if self.translation.as_ref().is_some_and(|translation| translation.is_over()) {
            self.translation = None;
        }
    }
}

impl Translation {
    fn is_over(&self) -> bool {
        let is_read = matches!(self.reading, Reading::Through) && self.handed == self.ready.len();
        is_read && matches!(self.answer, Answer::AsItIs)
    }

    /// Hands on what is ready.
    fn hand_on(&mut self, buf: &mut [u8]) -> usize {
        let ready = &self.ready[self.handed..];
        let count = ready.len().min(buf.len());
        buf[..count].copy_from_slice(&ready[..count]);
        self.handed += count;
        count
    }

    /// Takes what was read of the peer; nothing is the end of the stream.
    fn take(&mut self, count: usize) {
        self.filled += count;
        if count == 0 {
            self.message.truncate(self.filled);
            return self.let_through();
        }
        if self.filled < self.message.len() {
            return;
        }
        match self.reading {
            Reading::Header if self.message == HEADER => {
                self.make_ready(HEADER.to_vec());
                self.expect(Reading::Length, 1);
            }
            Reading::Length => match length_of(&self.message) {
                Some(length) if length <= MAX_NAME + 1 => self.want(Reading::Name, length),
                None if self.filled < MAX_LENGTH_BYTES => self.want(Reading::Length, 1),
                _ => self.let_through(),
            },
            Reading::Name => match self.name() {
                Some(name) => self.translate(&name),
                None => self.let_through(),
            },
            Reading::Header | Reading::Through => self.let_through(),
        }
    }

    /// Begins with another message.
    fn expect(&mut self, reading: Reading, count: usize) {
        self.message.clear();
        self.filled = 0;
        self.want(reading, count);
    }

    /// Reads on in the same message.
    fn want(&mut self, reading: Reading, count: usize) {
        self.reading = reading;
        self.message.resize(self.filled + count, 0);
        if count == 0 {
            self.let_through();
        }
    }

    fn make_ready(&mut self, bytes: Vec<u8>) {
        self.ready.drain(..mem::take(&mut self.handed));
        self.ready.extend(bytes);
    }

    fn let_through(&mut self) {
        let message = mem::take(&mut self.message);
        self.make_ready(message);
        self.reading = Reading::Through;
    }

    /// The name that was read, if it is an accepted one.
    fn name(&self) -> Option<String> {
        let start = self.message.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let name = str::from_utf8(self.message.get(start..)?.strip_suffix(b"\n")?).ok()?;
        self.names.has(name).then(|| name.to_owned())
    }

    fn translate(&mut self, name: &str) {
        let known = message(NAMED);
        let length = u16::try_from(name.len()).expect("a name has at most 256 bytes");
        self.make_ready([&known, &length.to_be_bytes()[..], name.as_bytes()].concat());
        self.answer = Answer::Awaited { expected: known, taken: 0, instead: mem::take(&mut self.message) };
        self.reading = Reading::Through;
    }

    /// Takes what our side wrote instead of writing it.
    ///
    /// # Errors
    /// Where it is something other than the answer that is awaited.
    fn take_answer(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Answer::Awaited { expected, taken, instead } = &mut self.answer else { return Ok(0) };
        let rest = &expected[*taken..];
        let count = rest.len().min(buf.len());
        if rest[..count] != buf[..count] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a stream was not accepted by its name"));
        }
        *taken += count;
        if *taken == expected.len() {
            self.answer = Answer::Instead { bytes: mem::take(instead), written: 0 };
        }
        Ok(count)
    }
}

impl<S: AsyncWrite + Unpin> Translated<S> {
    /// Writes what is to be written before anything else.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(translation) = &mut self.translation else { return Poll::Ready(Ok(())) };
        if let Answer::Instead { bytes, written } = &mut translation.answer {
            while *written < bytes.len() {
                match ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[*written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => *written += count,
                }
            }
            translation.answer = Answer::AsItIs;
            self.settle();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Translated<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let Some(translation) = &mut this.translation else { return Pin::new(&mut this.inner).poll_read(cx, buf) };
            if translation.handed < translation.ready.len() {
                let count = translation.hand_on(buf);
                this.settle();
                return Poll::Ready(Ok(count));
            }
            if matches!(translation.reading, Reading::Through) {
                this.settle();
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            let room = &mut translation.message[translation.filled..];
            let count = ready!(Pin::new(&mut this.inner).poll_read(cx, room))?;
            translation.take(count);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Translated<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_answer(cx))?;
        let Some(translation) = &mut this.translation else { return Pin::new(&mut this.inner).poll_write(cx, buf) };
        if translation.header_left > 0 {
            let header = &buf[..buf.len().min(translation.header_left)];
            let count = ready!(Pin::new(&mut this.inner).poll_write(cx, header))?;
            translation.header_left -= count;
            return Poll::Ready(Ok(count));
        }
        match translation.answer {
            Answer::Awaited { .. } => Poll::Ready(translation.take_answer(buf)),
            Answer::AsItIs | Answer::Instead { .. } => Pin::new(&mut this.inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.translation.is_none() {
            return Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[][..], |buf| buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_answer(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_answer(cx))?;
        Pin::new(&mut this.inner).poll_close(cx)
    }
}

/// A message of multistream-select that says a name, shorter than 127 bytes.
fn message(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len() + 1).expect("our one name is short");
    [&[length][..], name.as_bytes(), b"\n"].concat()
}

/// The length that a message begins with, once it is whole.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let (last, more) = bytes.split_last()?;
    let is_whole = last & 0x80 == 0;
    let all = more.iter().chain([last]).enumerate();
    is_whole.then(|| all.fold(0, |length, (index, byte)| length | (usize::from(byte & 0x7f) << (7 * index))))
}

#[cfg(test)]
mod tests {
    use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    use super::*;

    const NAME: &str = "/orbitdb/heads/orbitdb/zdpuAxxx";

    /// The peer's end, and ours. So many bytes are under way at most.
    fn stream(accepted: &[&str], capacity: usize) -> (DuplexStream, Translated<Compat<DuplexStream>>) {
        let names = Names::default();
        accepted.iter().for_each(|name| names.add(name));
        let (theirs, ours) = duplex(capacity);
        (theirs, Translated::inbound(ours.compat(), Arc::new(names)))
    }

    async fn read(stream: &mut Translated<Compat<DuplexStream>>, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.expect("read");
        bytes
    }

    /// However the bytes arrive, and however late the peer says what it wants.
    #[tokio::test]
    async fn an_accepted_name_is_translated_both_ways() {
        for capacity in [1, 7, 1000] {
            let (mut theirs, mut ours) = stream(&[NAME], capacity);
            let peer = tokio::spawn(async move {
                theirs.write_all(HEADER).await.expect("write");
                let mut header = [0; HEADER.len()];
                theirs.read_exact(&mut header).await.expect("read");
                assert_eq!(header, HEADER);
                theirs.write_all(&message(NAME)).await.expect("write");
                let mut answer = vec![0; message(NAME).len()];
                theirs.read_exact(&mut answer).await.expect("read");
                assert_eq!(answer, message(NAME));
                theirs.write_all(b"data").await.expect("write");
                let mut rest = Vec::new();
                theirs.read_to_end(&mut rest).await.expect("read");
                assert_eq!(rest, b"more data");
            });
            assert_eq!(read(&mut ours, HEADER.len()).await, HEADER);
            ours.write_all(HEADER).await.expect("write");
            assert_eq!(read(&mut ours, message(NAMED).len()).await, message(NAMED));
            ours.write_all(&message(NAMED)).await.expect("write");
            ours.flush().await.expect("flush");
            let name = [&[0, u8::try_from(NAME.len()).expect("short")], NAME.as_bytes()].concat();
            assert_eq!(read(&mut ours, name.len()).await, name);
            assert_eq!(read(&mut ours, 4).await, b"data");
            assert!(ours.translation.is_none());
            ours.write_all(b"more data").await.expect("write");
            ours.close().await.expect("close");
            drop(ours);
            peer.await.expect("the peer's side");
        }
    }

    /// The header and the answer together, as libp2p writes them where the peer sent both at once.
    #[tokio::test]
    async fn an_answer_that_is_written_with_the_header_is_found() {
        let (mut theirs, mut ours) = stream(&[NAME], 1000);
        theirs.write_all(&[HEADER, &message(NAME)].concat()).await.expect("write");
        let known = [HEADER, &message(NAMED)].concat();
        assert_eq!(read(&mut ours, known.len()).await, known);
        ours.write_all(&known).await.expect("write");
        ours.flush().await.expect("flush");
        let mut answer = vec![0; HEADER.len() + message(NAME).len()];
        theirs.read_exact(&mut answer).await.expect("read");
        assert_eq!(answer, [HEADER, &message(NAME)].concat());
    }

    #[tokio::test]
    async fn another_answer_than_the_awaited_one_is_an_error() {
        let (mut theirs, mut ours) = stream(&[NAME], 1000);
        theirs.write_all(&[HEADER, &message(NAME)].concat()).await.expect("write");
        read(&mut ours, HEADER.len() + 1).await;
        ours.write_all(HEADER).await.expect("write");
        let error = ours.write_all(b"\x03na\n").await.expect_err("not awaited");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    /// Something like what a peer may send, broken in many ways.
    fn sent() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(HEADER.to_vec()),
            Just(b"\x03na\n".to_vec()),
            Just(message("/unknown/1")),
            Just(message(NAMED)),
            Just(NAME.as_bytes().to_vec()),
            Just(vec![0]),
            Just(vec![0xff, 0xff, 0x7f]),
            Just([&[0x90, 0x02][..], &[b'/'; 272]].concat()),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
        prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_no_accepted_name_goes_through_as_it_is(sent in sent(), capacity in 1_usize..400) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            runtime.block_on(async {
                let (mut theirs, mut ours) = stream(&[NAME], capacity);
                let expected = sent.clone();
                let peer = tokio::spawn(async move {
                    theirs.write_all(&sent).await.expect("write");
                    theirs.shutdown().await.expect("shutdown");
                    let mut back = Vec::new();
                    theirs.read_to_end(&mut back).await.expect("read");
                    back
                });
                let mut through = Vec::new();
                ours.read_to_end(&mut through).await.expect("read");
                assert_eq!(through, expected);
                ours.write_all(&expected).await.expect("write");
                drop(ours);
                assert_eq!(peer.await.expect("the peer's side"), expected);
            });
        }
    }
}
