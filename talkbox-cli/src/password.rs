//! The password of the keys on this computer: out of a file, or asked for, once in a run.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use zeroize::Zeroizing;

use crate::{
    exit::{Failure, Outcome},
    files, prompt,
};

/// Where the password comes from; asked for at most once in a run.
#[derive(Clone, Default)]
pub(crate) struct Password {
    file: Option<PathBuf>,
    known: Arc<OnceLock<Zeroizing<String>>>,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What says how to give the password without a terminal.
const INSTEAD: &str = "give it with `--password-file FILE` (or TALKBOX_PASSWORD_FILE)";

impl Password {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, known: Arc::default() }
    }

    /// The password.
    ///
    /// # Errors
    /// `Locked` where there is nobody to ask.
    pub(crate) fn get(&self) -> Outcome<Zeroizing<String>> {
        if let Some(known) = self.known.get() {
            return Ok(known.clone());
        }
        let password = self.of_file()?.map_or_else(|| prompt::secret("Password", INSTEAD), Ok)?;
        Ok(self.known.get_or_init(|| password).clone())
    }

    /// A new one, asked for twice.
    pub(crate) fn choose(&self) -> Outcome<Zeroizing<String>> {
        let instead = "give `--password-file FILE`, or `--plain-key` to keep the keys unencrypted for unattended use";
        let password = match self.of_file()? {
            Some(password) => password,
            None => prompt::new_secret("New password for the keys on this computer", instead)?,
        };
        if password.is_empty() {
            return Err(Failure::input("an empty password protects nothing").hint(instead));
        }
        Ok(self.known.get_or_init(|| password).clone())
    }

    fn of_file(&self) -> Outcome<Option<Zeroizing<String>>> {
        let Some(path) = &self.file else { return Ok(None) };
        let text = files::read_secret(path)?;
        // The line alone: an editor ends it.
        Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
    }
}
