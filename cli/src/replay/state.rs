//! [`State`]: how far a replay is, in a file of its own until it is done.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, history::Mark};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// What tells this replay from others.
    identity: String,
    /// Keys that were deleted.
    pub(crate) keys: u64,
    /// Where to go on.
    pub(crate) mark: Option<Mark>,
    #[serde(skip)]
    path: PathBuf,
}

impl State {
    /// What the file says, if it is about this replay. Another one's is refused.
    pub(crate) fn open(path: &Path, identity: &str) -> Result<State, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let (identity, path) = (identity.to_owned(), path.to_owned());
                return Ok(State { identity, keys: 0, mark: None, path });
            }
            Err(err) => {
                let err = anyhow!(err).context(format!("read {}", path.display()));
                return Err(Failure::Failed(err));
            }
        };
        let said: State = serde_json::from_str(&text)
            .with_context(|| {
                format!("--state {}: this is no state of such a command", path.display())
            })
            .map_err(Failure::Config)?;
        if said.identity != identity {
            return Err(Failure::Config(anyhow!(
                "--state {}: it is of a command with other arguments; finish that one, remove the file, or name another",
                path.display()
            )));
        }
        Ok(State { path: path.to_owned(), ..said })
    }

    /// Written beside, and renamed.
    pub(crate) fn keep(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string(self).context("write the state")?;
        let partial = with_more(&self.path, ".partial");
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &self.path))
            .with_context(|| format!("write {}", self.path.display()))
    }

    /// There is nothing left to go on with.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match fs::remove_file(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                let err = anyhow!(err).context(format!("remove {}", self.path.display()));
                Err(Failure::Failed(err))
            }
            _ => Ok(()),
        }
    }
}

/// Where a replay is stopped from outside, if nothing else is said.
pub(crate) fn stop_file(state: &Path) -> PathBuf {
    with_more(state, ".stop")
}

fn with_more(path: &Path, more: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(more);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_for_the_same_replay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut state = State::open(&path, "a").unwrap();
        assert_eq!((state.keys, &state.mark), (0, &None));
        state.keys = 7;
        state.mark = Some(Mark::Stream { partition: 2, place: "1:9".into() });
        state.keep().unwrap();
        assert_eq!(State::open(&path, "a").unwrap(), state);
        assert!(matches!(State::open(&path, "b"), Err(Failure::Config(_))));
        state.finish().unwrap();
        assert_eq!(State::open(&path, "b").unwrap().keys, 0);
        fs::write(&path, "nothing").unwrap();
        assert!(matches!(State::open(&path, "a"), Err(Failure::Config(_))));
    }
}
