//! A private folder that is gone afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use talkbox_core::SecretKey;

use crate::{exit::Outcome, files};

/// A folder for the time that the value lives.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one among the temporary files, named after what it is for.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn new(purpose: &str) -> Outcome<Self> {
        // A name that nobody can take before us.
        let name = SecretKey::generate()?.id().to_hex();
        let folder = std::env::temp_dir().join(format!("talkbox-{purpose}-{}", &name[..16]));
        files::private_folder(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where it cannot be removed, the system does so in time.
        let _ = fs::remove_dir_all(&self.0);
    }
}
