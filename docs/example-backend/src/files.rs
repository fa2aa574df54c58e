//! The files: one folder for each mailbox, one file for each envelope, named by its arrival number and its id.
//!
//! A file that is empty stands for an envelope that was deleted: it keeps the number and the id from being used again.
//! These calls block for about as long as a small file takes; a slower medium would want a thread of its own.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use talkbox_core::{
    Cursor, DeleteRequest, Envelope, EnvelopeId, Error, ErrorKind, Level, ListOptions, MailboxId, Page, RawEnvelope,
    Result, Timestamp,
};

/// Most envelopes of a page: at 64 KiB each it stays under 7 MiB.
const MAX_PAGE: usize = 100;

#[derive(Debug)]
pub(crate) struct Files(PathBuf);

/// What the name of a file says.
struct Entry {
    number: u64,
    id: EnvelopeId,
    path: PathBuf,
}

impl Files {
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(broken)?;
        Ok(Self(folder))
    }

    pub(crate) fn put(&self, envelope: &Envelope) -> Result<Level> {
        let (mailbox, id) = (self.mailbox(envelope.mailbox()), envelope.id());
        fs::create_dir_all(&mailbox).map_err(broken)?;
        let _lock = self.lock()?;
        let entries = entries(&mailbox)?;
        if let Some(known) = entries.iter().find(|entry| entry.id == id) {
            let deleted = fs::metadata(&known.path).map_err(broken)?.len() == 0;
            return if deleted { Err(Error::new(ErrorKind::Refused, "deleted")) } else { Ok(Level::Duplicate) };
        }
        let number = entries.last().map_or(1, |last| last.number + 1);
        write(&mailbox.join(format!("{number:020}-{id}")), envelope.json()).map_err(broken)?;
        Ok(Level::Stored)
    }

    pub(crate) fn list(&self, owner: MailboxId, options: &ListOptions, now: Timestamp) -> Result<Page> {
        let entries = entries(&self.mailbox(owner))?;
        if !options.ids.is_empty() {
            let asked = entries.iter().filter(|entry| options.ids.contains(&entry.id));
            return Ok(Page { items: asked.filter_map(|entry| entry.read(now)).collect(), next: None, more: false });
        }
        let after = options.after.as_ref().map_or(Ok(0), |cursor| number_of(cursor, &entries))?;
        let limit = match options.limit as usize {
            0 => MAX_PAGE,
            limit => limit.min(MAX_PAGE),
        };
        let mut page = Page::default();
        let mut seen = after;
        for entry in entries.iter().filter(|entry| entry.number > after) {
            if page.items.len() == limit {
                page.more = true;
                break;
            }
            page.items.extend(entry.read(now));
            seen = entry.number;
        }
        page.next = entries.first().map(|first| cursor(first, seen));
        Ok(page)
    }

    /// The ids of what is there and not deleted.
    pub(crate) fn held(&self, owner: MailboxId) -> Result<BTreeSet<EnvelopeId>> {
        let there = |entry: &Entry| fs::metadata(&entry.path).is_ok_and(|file| file.len() > 0);
        Ok(entries(&self.mailbox(owner))?.into_iter().filter(there).map(|entry| entry.id).collect())
    }

    /// Deletes what the request is valid for; whether none of what it names is left.
    pub(crate) fn delete(&self, request: &DeleteRequest) -> Result<bool> {
        let mailbox = self.mailbox(request.mailbox());
        let _lock = self.lock()?;
        for entry in entries(&mailbox)?.iter().filter(|entry| request.ids().contains(&entry.id)) {
            let envelope = fs::read_to_string(&entry.path).ok().and_then(|json| Envelope::restore(&json).ok());
            if envelope.is_some_and(|envelope| request.covers(envelope.mailbox(), envelope.author())) {
                write(&entry.path, "").map_err(broken)?;
            }
        }
        let held = self.held(request.mailbox())?;
        Ok(request.ids().iter().all(|id| !held.contains(id)))
    }

    fn mailbox(&self, owner: MailboxId) -> PathBuf {
        self.0.join(owner.to_hex())
    }

    /// Keeps other programs from writing until it is dropped.
    fn lock(&self) -> Result<File> {
        let lock = File::create(self.0.join("lock")).map_err(broken)?;
        lock.lock().map_err(broken)?;
        Ok(lock)
    }
}

impl Entry {
    /// The envelope; nothing where it was deleted, has expired or is damaged, so that it does not hide the others.
    fn read(&self, now: Timestamp) -> Option<RawEnvelope> {
        let envelope = Envelope::restore(&fs::read_to_string(&self.path).ok()?).ok()?;
        (!envelope.is_expired(now)).then(|| RawEnvelope::from(&envelope))
    }
}

/// What is in a mailbox, in the order of arrival.
fn entries(mailbox: &Path) -> Result<Vec<Entry>> {
    let files = match fs::read_dir(mailbox) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(broken(error)),
    };
    let mut entries = Vec::new();
    for file in files {
        let path = file.map_err(broken)?.path();
        // Other names are those of files that are being written.
        let parts = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('-'));
        let parts = parts.and_then(|(number, id)| Some((number.parse().ok()?, EnvelopeId::from_hex(id).ok()?)));
        entries.extend(parts.map(|(number, id)| Entry { number, id, path }));
    }
    entries.sort_unstable_by_key(|entry| entry.number);
    Ok(entries)
}

/// A cursor is the number of the last envelope that was seen, after the id of the first that ever arrived: a folder
/// that was begun anew has another first one.
fn cursor(first: &Entry, seen: u64) -> Cursor {
    Cursor(format!("{}.{seen}", first.id))
}

fn number_of(cursor: &Cursor, entries: &[Entry]) -> Result<u64> {
    let (first, last) = (entries.first().map(|entry| entry.id.to_hex()), entries.last().map(|entry| entry.number));
    let parts = cursor.0.split_once('.').and_then(|(id, number)| Some((id, number.parse().ok()?)));
    match parts {
        Some((id, number)) if Some(id) == first.as_deref() && Some(number) <= last => Ok(number),
        _ => Err(Error::new(ErrorKind::NotFound, "the cursor is of another folder")),
    }
}

/// Writes a file so that it is there as a whole or not at all, also after a power cut.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_file_name("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        // The name is on the disk once its folder is.
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn broken(error: io::Error) -> Error {
    Error::new(ErrorKind::Storage, "the folder cannot be used").source(error)
}
