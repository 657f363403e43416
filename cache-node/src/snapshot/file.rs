//! A snapshot on disk: written beside and renamed, so that a crash leaves the old one or the new one, and never a part.
//!
//! | name | what it is |
//! |---|---|
//! | `FILE` | a whole snapshot |
//! | `FILE.used` | one that a process has started with and then served: good for keys with versions, whose stream says what came since |
//! | `FILE.partial` | one that is being written, or that never will be |

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What it holds may be secret.
const MODE: u32 = 0o600;
/// Written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Where a snapshot goes that has been used.
pub fn used(path: &Path) -> PathBuf {
    beside(path, ".used")
}

/// Makes the file with what `write` writes; it is on the disk when this returns. An older one is replaced, or stays if this fails.
pub fn save<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> io::Result<T> {
    let partial = beside(path, ".partial");
    let written = save_beside(&partial, write).and_then(|written| {
        fs::rename(&partial, path)?;
        Ok(written)
    });
    if written.is_err() {
        drop(fs::remove_file(&partial));
    }
    let written = written?;
    match fs::remove_file(used(path)) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    sync_folder(path)?;
    Ok(written)
}

fn save_beside<T>(
    partial: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> io::Result<T> {
    match fs::remove_file(partial) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(partial)?;
    let mut out = BufWriter::with_capacity(WRITE_BYTES, file);
    let written = write(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(written)
}

/// A process serves what it found here: whoever starts next must know that.
pub fn note_used(path: &Path) -> io::Result<()> {
    match fs::rename(path, used(path)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    sync_folder(path)
}

/// Nobody starts with what is here any more.
pub fn remove(path: &Path) -> io::Result<()> {
    for path in [path, &used(path)] {
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    sync_folder(path)
}

/// Opens a snapshot; `None` if there is none. Returns its length, too.
pub fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    let file = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let bytes = file.metadata()?.len();
    Ok(Some((file, bytes)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(suffix);
    path.with_file_name(name)
}

/// What was renamed or removed is so on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_whole_one_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.snapshot");
        let text = |path: &Path| fs::read_to_string(path).ok();
        assert!(open(&path).expect("it can be looked for").is_none());
        let breaks = |out: &mut BufWriter<File>| {
            out.write_all(b"half")?;
            Err::<(), _>(io::Error::other("the disk is full"))
        };
        assert!(save(&path, breaks).is_err());
        assert_eq!(
            (text(&path), fs::read_dir(folder.path()).expect("a folder").count()),
            (None, 0)
        );
        save(&path, |out| out.write_all(b"first")).expect("it is written");
        assert!(save(&path, breaks).is_err());
        assert_eq!(text(&path).as_deref(), Some("first"));
        // What a process left behind that was killed in the middle.
        fs::write(beside(&path, ".partial"), "half").expect("a file");
        note_used(&path).expect("it is renamed");
        assert_eq!((text(&path), text(&used(&path)).as_deref()), (None, Some("first")));
        assert!(save(&path, breaks).is_err());
        assert_eq!(text(&used(&path)).as_deref(), Some("first"));
        save(&path, |out| out.write_all(b"second")).expect("it is written");
        assert_eq!((text(&path).as_deref(), text(&used(&path))), (Some("second"), None));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        remove(&path).expect("it goes");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
