//! CARv1: a header that names roots, then blocks, each behind its link. Written and read as a stream, one block at a
//! time in memory.

use std::{collections::BTreeMap, io::Cursor};

use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter};
use ipld_core::ipld::Ipld;
use talkbox_core::Result;

use super::frame::{broken, nonsense, read_frame, write_prefixed};
use crate::orbitdb::{Block, Cid, cbor};

/// Most bytes of a section, which is a link and its block. An entry with the largest envelope is a tenth of it.
pub(crate) const MAX_SECTION: usize = 1024 * 1024;
/// Most bytes of a header: some links and a version.
const MAX_HEADER: usize = 1024;
/// How much is gathered before it is written.
const BUFFER: usize = 64 * 1024;

/// Writes a CAR.
#[derive(Debug)]
pub(crate) struct CarWriter<W>(BufWriter<W>);

impl<W: AsyncWrite + Unpin> CarWriter<W> {
    /// Begins one with these roots.
    ///
    /// # Errors
    /// `Unreachable` where the stream fails.
    pub(crate) async fn begin(writer: W, roots: &[Cid]) -> Result<Self> {
        let mut writer = BufWriter::with_capacity(BUFFER, writer);
        write_prefixed(&mut writer, &[&header(roots)?]).await?;
        Ok(Self(writer))
    }

    /// Writes a block. It may wait in the buffer until [`finish`](Self::finish).
    ///
    /// # Errors
    /// `Unreachable` where the stream fails.
    pub(crate) async fn block(&mut self, block: &Block) -> Result<()> {
        write_prefixed(&mut self.0, &[&block.cid.to_bytes(), &block.bytes]).await
    }

    /// Ends the CAR, and with it this direction of the stream.
    ///
    /// # Errors
    /// `Unreachable` where the stream fails.
    pub(crate) async fn finish(mut self) -> Result<()> {
        self.0.close().await.map_err(broken)
    }
}

/// How many bytes a block is on the wire, its length apart.
pub(crate) fn section_bytes(block: &Block) -> usize {
    block.cid.encoded_len() + block.bytes.len()
}

/// What a CAR has at one place.
#[derive(Debug)]
pub(crate) enum Section {
    /// A block whose hash is that of its link.
    Block(Block),
    /// Bytes that are not what their link says, or whose link is of a kind that is not known here.
    Junk,
}

/// Reads a CAR.
#[derive(Debug)]
pub(crate) struct CarReader<R> {
    reader: R,
    roots: Vec<Cid>,
}

impl<R: AsyncRead + Unpin> CarReader<R> {
    /// Reads the header. `None` where the stream ends before it.
    ///
    /// # Errors
    /// `Unexpected` for bytes that are no header of version 1; as [`read_frame`].
    pub(crate) async fn open(mut reader: R) -> Result<Option<Self>> {
        let Some(header) = read_frame(&mut reader, MAX_HEADER).await? else { return Ok(None) };
        let roots = read_header(&header).ok_or_else(|| nonsense("the peer's archive has no header of version 1"))?;
        Ok(Some(Self { reader, roots }))
    }

    /// The roots that the header names.
    pub(crate) fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// The next block, and how many bytes of the wire it took. `None` at the end.
    ///
    /// # Errors
    /// `Unexpected` for a section without a link: where the next would begin is known, but whoever writes such a thing
    /// writes no CAR. As [`read_frame`].
    pub(crate) async fn next(&mut self) -> Result<Option<(Section, usize)>> {
        let Some(bytes) = read_frame(&mut self.reader, MAX_SECTION).await? else { return Ok(None) };
        let length = bytes.len();
        let mut cursor = Cursor::new(&bytes[..]);
        let cid = Cid::read_bytes(&mut cursor)
            .map_err(|error| nonsense("a section of the peer's archive has no link").source(error))?;
        let start = usize::try_from(cursor.position()).unwrap_or(length).min(length);
        let section = Block::checked(cid, Bytes::from(bytes).slice(start..)).map_or(Section::Junk, Section::Block);
        Ok(Some((section, length)))
    }
}

fn header(roots: &[Cid]) -> Result<Vec<u8>> {
    let roots = roots.iter().map(|root| Ipld::Link(*root)).collect();
    cbor::encode(&Ipld::Map(BTreeMap::from([
        ("roots".to_owned(), Ipld::List(roots)),
        ("version".to_owned(), Ipld::Integer(1)),
    ])))
}

fn read_header(bytes: &[u8]) -> Option<Vec<Cid>> {
    let Ok(Ipld::Map(mut fields)) = cbor::decode(bytes) else { return None };
    match (fields.remove("version"), fields.remove("roots")) {
        (Some(Ipld::Integer(1)), Some(Ipld::List(roots))) => {
            roots.into_iter().map(|root| if let Ipld::Link(cid) = root { Some(cid) } else { None }).collect()
        }
        _ => None,
    }
}
