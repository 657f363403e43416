//! [`Horizon`]: where the binlog ended when we connected. Pure.
//!
//! Transactions that were published and that the server does not show come again from before the horizon, or not at all:
//! then the server has lost them. Behind it, their numbers are those of other transactions.

use std::sync::Arc;

use binlog::{dump::Piece, frame::Header};
use bytes::Bytes;
use schemas::record::FilePosition;

use crate::position;

const HEARTBEAT: u8 = 27;

/// What a server says at the end of its binlog.
pub(super) const END: Piece = Piece::Event {
    header: Header {
        timestamp_s: 0,
        kind: HEARTBEAT,
        server_id: 0,
        event_bytes: 0,
        end_position: 0,
        flags: 0,
    },
    body: Bytes::new(),
};

/// `None` once it was passed, or where nobody may ask for it.
#[derive(Debug)]
pub(super) struct Horizon(Option<FilePosition>);

impl Horizon {
    pub(super) fn at(end: Option<FilePosition>) -> Horizon {
        Horizon(end)
    }

    /// Whether `piece`, which comes after `position`, is the first one behind it.
    pub(super) fn is_passed_by(&mut self, piece: &Piece, position: Option<&FilePosition>) -> bool {
        const LOW: u64 = 0xffff_ffff;
        let (Some(end), Some(position)) = (&self.0, position) else { return false };
        let Piece::Event { header, .. } = piece else { return false };
        if header.end_position == 0 || header.kind == HEARTBEAT {
            return false; // It is in no file.
        }
        let low = u64::from(header.end_position.saturating_sub(header.event_bytes));
        let offset = ((position.offset & !LOW) | low).max(position.offset);
        let start = FilePosition { file: Arc::clone(&position.file), offset };
        let passed = position::compare(&start, end).is_ge();
        if passed {
            self.0 = None;
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GTID: u8 = 33;

    fn at(file: &str, offset: u64) -> FilePosition {
        FilePosition { file: file.into(), offset }
    }

    fn event(kind: u8, event_bytes: u32, end_position: u32) -> Piece {
        let header =
            Header { timestamp_s: 0, kind, server_id: 1, event_bytes, end_position, flags: 0 };
        Piece::Event { header, body: Bytes::new() }
    }

    #[test]
    fn it_is_passed_once() {
        let mut horizon = Horizon::at(Some(at("b.000002", 500)));
        let first = at("b.000001", 4);
        assert!(!horizon.is_passed_by(&event(GTID, 100, 9000), Some(&first)), "another file");
        let second = at("b.000002", 4);
        assert!(!horizon.is_passed_by(&event(GTID, 100, 599), Some(&second)), "it starts before");
        assert!(!horizon.is_passed_by(&event(HEARTBEAT, 0, 900), Some(&second)), "no event");
        assert!(!horizon.is_passed_by(&event(GTID, 100, 0), Some(&second)), "in no file");
        assert!(!horizon.is_passed_by(&event(GTID, 100, 600), None), "nobody knows where");
        assert!(horizon.is_passed_by(&event(GTID, 100, 600), Some(&second)));
        assert!(!horizon.is_passed_by(&event(GTID, 100, 700), Some(&second)), "only once");
    }

    #[test]
    fn files_grow_beyond_4_gib() {
        let mut horizon = Horizon::at(Some(at("b.000002", (1 << 32) + 50)));
        let before = at("b.000002", (1 << 32) - 10);
        assert!(!horizon.is_passed_by(&event(GTID, 100, 90), Some(&before)));
        let behind = at("b.000002", (1 << 32) + 60);
        assert!(horizon.is_passed_by(&event(GTID, 100, 160), Some(&behind)));
    }
}
