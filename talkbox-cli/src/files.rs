//! Private files: mode 0600 in folders of mode 0700, written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use zeroize::Zeroizing;

use crate::exit::{Failure, Outcome};

/// Most bytes of a secret or key file that are read: an encrypted key has 162, recovery words at most 215.
const MAX_SECRET: u64 = 16 * 1024;

/// Makes a folder that only its owner can enter, and those above it.
pub(crate) fn private_folder(folder: &Path) -> Outcome<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| failed("create the folder", folder, error))
}

/// Writes a new private file; what is there already stays.
///
/// # Errors
/// `InvalidInput` where there is one.
pub(crate) fn create(path: &Path, content: &str) -> Outcome<()> {
    write(path, content, |temporary| {
        // A link fails where the name is taken, which a rename does not.
        let linked = fs::hard_link(temporary, path);
        let removed = fs::remove_file(temporary);
        linked.and(removed)
    })
    .map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::input(format!("{} exists already", path.display())),
        _ => failed("write", path, error),
    })
}

/// Writes a private file in the place of what is there.
pub(crate) fn replace(path: &Path, content: &str) -> Outcome<()> {
    write(path, content, |temporary| fs::rename(temporary, path)).map_err(|error| failed("write", path, error))
}

fn write(path: &Path, content: &str, publish: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Of this process alone; a name that is left over from a crash is never read.
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    let published = written.and_then(|()| publish(&temporary));
    if published.is_err() {
        // What failed is told; the rest of it is only untidy.
        let _ = fs::remove_file(&temporary);
    } else if let Ok(folder) = File::open(folder) {
        // So that the name survives a power cut; not every file system can.
        let _ = folder.sync_all();
    }
    published
}

/// Reads a file that holds a secret; nothing that is longer than any secret.
pub(crate) fn read_secret(path: &Path) -> Outcome<Zeroizing<String>> {
    let file = File::open(path).map_err(|error| failed("read", path, error))?;
    read_bounded(file).map_err(|error| failed("read", path, error))
}

/// Reads a secret from standard input, to its end.
pub(crate) fn read_secret_from_stdin() -> Outcome<Zeroizing<String>> {
    read_bounded(io::stdin().lock()).map_err(|error| Failure::input(format!("cannot read standard input: {error}")))
}

fn read_bounded(input: impl Read) -> io::Result<Zeroizing<String>> {
    // The whole size at once: a string that grows leaves copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET as usize + 1));
    input.take(MAX_SECRET + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long for a secret"));
    }
    Ok(text)
}

/// Whether others than the owner may read a file.
#[cfg(unix)]
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Whether others than the owner may read a file: where there are no modes, the folder of the account decides.
#[cfg(not(unix))]
pub(crate) fn is_open_to_others(_path: &Path) -> bool {
    false
}

fn failed(what: &str, path: &Path, error: io::Error) -> Failure {
    let failure = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => Failure::input,
        _ => Failure::internal,
    };
    failure(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    #[test]
    fn a_file_is_private_and_never_overwritten_unasked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/key");
        private_folder(path.parent().expect("a parent")).expect("made");
        create(&path, "one").expect("written");
        assert_eq!(create(&path, "two").expect_err("taken").code(), Code::BadInput);
        assert_eq!(*read_secret(&path).expect("read"), "one");
        replace(&path, "three").expect("replaced");
        assert_eq!(*read_secret(&path).expect("read"), "three");
        assert!(!is_open_to_others(&path));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
            assert!(is_open_to_others(&path));
        }
        let left: Vec<_> = fs::read_dir(path.parent().expect("a parent")).expect("listed").collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
    }

    #[test]
    fn what_is_too_long_for_a_secret_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "x".repeat(MAX_SECRET as usize)).expect("written");
        assert!(read_secret(&path).is_ok());
        fs::write(&path, "x".repeat(MAX_SECRET as usize + 1)).expect("written");
        assert!(read_secret(&path).is_err());
        assert_eq!(read_secret(&folder.path().join("none")).expect_err("missing").code(), Code::BadInput);
    }
}
