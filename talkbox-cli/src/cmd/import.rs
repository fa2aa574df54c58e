//! `talkbox import`: takes envelopes from lines of JSON, each one verified. A bad line is reported and hides no other.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    sync::Arc,
};

use serde_json::json;
use talkbox_core::{
    Envelope, Error, ErrorKind, KeyAuthorizer, MailboxId, PutOptions, Result, SecretKey, config::Opened,
    envelope::MAX_ENVELOPE_BYTES,
};

use crate::{
    exit::{Code, Failure, Outcome},
    session::Session,
};

/// Envelopes that are taken at once: enough for both cores, and 16 MiB at worst.
const BATCH: usize = 256;
/// Most bytes of a line. Other writers spend more on white space and escapes than we do; parsing bounds the rest.
const MAX_LINE: usize = 2 * MAX_ENVELOPE_BYTES;
/// Bad lines that are told one by one.
const MAX_TOLD: u64 = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file; `-` is standard input
    file: PathBuf,
    /// Also put every envelope to the holders of the mailbox
    #[arg(long)]
    upload: bool,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = session.entry(None)?;
    if arguments.upload && session.is_offline() {
        return Err(Failure::input("nothing can be uploaded with `--offline`"));
    }
    let input: Box<dyn Read + Send> = if arguments.file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let file = File::open(&arguments.file);
        Box::new(file.map_err(|error| Failure::input(format!("cannot read {}: {error}", arguments.file.display())))?)
    };
    let mut lines = Lines { input: BufReader::new(input), number: 0 };
    let live = session.open(Some(&entry)).await?;
    let mut tally = Tally::default();
    loop {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match lines.next(entry.id)? {
                None => break,
                Some((_, Ok(envelope))) => batch.push(envelope),
                Some((number, Err(error))) => {
                    tally.bad += 1;
                    if tally.bad <= MAX_TOLD {
                        session.output.warn(format_args!("line {number}: {error}"));
                    }
                }
            }
        }
        if batch.is_empty() {
            break;
        }
        tally.taken += batch.len() as u64;
        if arguments.upload {
            tally.uploaded += upload(session, live.talkbox.backends(), &batch).await?;
        }
        let imported = live.talkbox.import(live.key()?, batch).await?;
        tally.new += imported.new as u64;
        session.output.progress(format_args!("{} envelopes …", tally.taken));
    }
    session.output.progress_done();
    session.finish(live).await;
    tally.tell(session, arguments.upload)
}

#[derive(Debug, Default)]
struct Tally {
    taken: u64,
    new: u64,
    bad: u64,
    uploaded: u64,
}

impl Tally {
    fn tell(&self, session: &Session, upload: bool) -> Outcome {
        if session.output.is_json() {
            let uploaded = upload.then_some(self.uploaded);
            session.output.object(&json!({
                "envelopes": self.taken,
                "new": self.new,
                "bad_lines": self.bad,
                "uploaded": uploaded,
            }))?;
        } else {
            session.output.line(format_args!("{} envelopes, {} new messages", self.taken, self.new))?;
            if upload {
                session.output.line(format_args!("{} of them are stored by a holder", self.uploaded))?;
            }
        }
        if self.bad > 0 {
            let message = format!("{} lines are no envelope of this mailbox", self.bad);
            return Err(Failure::new(Code::VerificationFailed, "bad-lines", message)
                .hint("the others were taken; an envelope opens only in the mailbox that it is addressed to"));
        }
        if upload && self.uploaded < self.taken {
            let message = format!("{} envelopes are stored by no holder", self.taken - self.uploaded);
            return Err(Failure::new(Code::TooFewAcks, "too-few-acks", message)
                .hint("import again: it goes on where it stopped"));
        }
        Ok(Code::Done)
    }
}

/// Lines of bounded length, by number.
struct Lines<R> {
    input: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// The next line that is not empty.
    fn next(&mut self, owner: MailboxId) -> Outcome<Option<(u64, Result<Envelope>)>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.input).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.len() > MAX_LINE && line.last() != Some(&b'\n') {
                self.skip_line()?;
                return Ok(Some((self.number, Err(Error::new(ErrorKind::TooLarge, "the line is too long")))));
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Ok(Some((self.number, parse(&line, owner))));
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(buffer.len(), |at| at + 1);
            self.input.consume(length);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

fn parse(line: &[u8], owner: MailboxId) -> Result<Envelope> {
    let text = str::from_utf8(line).map_err(|_| Error::new(ErrorKind::InvalidEnvelope, "the line is no text"))?;
    let envelope = Envelope::parse(text.trim())?;
    if envelope.mailbox() != owner {
        return Err(Error::new(ErrorKind::InvalidInput, "the envelope is addressed to another mailbox"));
    }
    Ok(envelope)
}

/// Puts envelopes to all holders in use, under a throw-away key; how many of them somebody stores.
async fn upload(session: &Session, opened: &Opened, batch: &[Envelope]) -> Outcome<u64> {
    let mut stored = vec![false; batch.len()];
    for (name, mailbox) in &opened.mailboxes {
        let authorizer = KeyAuthorizer::for_anyone(SecretKey::generate()?, Arc::clone(&session.clock));
        let answers = mailbox.put(batch, PutOptions::default().auth(Arc::new(authorizer))).await;
        for (at, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(receipt) if !receipt.acks.is_empty() => stored[at] = true,
                Ok(_) => {}
                Err(error) if at == 0 => session.output.warn(format_args!("{name}: {error}")),
                Err(_) => {}
            }
        }
    }
    Ok(stored.into_iter().filter(|stored| *stored).count() as u64)
}

#[cfg(test)]
mod tests {
    use talkbox_core::{Draft, SealOptions, Timestamp, seal};

    use super::*;

    fn sealed(owner: &SecretKey) -> String {
        let sender = SecretKey::generate().expect("randomness");
        let now = Timestamp(1_790_000_000);
        let sealed = seal(&Draft::text("hello"), &sender, owner.id(), now, &SealOptions::default()).expect("seals");
        sealed.envelope.json().to_owned()
    }

    #[test]
    fn bad_lines_are_numbered_and_hide_no_others() {
        let owner = SecretKey::generate().expect("randomness");
        let other = SecretKey::generate().expect("randomness");
        let (good, foreign) = (sealed(&owner), sealed(&other));
        let forged = good.replace("\"sig\":\"", "\"sig\":\"00");
        let text = format!("{good}\n\nnonsense\n{}\n{foreign}\n{forged}\n{good}", "x".repeat(3 * MAX_LINE));
        let mut lines = Lines { input: BufReader::new(text.as_bytes()), number: 0 };
        let mut seen = Vec::new();
        while let Some((number, result)) = lines.next(owner.id()).expect("reads") {
            seen.push((number, result.map(|_| ()).map_err(|error| error.kind())));
        }
        let expected = [
            (1, Ok(())),
            (3, Err(ErrorKind::InvalidEnvelope)),
            (4, Err(ErrorKind::TooLarge)),
            (5, Err(ErrorKind::InvalidInput)),
            (6, Err(ErrorKind::InvalidEnvelope)),
            (7, Ok(())),
        ];
        assert_eq!(seen, expected);
    }
}
