//! Folders beside the file of an embedded stream, in which other processes leave small files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::StreamError;

/// `FILE.what`.
pub(crate) fn folder(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Whole or not at all: written as `partial`, and renamed.
pub(crate) fn write(folder: &Path, name: &str, partial: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let partial = folder.join(partial);
    fs::write(&partial, bytes)?;
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, folder.join(name))
}

/// What a failure there means.
pub(crate) fn failed(folder: &Path, err: &io::Error) -> StreamError {
    StreamError::Append { source: format!("{}: {err}", folder.display()).into() }
}
