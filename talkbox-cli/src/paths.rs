//! Where files live: the folders of the XDG base directory specification, or one folder for everything.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::exit::{Failure, Outcome};

/// Names one folder for everything, which tests, several identities and removable disks want.
pub(crate) const HOME: &str = "TALKBOX_HOME";

/// The files and folders of Talkbox.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    config: PathBuf,
    data: PathBuf,
}

impl Paths {
    /// From the environment.
    ///
    /// # Errors
    /// Where neither `TALKBOX_HOME` nor the home folder is known.
    pub(crate) fn find() -> Outcome<Self> {
        if let Some(home) = std::env::var_os(HOME).filter(|home| !home.is_empty()) {
            return Ok(Self::in_one(Path::new(&home)));
        }
        let base = etcetera::choose_base_strategy().map_err(|_| {
            Failure::input("the home folder is not known").hint(format!("set {HOME} to the folder to use"))
        })?;
        Ok(Self { config: base.config_dir().join("talkbox"), data: base.data_dir().join("talkbox") })
    }

    /// Everything in one folder.
    pub(crate) fn in_one(folder: &Path) -> Self {
        Self { config: folder.to_owned(), data: folder.to_owned() }
    }

    /// The configuration, unless another one is named.
    pub(crate) fn config(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Where keys, store and what backends remember are.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// One file per mailbox, with its key.
    pub(crate) fn mailboxes(&self) -> PathBuf {
        self.data.join("mailboxes")
    }

    /// The key that seals rows of the store.
    pub(crate) fn store_key(&self) -> PathBuf {
        self.data.join("store.key")
    }

    /// Envelopes, messages, outbox.
    pub(crate) fn store(&self) -> PathBuf {
        self.data.join("store.sqlite")
    }
}
