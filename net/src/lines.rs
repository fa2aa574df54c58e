//! Lines of a body, such as those of newline-delimited JSON.

use std::mem;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use talkbox_core::{Error, ErrorKind, Result};

use crate::http::Chunks;

/// The lines of a body, of at most so many bytes each, without their ends (LF, or CR and LF). Empty ones are passed over;
/// one at the end that nothing ends is a line, too: the body was whole, or there is an error in its place.
///
/// # Errors
/// Those of the body; `TooLarge` for a longer line. It ends after the first one.
///
/// ```
/// use futures_util::{StreamExt as _, TryStreamExt as _, stream};
/// use talkbox_net::lines;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let body = stream::iter([Ok("{\"id\":".into()), Ok("1}\n{\"id\":2}".into())]).boxed();
/// let found: Vec<_> = lines(body, 64 * 1024).try_collect().await?;
/// assert_eq!(found, ["{\"id\":1}", "{\"id\":2}"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn lines(chunks: Chunks, max_line: usize) -> impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static {
    let reading = Reading { chunks, chunk: Bytes::new(), line: BytesMut::new(), max_line };
    stream::try_unfold(reading, async |mut reading: Reading| Ok(reading.next().await?.map(|line| (line, reading))))
        .boxed()
}

struct Reading {
    chunks: Chunks,
    /// What is left of the last one.
    chunk: Bytes,
    /// What has come of the line.
    line: BytesMut,
    max_line: usize,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
                let part = self.chunk.split_to(end);
                self.chunk.advance(1);
                self.add(&part)?;
                if let Some(line) = self.line()? {
                    return Ok(Some(line));
                }
            } else {
                let part = mem::take(&mut self.chunk);
                self.add(&part)?;
                match self.chunks.next().await {
                    Some(chunk) => self.chunk = chunk?,
                    None => return self.line(),
                }
            }
        }
    }

    fn add(&mut self, part: &[u8]) -> Result<()> {
        // One more for the CR, which does not count.
        if part.len() > self.max_line + 1 - self.line.len() {
            return Err(self.too_large());
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    /// The line that has come to its end, unless there is nothing in it.
    fn line(&mut self) -> Result<Option<Bytes>> {
        let mut line = self.line.split();
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.max_line {
            return Err(self.too_large());
        }
        Ok(if line.is_empty() { None } else { Some(line.freeze()) })
    }

    fn too_large(&self) -> Error {
        Error::new(ErrorKind::TooLarge, format!("a line of the answer is larger than {} bytes", self.max_line))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, TryStreamExt as _};

    use super::*;

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Bytes>> {
        let chunks: Vec<_> = chunks.into_iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        lines(stream::iter(chunks).boxed(), 8).try_collect().now_or_never().expect("nothing to wait for")
    }

    #[test]
    fn lines_wherever_the_chunks_end() {
        for (body, expected) in [
            ("", &[][..]),
            ("\n\r\n\n", &[]),
            ("a\nbc\r\n\nd", &["a", "bc", "d"]),
            ("12345678\r\n12345678", &["12345678", "12345678"]),
            ("a\rb\n", &["a\rb"]),
        ] {
            assert_eq!(read([body.as_bytes()]).expect("reads"), expected, "{body:?}");
            assert_eq!(read(body.as_bytes().chunks(1)).expect("reads"), expected, "{body:?}");
            assert_eq!(read(body.as_bytes().chunks(3)).expect("reads"), expected, "{body:?}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        for body in ["123456789\n", "123456789", "1\n1234567890", "123456789\r\n"] {
            assert_eq!(read([body.as_bytes()]).expect_err("too long").kind(), ErrorKind::TooLarge, "{body:?}");
            assert_eq!(read(body.as_bytes().chunks(1)).expect_err("too long").kind(), ErrorKind::TooLarge, "{body:?}");
        }
    }

    #[test]
    fn lines_before_an_error_are_kept() {
        let broken = Err(Error::new(ErrorKind::Unreachable, "broke off"));
        let chunks = stream::iter([Ok("a\nb".into()), broken]).boxed();
        let found: Vec<_> = lines(chunks, 8).collect().now_or_never().expect("nothing to wait for");
        assert!(matches!(&found[..], [Ok(line), Err(_)] if line == "a"), "half a line is none");
    }
}
