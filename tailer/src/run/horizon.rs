//! [`Horizon`]: where the binlog ended when we connected. Pure.
//!
//! Transactions that were published come again from before the horizon, or not at all: then the server has lost them.
//! Behind it, their numbers are those of other transactions.

use std::{str, sync::Arc};

use binlog::dump::Piece;
use schemas::record::FilePosition;

use crate::position;

const HEARTBEAT: u8 = 27;

/// `None` where nobody may ask for it: then a heartbeat stands for it, because an idle server sends them at the end.
#[derive(Debug)]
pub(super) struct Horizon {
    end: Option<FilePosition>,
    passed: bool,
}

impl Horizon {
    pub(super) fn at(end: Option<FilePosition>) -> Horizon {
        Horizon { end, passed: false }
    }

    /// Whether `piece`, which comes after `position`, is the first one behind it.
    pub(super) fn is_passed_by(&mut self, piece: &Piece, position: Option<&FilePosition>) -> bool {
        let Piece::Event { header, body } = piece else { return false };
        if self.passed || header.end_position == 0 && header.kind != HEARTBEAT {
            return false; // It is in no file.
        }
        self.passed = match (&self.end, position) {
            (None, _) => header.kind == HEARTBEAT,
            // It names the place up to which everything was sent, or was left out because we have it.
            (Some(end), position) if header.kind == HEARTBEAT => {
                str::from_utf8(body).is_ok_and(|file| {
                    let from = position.filter(|at| *at.file == *file).map_or(0, |at| at.offset);
                    let at = place(&Arc::from(file), from, header.end_position);
                    position::compare(&at, end).is_ge()
                })
            }
            (Some(end), Some(position)) => {
                let start = header.end_position.saturating_sub(header.event_bytes);
                let at = place(&position.file, position.offset, start);
                position::compare(&at, end).is_ge()
            }
            (Some(_), None) => false,
        };
        self.passed
    }
}

/// The place in `file`, not before `from`, of which an event says the lower 32 bits.
fn place(file: &Arc<str>, from: u64, low: u32) -> FilePosition {
    const LOW: u64 = 0xffff_ffff;
    let offset = ((from & !LOW) | u64::from(low)).max(from);
    FilePosition { file: Arc::clone(file), offset }
}

#[cfg(test)]
mod tests {
    use binlog::frame::Header;
    use bytes::Bytes;

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

    fn heartbeat(file: &'static str, end_position: u32) -> Piece {
        let Piece::Event { header, .. } = event(HEARTBEAT, 0, end_position) else { unreachable!() };
        Piece::Event { header, body: Bytes::from_static(file.as_bytes()) }
    }

    #[test]
    fn a_server_that_has_nothing_more_to_send_is_at_its_end() {
        let mut horizon = Horizon::at(Some(at("b.000002", 500)));
        assert!(horizon.is_passed_by(&heartbeat("b.000002", 500), Some(&at("b.000001", 4))));
        let mut unknown = Horizon::at(None);
        assert!(!unknown.is_passed_by(&event(GTID, 100, 600), None));
        assert!(unknown.is_passed_by(&heartbeat("b.000002", 500), None));
    }

    #[test]
    fn it_is_passed_once() {
        let mut horizon = Horizon::at(Some(at("b.000002", 500)));
        let first = at("b.000001", 4);
        assert!(!horizon.is_passed_by(&event(GTID, 100, 9000), Some(&first)), "another file");
        let second = at("b.000002", 4);
        assert!(!horizon.is_passed_by(&event(GTID, 100, 599), Some(&second)), "it starts before");
        assert!(!horizon.is_passed_by(&heartbeat("b.000002", 499), Some(&second)), "not yet");
        assert!(!horizon.is_passed_by(&heartbeat("b.000001", 900), Some(&second)), "another file");
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
