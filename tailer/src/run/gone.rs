//! What nobody can read any more: decides, at each connection, how much of the past must be given up. Pure.

use schemas::{
    gtid::GtidSet,
    record::{Checkpoint, EpochStart, FilePosition, Origin},
};

use crate::{epochs::writer, position::file_number, preflight::Report, tailer::Mode};

/// Changes that are lost to us, and where reading goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) executed: GtidSet,
    pub(super) position: Option<FilePosition>,
    pub(super) reason: String,
}

/// What is missing between `ours` and what the server of `report` still has. `refused` is what it said when it was
/// last asked for its binlog from `ours` on: then there must be something, even if its variables do not show it.
pub(super) fn gone(report: &Report, ours: &Checkpoint, refused: Option<&str>) -> Option<Gone> {
    let everything = |reason: &str| {
        let (executed, position) = (report.server.executed.clone(), report.end.clone());
        Some(Gone { executed, position, reason: reason.to_owned() })
    };
    if ours.executed.dialect() != report.dialect {
        return everything("the checkpoint is of another kind of server");
    }
    if report.mode == Mode::Position {
        return gone_files(report, ours, refused).or_else(|| refused.and_then(everything));
    }
    let by_position = |epoch: &EpochStart| matches!(epoch.origin, Origin::Positions { .. });
    if ours.epoch.as_ref().is_some_and(by_position) {
        return everything("GTIDs were switched on, and our position is not one of them");
    }
    if ours.executed.contains_all(&report.server.purged) {
        return refused.and_then(everything);
    }
    // What is gone, and no more: the rest is still read.
    let mut executed = ours.executed.clone();
    if !executed.union(&report.server.purged) {
        return everything("the purged transactions are of another kind than ours");
    }
    let reason = format!("the server has purged its binlog up to {}", report.server.purged);
    Some(Gone { executed, position: None, reason })
}

fn gone_files(report: &Report, ours: &Checkpoint, refused: Option<&str>) -> Option<Gone> {
    let from = |position: Option<&FilePosition>, reason: &str| {
        let (executed, position) = (ours.executed.clone(), position.cloned());
        Some(Gone { executed, position, reason: reason.to_owned() })
    };
    let same_server =
        ours.epoch.as_ref().is_none_or(|epoch| writer(&epoch.origin) == report.server_id);
    let Some(position) = ours.position.as_ref().filter(|_| same_server) else {
        return from(
            report.end.as_ref(),
            "without GTIDs a position means nothing to another server",
        );
    };
    let number = file_number(&position.file);
    let is_before = |at: &FilePosition| number < file_number(&at.file);
    let is_behind = |at: &FilePosition| number > file_number(&at.file);
    if report.start.as_ref().is_some_and(is_before) {
        return from(
            report.start.as_ref(),
            "the server has purged binlog files that were not read",
        );
    }
    if report.end.as_ref().is_some_and(is_behind) {
        return from(report.start.as_ref(), "the server has begun its binlog anew");
    }
    // The file is there, and what we ask of it is not.
    refused.and_then(|reason| from(report.end.as_ref(), reason))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use schemas::{gtid::Dialect, version::Version};

    use super::*;
    use crate::{preflight::Role, tailer::Server};

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        let dialect =
            if text.contains(':') || text.is_empty() { Dialect::Mysql } else { Dialect::MariaDb };
        GtidSet::parse(dialect, text).unwrap()
    }

    fn at(file: u32, offset: u64) -> FilePosition {
        FilePosition { file: format!("binlog.{file:06}").into(), offset }
    }

    /// A server with files 3 to 5 that has executed 1-9 and purged 1-`purged`.
    fn report(mode: Mode, purged: u64) -> Report {
        let origin = Origin::Positions { server_id: 1 };
        let executed = set(&format!("{UUID}:1-9"));
        Report {
            findings: Vec::new(),
            dialect: Dialect::Mysql,
            version: "9.7.0".to_owned(),
            mode,
            server_id: 1,
            server: Server {
                origin,
                next_number: 10,
                executed,
                purged: set(&format!("{UUID}:1-{purged}")),
                predecessor: None,
            },
            role: Role::Writer,
            cascades: None,
            disguised: Vec::new(),
            start: Some(at(3, 4)),
            end: Some(at(5, 900)),
        }
    }

    fn ours(executed: &str, position: Option<FilePosition>, server_id: u32) -> Checkpoint {
        let by_gtid = Origin::Mysql { uuid: UUID.parse().unwrap(), tag: "".into(), server_id };
        let epoch = EpochStart {
            source: "s".into(),
            epoch: 1,
            origin: if executed.is_empty() { Origin::Positions { server_id } } else { by_gtid },
            first: 1,
            before: set(""),
            lossless: true,
        };
        Checkpoint {
            source: Arc::from("s"),
            executed: set(executed),
            position,
            epoch: Some(epoch),
            version: Version::ZERO,
            recent: Vec::new(),
        }
    }

    fn check(report: &Report, ours: &Checkpoint, refused: Option<&str>, expect: Expect) {
        let shown = gone(report, ours, refused).map_or_else(String::new, |gone| {
            let at = gone.position.map_or_else(|| "-".to_owned(), |at| at.to_string());
            format!("{} at {at}: {}", gone.executed.to_string().replace(UUID, "U"), gone.reason)
        });
        expect.assert_eq(&shown);
    }

    #[test]
    fn only_what_was_purged_is_given_up() {
        let ours = |upto| ours(&format!("{UUID}:1-{upto}"), None, 1);
        check(&report(Mode::Gtid, 4), &ours(4), None, expect![""]);
        check(
            &report(Mode::Gtid, 4),
            &ours(3),
            None,
            expect![
                "U:1-4 at -: the server has purged its binlog up to 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4"
            ],
        );
        check(&report(Mode::Gtid, 4), &ours(20), None, expect![""]);
        check(
            &report(Mode::Gtid, 4),
            &ours(7),
            Some("it said no"),
            expect!["U:1-9 at binlog.000005:900: it said no"],
        );
        check(
            &report(Mode::Gtid, 4),
            &ours(2),
            Some("it said no"),
            expect![
                "U:1-4 at -: the server has purged its binlog up to 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4"
            ],
        );
    }

    #[test]
    fn positions_are_no_gtids() {
        check(
            &report(Mode::Gtid, 4),
            &ours("", Some(at(4, 7)), 1),
            None,
            expect![
                "U:1-9 at binlog.000005:900: GTIDs were switched on, and our position is not one of them"
            ],
        );
    }

    #[test]
    fn another_kind_of_server_gives_up_everything() {
        check(
            &report(Mode::Gtid, 4),
            &ours("0-1-5", None, 1),
            None,
            expect!["U:1-9 at binlog.000005:900: the checkpoint is of another kind of server"],
        );
    }

    #[test]
    fn files() {
        let check = |server_id, position: Option<FilePosition>, refused, expect| {
            check(&report(Mode::Position, 1), &ours("", position, server_id), refused, expect);
        };
        check(1, Some(at(3, 7)), None, expect![""]);
        check(1, Some(at(5, 900)), None, expect![""]);
        check(
            1,
            Some(at(2, 7)),
            None,
            expect![" at binlog.000003:4: the server has purged binlog files that were not read"],
        );
        check(
            1,
            Some(at(6, 7)),
            None,
            expect![" at binlog.000003:4: the server has begun its binlog anew"],
        );
        check(
            2,
            Some(at(3, 7)),
            None,
            expect![
                " at binlog.000005:900: without GTIDs a position means nothing to another server"
            ],
        );
        check(
            1,
            None,
            None,
            expect![
                " at binlog.000005:900: without GTIDs a position means nothing to another server"
            ],
        );
        check(
            1,
            Some(at(5, 901)),
            Some("it said no"),
            expect![" at binlog.000005:900: it said no"],
        );
    }
}
