//! The token that a service knows its user by.
//!
//! It stands in a file that nobody else can read, and nowhere else: not in the settings, which are shown, copied and
//! backed up. It is read anew for each request. So it is not in memory while nothing is asked, and a new one counts at
//! once.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use talkbox_core::{Error, ErrorKind, Result};
use talkbox_net::HeaderValue;
use zeroize::Zeroizing;

/// Most bytes of a token's file: signed ones (JWT) have some 700 bytes, those with many claims some thousand.
const MOST: u64 = 8 * 1024;
/// The least characters of a token: what is shorter is a mistake, and could not be taken out of texts again.
const LEAST: usize = 4;
/// What an error calls the path of a token's file.
const FILE: &str = "token_file";
/// What stands where a token stood.
const HIDDEN: &str = "(hidden)";

/// A token. It never shows itself, and leaves nothing in memory.
#[derive(Clone)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// Reads one as it is typed or stands in a file.
    ///
    /// # Errors
    /// `ConfigInvalid`, without a word of it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = "the token's file holds no token: one line of letters, digits and signs, without spaces";
            return Err(Error::new(ErrorKind::ConfigInvalid, why));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// As the header `Authorization`.
    ///
    /// # Errors
    /// None for a token that was parsed.
    pub(crate) fn header(&self) -> Result<HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", *self.0));
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Error::new(ErrorKind::ConfigInvalid, "the token has characters that cannot be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A text without this token in it: some services repeat what they refuse.
    pub(crate) fn taken_out_of(&self, text: String) -> String {
        if text.contains(&**self.0) { text.replace(&**self.0, HIDDEN) } else { text }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Where a token is kept. Its path is named only where it cannot be used: who mends that has to know which file is meant.
/// A token that was pasted in its place (in hex, base64url, or as JWT) is refused before, since it is no absolute path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenFile(PathBuf);

impl TokenFile {
    /// The file at this path.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Reads the token.
    ///
    /// # Errors
    /// `ConfigInvalid` with the path where the file cannot be read, is open to others, or holds no token.
    pub(crate) fn read(&self) -> Result<Token> {
        let failed = |error: io::Error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "the file that `token_file` names is not there".to_owned(),
                _ => format!("the token's file cannot be used: {error}"),
            };
            Error::new(ErrorKind::ConfigInvalid, why)
        };
        let token = read(&self.0).map_err(failed).and_then(|text| Token::parse(&text));
        token.map_err(|error| error.with(FILE, self.0.display()))
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file")
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // Looked at first: to open what is a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > MOST {
        return Err(io::Error::other("it is far larger than a token"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::other("it is open to others: make it yours alone (chmod 600)"));
        }
    }
    // With all the room at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize));
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn kept(text: &str, mode: u32) -> (tempfile::TempDir, TokenFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("writes");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("sets");
        }
        (folder, TokenFile::new(path))
    }

    #[test]
    fn it_is_sent_and_never_shown() {
        let (_folder, file) = kept("s3cr3t.token-value\n", 0o600);
        let token = file.read().expect("a token");
        let header = token.header().expect("a header");
        assert_eq!(header.as_bytes(), b"Bearer s3cr3t.token-value");
        for shown in [format!("{token:?}"), format!("{header:?}"), format!("{file:?}")] {
            assert!(!shown.contains("s3cr3t") && !shown.contains('/'), "{shown}");
        }
        assert_eq!(token.taken_out_of("no such key: s3cr3t.token-value!".to_owned()), "no such key: (hidden)!");
    }

    #[cfg(unix)]
    #[test]
    fn one_that_others_can_read_is_refused() {
        for mode in [0o604, 0o640, 0o644, 0o610] {
            let (_folder, file) = kept("s3cr3t.token-value", mode);
            let error = file.read().expect_err("open to others");
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for bad in ["", "abc", "s3cr3t with spaces", "s3cr3t\nlines", "s3cr3té", &"s3cr3t".repeat(2000)] {
            let (_folder, file) = kept(bad, 0o600);
            let error = file.read().expect_err("no token");
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        TokenFile::new(folder.path()).read().expect_err("a folder is no file");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let absent = TokenFile::new(&path).read().expect_err("absent");
        assert_eq!(absent.kind(), ErrorKind::ConfigInvalid);
        assert_eq!(absent.context(FILE), path.to_str());
    }
}
