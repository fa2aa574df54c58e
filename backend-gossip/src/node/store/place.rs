//! Where a store is: a directory that one node has at a time.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use talkbox_core::{Error, ErrorKind, Result};

use super::{FILE, schema::Durability};
use crate::node::private;

/// Where the store is.
#[derive(Debug)]
pub(super) enum Place {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    pub(super) fn new(directory: Option<&Path>) -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(ErrorKind::Storage, "no directory for the store").source(error);
        match directory {
            Some(path) => {
                private::folder(path).map_err(|error| failed(error).with("path", path.display()))?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => tempfile::Builder::new().prefix("talkbox-node-").tempdir().map(Self::Temporary).map_err(failed),
        }
    }

    /// The file of the store, made empty if it is not there; SQLite makes those beside it as open to others as it is.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) fn file(&self) -> Result<PathBuf> {
        let path = self.path().join(FILE);
        let failed = |error| Error::new(ErrorKind::Storage, "the file of the store cannot be made").source(error);
        private::file(&path).map_err(|error| failed(error).with("path", path.display()))?;
        Ok(path)
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    pub(super) const fn durability(&self) -> Durability {
        match self {
            Self::Kept(_) => Durability::Full,
            Self::Temporary(_) => Durability::Temporary,
        }
    }

    /// Keeps other nodes out as long as the file is open.
    ///
    /// # Errors
    /// `Storage`; its source is a [`std::fs::TryLockError`] where another node has the store.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.path().join("lock");
        let failed = |message, error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Storage, message).with("path", path.display()).source(error)
        };
        let file = File::create(&path).map_err(|error| failed("no lock file can be made", error.into()))?;
        file.try_lock().map_err(|error| failed("another node uses this store", error.into()))?;
        Ok(file)
    }
}
