//! Folders and files that are for their owner alone: what a node keeps says who gets mail and when.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

/// Makes a folder, and those above it. One that is there stays as it is: whose it is was somebody's choice.
///
/// # Errors
/// Those of the system.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Options under which a file is made for its owner alone, and can be written.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// Makes a file, if it is not there.
///
/// # Errors
/// Those of the system.
pub(crate) fn file(path: &Path) -> io::Result<File> {
    options().create(true).truncate(false).open(path)
}
