//! Where a value of the configuration came from.

use std::{fmt, path::PathBuf, sync::Arc};

/// Where a value came from, in the order in which one overrides the other.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Which file.
        path: Arc<PathBuf>,
        /// Which line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        name: String,
    },
    /// A flag on the command line.
    Flag {
        /// Its name, with its dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => f.write_str(name),
            Self::Flag { name } => f.write_str(name),
        }
    }
}
