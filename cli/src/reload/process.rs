//! [`Process`]: the note by which a process says what it runs.

use serde::{Deserialize, Serialize};

use super::Config;
use crate::clock;

/// How often a process says that it is there, in microseconds.
const SAY_US: u64 = 30_000_000;
/// Who has said nothing for so long is not counted.
const SILENT_US: u64 = 3 * SAY_US;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) daemon: String,
    pub(crate) config: Config,
    /// By its clock, in microseconds since 1970.
    pub(crate) at: u64,
}

impl Process {
    /// The beginning of the names of all notes of a region's processes.
    pub(crate) fn notes_of(region: &str) -> String {
        format!("process:{region}:")
    }

    /// Whether this must be said anew, `said` being what was said last.
    pub(crate) fn is_news(&self, said: Option<&Process>) -> bool {
        said.is_none_or(|said| said.config != self.config || self.at.abs_diff(said.at) >= SAY_US)
    }

    /// Whether it has been silent for so long that it is taken for gone.
    pub(crate) fn is_silent(&self) -> bool {
        clock::now().0.abs_diff(self.at) >= SILENT_US
    }
}

/// Names this process: as it was told, else by its machine and number.
pub(crate) fn id(instance: Option<&str>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let id = match instance {
        Some(instance) => instance.to_owned(),
        None => format!("{}-{}", host.trim(), std::process::id()),
    };
    let fits = |it: char| if it.is_ascii_alphanumeric() || "._-".contains(it) { it } else { '_' };
    id.chars().take(80).map(fits).collect()
}
