//! [`follow`]: what the next record of a partition is to a reader who stands at a place. Pure.
//!
//! Sequences are dense within a term, and the first record of a term names the last one of the term
//! before. So a reader notices every hole: records that were removed or lost before he read them. What
//! was lost after he had read it is no hole to him.

use schemas::{cure::Cure, cursor::Place, record::Record};

use crate::seam::Entry;

/// What a record is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The one that follows.
    Next,
    /// One that he has passed; or one of an older term, whose writer did not know that it was over. Its successor began
    /// at a checkpoint that was before, and says it again: so it is skipped.
    Late,
    /// Records before this one are missing.
    Hole,
}

/// What `entry` is to a reader who has applied everything up to `cursor`.
pub fn follow(cursor: Place, entry: &Entry) -> Step {
    follow_place(cursor, entry.place, || match &entry.record {
        Record::TermStart(start) => Some(start.previous),
        _ => None,
    })
}

/// The same of a record at `place`, which names the end of the term before, if it begins one.
pub(crate) fn follow_place(
    cursor: Place,
    place: Place,
    previous: impl FnOnce() -> Option<Place>,
) -> Step {
    let passed = if Cure::PlaceHasTerm.works() {
        place <= cursor || place.term < cursor.term
    } else {
        place.sequence <= cursor.sequence
    };
    if passed {
        return if Cure::LateRecordSkipped.works() { Step::Late } else { Step::Next };
    }
    let joins = if place.term == cursor.term {
        Some(place.sequence) == cursor.sequence.checked_add(1)
    } else {
        place.sequence == 1 && previous().is_some_and(|previous| previous <= cursor)
    };
    if joins || !Cure::FollowerSeesHole.works() { Step::Next } else { Step::Hole }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use schemas::{
        cursor::Term,
        record::{Floor, Scope, TermStart, UnixMicros},
        version::Version,
    };

    use super::*;

    fn place(text: &str) -> Place {
        let (term, sequence) = text.split_once(':').unwrap();
        Place { term: Term(term.parse().unwrap()), sequence: sequence.parse().unwrap() }
    }

    /// `2:1<1:7` is the first record of term 2, which follows 1:7; every other record is a floor.
    fn entry(text: &str) -> Entry {
        let (at, previous) = text.split_once('<').map_or((text, None), |(at, of)| (at, Some(of)));
        let floor = Floor {
            source: "s".into(),
            scope: Scope::All,
            version: Version::ZERO,
            reason: "test".into(),
        };
        let record = previous.map_or(Record::Floor(floor), |of| {
            Record::TermStart(TermStart { previous: place(of) })
        });
        Entry { place: place(at), appended_at: UnixMicros(0), record }
    }

    #[test]
    fn every_kind_of_step() {
        let mut table = String::new();
        for (cursor, next) in [
            ("0:0", "1:1<0:0"),
            ("1:7", "1:8"),
            ("1:7", "1:9"),
            ("1:7", "1:7"),
            ("1:7", "1:3"),
            ("1:7", "2:1<1:7"),
            ("1:9", "2:1<1:7"),
            ("1:6", "2:1<1:7"),
            ("1:7", "2:2"),
            ("2:3", "1:8"),
            ("2:3", "1:2"),
            ("1:7", "3:1<2:4"),
            ("1:7", "3:1<1:7"),
        ] {
            let step = follow(place(cursor), &entry(next));
            table.push_str(&format!("{cursor} then {next}: {step:?}\n"));
        }
        expect![[r"
            0:0 then 1:1<0:0: Next
            1:7 then 1:8: Next
            1:7 then 1:9: Hole
            1:7 then 1:7: Late
            1:7 then 1:3: Late
            1:7 then 2:1<1:7: Next
            1:9 then 2:1<1:7: Next
            1:6 then 2:1<1:7: Hole
            1:7 then 2:2: Hole
            2:3 then 1:8: Late
            2:3 then 1:2: Late
            1:7 then 3:1<2:4: Hole
            1:7 then 3:1<1:7: Next
        "]]
        .assert_eq(&table);
    }
}
