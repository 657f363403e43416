//! [`Board`]: notes that the processes of a stream leave for each other: what they are to run, and what they run. Of each name the last
//! note stands. They are no part of the log: nothing waits for them, and no promise rests on them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{StreamError, beside, kafka::Kafka};

/// Longest note; brokers take a message of a megabyte.
pub const NOTE_BYTES_MAX: usize = 512 << 10;
/// Most notes; more are not kept.
pub(crate) const NOTES_MAX: usize = 1000;
/// Longest name.
const NAME_BYTES_MAX: usize = 200;

/// See the module.
#[derive(Clone, Debug)]
pub enum Board {
    /// A folder beside the file.
    Embedded(PathBuf),
    /// Notes beside the checkpoints.
    Kafka(Kafka),
}

impl Board {
    /// The board of an embedded stream's file.
    pub fn of_file(path: &Path) -> Board {
        Board::Embedded(beside::folder(path, "board"))
    }

    /// Leaves a note, or takes it away: what is empty is none. Durable when it returns. A name has letters, digits, `.`, `_`, `-` and
    /// `:`.
    pub async fn put(&self, name: &str, note: Vec<u8>) -> Result<(), StreamError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
            let what = format!("{name:?} names no note");
            return Err(StreamError::Refused { what });
        }
        if note.len() > NOTE_BYTES_MAX {
            let what = format!("{} bytes are more than the {NOTE_BYTES_MAX} of a note", note.len());
            return Err(StreamError::Refused { what });
        }
        match self {
            Board::Embedded(folder) => {
                write(folder, name, &note).map_err(|err| beside::failed(folder, &err))
            }
            Board::Kafka(kafka) => kafka.put_note(name, note).await,
        }
    }

    /// All notes, as far as they are known here; quick.
    pub fn known(&self) -> Result<BTreeMap<String, Vec<u8>>, StreamError> {
        match self {
            Board::Embedded(folder) => {
                left(folder).map_err(|err| StreamError::Read { source: err.into() })
            }
            Board::Kafka(kafka) => Ok(kafka.notes()),
        }
    }

    /// All notes that are there now.
    pub async fn fresh(&self) -> Result<BTreeMap<String, Vec<u8>>, StreamError> {
        match self {
            Board::Embedded(_) => self.known(),
            Board::Kafka(kafka) => kafka.fresh_notes().await,
        }
    }
}

fn write(folder: &Path, name: &str, note: &[u8]) -> io::Result<()> {
    if note.is_empty() {
        return match fs::remove_file(folder.join(name)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        };
    }
    beside::write(folder, name, &format!("{name}~{}", std::process::id()), note)
}

fn left(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let files = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        files => files?,
    };
    let mut notes = BTreeMap::new();
    for file in files.take(NOTES_MAX) {
        let file = file?;
        let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let name = file.file_name().to_string_lossy().into_owned();
        if !name.contains('~') && bytes <= NOTE_BYTES_MAX {
            notes.insert(name, fs::read(file.path())?);
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_note_of_each_name_stands() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::of_file(&folder.path().join("stream.db"));
        assert!(board.known().unwrap().is_empty());
        board.put("config:eu", b"1".to_vec()).await.unwrap();
        board.put("process:eu:a", b"x".to_vec()).await.unwrap();
        board.put("config:eu", b"2".to_vec()).await.unwrap();
        let note = |name: &str, text: &[u8]| (name.to_owned(), text.to_vec());
        let both = BTreeMap::from([note("config:eu", b"2"), note("process:eu:a", b"x")]);
        assert_eq!(board.fresh().await.unwrap(), both);
        board.put("config:eu", Vec::new()).await.unwrap();
        board.put("config:eu", Vec::new()).await.unwrap();
        assert_eq!(board.known().unwrap().len(), 1);
        for name in ["", "a/b", "a~1", &"n".repeat(201)] {
            assert!(board.put(name, b"x".to_vec()).await.is_err(), "{name}");
        }
        assert!(board.put("n", vec![0; NOTE_BYTES_MAX + 1]).await.is_err());
    }
}
