//! [`Heads`]: the newest records of each partition, in the writer's process. Whoever reads at the head finds them in memory, and the
//! disk is asked for older ones only.

use std::sync::{Mutex, PoisonError};

use protocol::relay::Raw;
use schemas::cursor::{Partition, Place};
use tokio::sync::watch;

use crate::{
    ReadLimit,
    window::{Found, Window},
};

/// Of payloads, of all partitions together.
const WINDOWS_BYTES_MAX: usize = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Heads {
    /// One for each partition; each lock guards one of them, and is held for copying only.
    windows: Vec<Mutex<Window>>,
    appended: watch::Sender<u64>,
}

impl Heads {
    /// Of a log that ends at these places.
    pub(super) fn new(ends: &[Place]) -> Heads {
        let bytes_max = WINDOWS_BYTES_MAX / ends.len().max(1);
        let windows = ends.iter().map(|end| Mutex::new(Window::new(*end, bytes_max))).collect();
        Heads { windows, appended: watch::Sender::new(0) }
    }

    /// Rises with every append; ends with the writer.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// These are on disk.
    pub(super) fn appended(&self, records: impl Iterator<Item = (Partition, Raw)>) {
        for (partition, raw) in records {
            if let Some(window) = self.windows.get(usize::from(partition.0)) {
                window.lock().unwrap_or_else(PoisonError::into_inner).push(raw);
            }
        }
        self.appended.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The records after `after`, if they are here.
    pub(super) fn after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Option<Vec<Raw>> {
        let window = self.windows.get(usize::from(partition.0))?;
        let window = window.lock().unwrap_or_else(PoisonError::into_inner);
        match window.after(after, limit) {
            Found::Entries(raws) => Some(raws),
            Found::Before | Found::Beyond => None,
        }
    }
}
