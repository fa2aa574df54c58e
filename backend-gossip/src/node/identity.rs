//! The key of the node: it signs receipts, and peers know the node by it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
};

use talkbox_core::{Error, ErrorKind, Result, SecretKey};
use zeroize::Zeroizing;

use super::private;

/// The file of the key, in the folder of the store and not in the store: a backup holds no secret.
const FILE: &str = "node.key";
/// More bytes than the file has. An `nsec` is 63 characters.
const MOST: u64 = 128;

/// Reads the key that is kept in this folder, or makes one. Without a folder it lasts as long as the node.
///
/// # Errors
/// `Storage` where the file cannot be read or made, or is open to others; `Unexpected` without randomness.
pub(crate) fn key(directory: Option<&Path>) -> Result<SecretKey> {
    let Some(directory) = directory else { return SecretKey::generate() };
    let path = directory.join(FILE);
    let failed = |error: io::Error| {
        let what = format!("the key of the node cannot be used: {error}");
        Error::new(ErrorKind::Storage, what).source(error).with("path", path.display())
    };
    let key = match File::open(&path) {
        Ok(file) => read(&file).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate()?;
            write(directory, &path, &key.to_nsec()).map_err(failed)?;
            return Ok(key);
        }
        Err(error) => return Err(failed(error)),
    };
    SecretKey::from_nsec(key.trim()).map_err(|_| {
        Error::new(ErrorKind::Storage, "the file of the node's key holds no key").with("path", path.display())
    })
}

fn read(file: &File) -> io::Result<Zeroizing<String>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::other("its file is open to others: make it yours alone (chmod 600)"));
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes it whole or not at all: half a key would be another node after a power failure.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    private::folder(directory)?;
    let draft = path.with_extension("new");
    let mut file = private::options().create(true).truncate(true).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = |path| super::key(path).map(|key| key.public());
        let first = key(Some(directory.path())).expect("is made");
        assert_eq!(key(Some(directory.path())).expect("is read"), first);
        assert_ne!(key(None).expect("is made"), first);
        fs::write(directory.path().join(FILE), "nsec1nothing").expect("writes");
        assert_eq!(key(Some(directory.path())).expect_err("no key").kind(), ErrorKind::Storage);
    }

    #[cfg(unix)]
    #[test]
    fn one_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        key(Some(directory.path())).expect("is made");
        let path = directory.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets");
        assert_eq!(key(Some(directory.path())).expect_err("is refused").kind(), ErrorKind::Storage);
    }
}
