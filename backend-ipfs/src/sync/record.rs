//! `/talkbox/record/1`: the record of a shortcode. 20 symbols go out; a length and so many bytes of JSON come back.

use std::{fmt::Debug, sync::Arc};

use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};
use talkbox_core::{
    MailboxRecord, Result, Shortcode, Timestamp, async_trait, envelope::MAX_RETENTION, record::MAX_RECORD_BYTES,
    shortcode::SYMBOLS,
};

use super::{
    channel::{Channel, Stream},
    frame::{broken, nonsense, within},
    limits::Limits,
};

/// Where a node keeps records, one a code.
#[async_trait]
pub(crate) trait Records: Debug + Send + Sync {
    /// The record of a code, as JSON, unless it has expired.
    async fn get(&self, code: Shortcode) -> Result<Option<Arc<str>>>;

    /// Keeps a record in place of what its code had.
    async fn put(&self, record: MailboxRecord) -> Result<()>;
}

/// Until when a record is kept: 400 days, or until it says itself that it is over.
pub(super) fn expires_at(record: &MailboxRecord) -> Timestamp {
    let last = record.created_at().plus(MAX_RETENTION);
    let said = record.event().value("expiration").and_then(|secs| secs.parse().ok()).map(Timestamp);
    said.map_or(last, |said| said.min(last))
}

/// Asks a peer for the record of a code. What it gives is checked for form, signature and work, and to be of that code
/// as it says; whether its key is the one that the code means is checked by whoever resolves.
///
/// # Errors
/// `Timeout` and `Unreachable`; those of [`MailboxRecord::parse`]; `Unexpected` for the record of another code.
pub(crate) async fn look_up<S: Stream>(stream: S, code: Shortcode, limits: Limits) -> Result<Option<MailboxRecord>> {
    let mut channel = Channel::new(stream, limits.frame);
    let asked = async {
        channel.writer.write_all(code.symbols().as_bytes()).await.map_err(broken)?;
        channel.writer.flush().await.map_err(broken)
    };
    within(limits.frame, asked).await?;
    channel.close().await?;
    let json = channel.expect(MAX_RECORD_BYTES).await?;
    if json.is_empty() {
        return Ok(None);
    }
    let json = str::from_utf8(&json).map_err(|error| nonsense("the peer's record is no text").source(error))?;
    let record = MailboxRecord::parse(json)?;
    if record.code() != code {
        return Err(nonsense("the peer's record is of another shortcode"));
    }
    Ok(Some(record))
}

/// Answers one question.
///
/// # Errors
/// `Timeout` and `Unreachable` for a peer that is slow or gone; those of the store.
pub(crate) async fn serve<S: Stream>(stream: S, records: &(impl Records + ?Sized), limits: Limits) -> Result<()> {
    let mut channel = Channel::new(stream, limits.frame);
    let mut symbols = [0; SYMBOLS];
    let read = async { channel.reader.read_exact(&mut symbols).await.map_err(broken) };
    within(limits.frame, read).await?;
    // What is no code is the code of nobody.
    let code = str::from_utf8(&symbols).ok().and_then(Shortcode::from_symbols);
    let json = match code {
        Some(code) => records.get(code).await?,
        None => None,
    };
    channel.send(json.as_deref().unwrap_or_default().as_bytes()).await?;
    channel.close().await
}
