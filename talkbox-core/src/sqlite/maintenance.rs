//! What is done from outside with a store that a running program keeps: it is read, checked and copied.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, backup::Backup};

use super::{is_of_disk, storage};
use crate::{Error, ErrorKind, Result};

/// Pages that a copy takes before the program may write again: 4 MiB or 8, a few milliseconds.
const PAGES: std::ffi::c_int = 1_024;
/// The pause between two of these steps.
const PAUSE: Duration = Duration::from_millis(5);
/// How long to wait for a program that writes.
const BUSY: Duration = Duration::from_secs(5);

/// What SQLite finds wrong with pages and indexes, at the most so many things; nothing where all is well.
///
/// # Errors
/// `Storage` where it cannot even look.
pub fn faults(conn: &Connection, most: u32) -> Result<Vec<String>> {
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({most})")).map_err(storage)?;
    let faults = check.query_map([], |row| row.get::<_, String>(0)).map_err(storage)?;
    let mut faults = faults.collect::<rusqlite::Result<Vec<_>>>().map_err(storage)?;
    faults.retain(|fault| fault != "ok");
    Ok(faults)
}

/// Copies a file as it is at one moment into one that is not there yet, for its owner alone; the program that keeps it goes
/// on meanwhile. `finish` changes what has to be another in the copy. Its size in bytes.
///
/// # Errors
/// `InvalidInput` where there is a file of that name; `Storage` where the copy fails: then nothing is left behind.
pub fn copy(source: &Connection, to: &Path, finish: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<u64> {
    // Reserves the name, so that nothing is overwritten.
    let mut reserve = OpenOptions::new();
    reserve.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        reserve.mode(0o600);
    }
    reserve.open(to).map_err(|error| {
        let (kind, why) = match error.kind() {
            io::ErrorKind::AlreadyExists => (ErrorKind::InvalidInput, "there is a file of that name already"),
            _ => (ErrorKind::Storage, "the file of the backup cannot be made"),
        };
        Error::new(kind, why).with("path", to.display()).source(error)
    })?;
    let copied = fill(source, to, finish);
    if copied.is_err() {
        let _nothing_to_remove = std::fs::remove_file(to);
    }
    copied
}

fn fill(source: &Connection, to: &Path, finish: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<u64> {
    let mut target = Connection::open(to).map_err(storage)?;
    Backup::new(source, &mut target)
        .and_then(|backup| backup.run_to_completion(PAGES, PAUSE, None))
        .map_err(storage)?;
    target
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")
        .and_then(|()| finish(&target))
        .map_err(storage)?;
    let check: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(storage)?;
    if check != "ok" {
        return Err(Error::new(ErrorKind::Storage, "the store is damaged: `talkbox node verify` says where")
            .with("check", check));
    }
    target.close().map_err(|(_, error)| storage(error))?;
    let unread = |error| Error::new(ErrorKind::Storage, "the backup cannot be read").source(error);
    let file = File::open(to).map_err(unread)?;
    file.sync_all().map_err(unread)?;
    Ok(file.metadata().map_err(unread)?.len())
}

/// Opens a file to read it, also one that is where nothing can be written.
///
/// # Errors
/// `Storage`.
pub fn open(path: &Path) -> Result<Connection> {
    // Not read-only: the log of a program that was killed has to be read, too.
    match opened(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(error) if error.sqlite_error_code().is_some_and(is_of_disk) => open_as_it_is(path, error),
        other => other.map_err(|error| storage(error).with("path", path.display())),
    }
}

/// Opens a file beside which SQLite can make none, because of which it failed before. It does without where no log has to be
/// read.
fn open_as_it_is(path: &Path, before: rusqlite::Error) -> Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(Error::new(
            ErrorKind::Storage,
            "the disk takes nothing, and what the node wrote last is in a log that is read only where something can be \
             written: copy the folder to another disk, and name that",
        )
        .with("log", log.display())
        .source(before));
    }
    let Ok(whole) = std::path::absolute(path) else { return Err(storage(before).with("path", path.display())) };
    opened(Path::new(&unchanging(&whole)), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
        .map_err(|error| storage(error).with("path", path.display()))
}

/// The URI that says to SQLite that nobody changes this file.
fn unchanging(path: &Path) -> String {
    use std::fmt::Write as _;

    let mut uri = String::from("file://");
    for (at, byte) in path.as_os_str().as_encoded_bytes().iter().enumerate() {
        let byte = if cfg!(windows) && *byte == b'\\' { b'/' } else { *byte };
        if at == 0 && byte != b'/' {
            uri.push('/');
        }
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b':' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(byte.into()),
            byte => {
                let _infallible = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri + "?immutable=1"
}

fn opened(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    // The files beside it are looked for only when something is read.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nobody_changes_is_read_whatever_its_name_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("50% of ä?#.db");
        let made = Connection::open(&path).expect("opens");
        made.execute_batch("CREATE TABLE one (it TEXT)").expect("creates");
        drop(made);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        opened(Path::new(&unchanging(&path)), flags).expect("is found").prepare("SELECT it FROM one").expect("is it");
    }

    #[test]
    fn a_copy_is_made_once_and_changed_before_it_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        let made = Connection::open(&from).expect("opens");
        made.execute_batch("CREATE TABLE one (it TEXT); INSERT INTO one VALUES ('old')").expect("creates");
        let source = open(&from).expect("opens");
        let change = |db: &Connection| db.execute("UPDATE one SET it = 'new'", []).map(drop);
        assert!(copy(&source, &to, change).expect("copies") > 0);
        let copied = open(&to).expect("opens");
        assert_eq!(copied.query_row("SELECT it FROM one", [], |row| row.get::<_, String>(0)), Ok("new".to_owned()));
        assert!(faults(&copied, 9).expect("looks").is_empty());
        assert_eq!(copy(&source, &to, change).expect_err("it is there").kind(), ErrorKind::InvalidInput);
        let fails = |db: &Connection| db.execute("DELETE FROM nowhere", []).map(drop);
        let nowhere = folder.path().join("nowhere.db");
        copy(&source, &nowhere, fails).expect_err("fails");
        assert!(!nowhere.exists());
    }
}
