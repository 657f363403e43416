//! MySQL's GTID sets.
//!
//! ```text
//! set      = [ piece *( "," piece ) ]
//! piece    = uuid 1*( ":" interval ) *( ":" tag 1*( ":" interval ) )
//!          / uuid 1*( ":" tag 1*( ":" interval ) )
//! interval = number [ "-" number ]               ; the second is not below the first
//! number   = decimal, 1 to 2^63 - 2
//! tag      = ( a-z / "_" ) *31( a-z / 0-9 / "_" )  ; MySQL 8.3 and newer
//! ```
//!
//! White space may stand around every part: servers put a line end after each comma. Letters of
//! either case are taken, and servers print them in lower case. A server takes a little more than
//! this (empty pieces, intervals that run backwards, UUIDs in braces) but prints none of it; here
//! such text is refused, because it is more likely to be damaged than meant.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, sync::Arc};

use super::{Gtid, GtidError, Uuid, intervals::Intervals, parse_decimal};

/// The highest number of a MySQL transaction.
pub const NUMBER_MAX: u64 = (1 << 63) - 2;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 32;

const BAD_NUMBER: &str = "expected a number from 1 to 9223372036854775806";
const BAD_TAG: &str =
    "expected an interval like 1-5, or a tag of at most 32 letters, digits and underscores";
const NO_INTERVAL: &str = "expected an interval like 1-5 after the UUID and after each tag";

/// `uuid[:tag]:1-5:7,...`
///
/// Invariant: no UUID without tags, no tag without numbers; so equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MysqlGtidSet {
    uuids: BTreeMap<Uuid, BTreeMap<Arc<str>, Intervals>>,
}

/// Whether `text` can be the tag of a GTID, in the form that servers print; the empty one, which
/// stands for no tag, is none.
pub fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    first && rest && text.len() <= TAG_BYTES_MAX
}

impl MysqlGtidSet {
    /// Parses the grammar above.
    pub fn parse(text: &str) -> Result<MysqlGtidSet, GtidError> {
        let mut ranges: BTreeMap<(Uuid, Arc<str>), Vec<RangeInclusive<u64>>> = BTreeMap::new();
        if !text.trim_ascii().is_empty() {
            for piece in text.split(',') {
                parse_piece(piece, |uuid, tag, range| {
                    ranges.entry((uuid, tag)).or_default().push(range);
                })?;
            }
        }
        let mut set = MysqlGtidSet::default();
        for ((uuid, tag), ranges) in ranges {
            set.uuids.entry(uuid).or_default().insert(tag, Intervals::from_unsorted(ranges));
        }
        Ok(set)
    }

    /// Adds one transaction; false, and nothing is added, if no server can have it.
    #[must_use = "false means that the transaction is not in the set"]
    pub fn insert(&mut self, uuid: Uuid, tag: &Arc<str>, number: u64) -> bool {
        let possible = (1..=NUMBER_MAX).contains(&number) && (tag.is_empty() || is_tag(tag));
        if possible {
            self.uuids.entry(uuid).or_default().entry(Arc::clone(tag)).or_default().insert(number);
        }
        possible
    }

    /// Whether the transaction is in the set.
    pub fn contains(&self, uuid: Uuid, tag: &str, number: u64) -> bool {
        self.intervals(uuid, tag).is_some_and(|ours| ours.contains(number))
    }

    /// Whether every transaction of `other` is in `self`.
    pub fn contains_all(&self, other: &MysqlGtidSet) -> bool {
        other.each().all(|(uuid, tag, theirs)| {
            self.intervals(uuid, tag).is_some_and(|ours| ours.contains_all(theirs))
        })
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &MysqlGtidSet) {
        for (uuid, tag, theirs) in other.each() {
            self.uuids.entry(uuid).or_default().entry(Arc::clone(tag)).or_default().union(theirs);
        }
    }

    /// Removes all of `other`.
    pub fn subtract(&mut self, other: &MysqlGtidSet) {
        self.uuids.retain(|uuid, tags| {
            tags.retain(|tag, ours| {
                if let Some(theirs) = other.intervals(*uuid, tag) {
                    ours.subtract(theirs);
                }
                !ours.is_empty()
            });
            !tags.is_empty()
        });
    }

    /// Keeps what is in both.
    pub fn intersect(&mut self, other: &MysqlGtidSet) {
        let mut ours_alone = self.clone();
        ours_alone.subtract(other);
        self.subtract(&ours_alone);
    }

    /// Whether there is nothing in the set.
    pub fn is_empty(&self) -> bool {
        self.uuids.is_empty()
    }

    /// Each UUID and tag (empty without one) with its ranges of numbers, all ascending: what a dump
    /// command is told. Both ends of a range belong to it.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &str, &[RangeInclusive<u64>])> {
        self.each().map(|(uuid, tag, intervals)| (uuid, &**tag, intervals.as_slice()))
    }

    /// The highest `n` such that all of `1..=n` are in the set; 0 if 1 is missing.
    pub fn contiguous_up_to(&self, uuid: Uuid, tag: &str) -> u64 {
        self.intervals(uuid, tag).map_or(0, Intervals::contiguous_up_to)
    }

    /// The highest number that `source` has of this UUID and tag, such that `self` has every number
    /// up to it that `source` has: gaps of the source itself do not count. 0 if `self` misses even
    /// the lowest. Never above the highest number of `source`, whatever `self` has.
    pub fn covered_up_to(&self, source: &MysqlGtidSet, uuid: Uuid, tag: &str) -> u64 {
        match (self.intervals(uuid, tag), source.intervals(uuid, tag)) {
            (Some(ours), Some(theirs)) => ours.covered_up_to(theirs),
            _ => 0,
        }
    }

    /// The highest number of this UUID and tag; 0 if there is none.
    pub fn highest(&self, uuid: Uuid, tag: &str) -> u64 {
        self.intervals(uuid, tag).map_or(0, Intervals::highest)
    }

    /// The highest `n` such that all of `number + 1..=n` are in the set; `number` if the next is missing.
    pub fn run_after(&self, uuid: Uuid, tag: &str, number: u64) -> u64 {
        self.intervals(uuid, tag).map_or(number, |ours| ours.run_after(number))
    }

    fn intervals(&self, uuid: Uuid, tag: &str) -> Option<&Intervals> {
        self.uuids.get(&uuid)?.get(tag)
    }

    fn each(&self) -> impl Iterator<Item = (Uuid, &Arc<str>, &Intervals)> {
        self.uuids
            .iter()
            .flat_map(|(uuid, tags)| tags.iter().map(|(tag, intervals)| (*uuid, tag, intervals)))
    }
}

/// In the form of the grammar above: sorted, each UUID once, without white space.
impl fmt::Display for MysqlGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (uuid, tags)) in self.uuids.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            uuid.fmt(f)?;
            for (tag, intervals) in tags {
                if !tag.is_empty() {
                    write!(f, ":{tag}")?;
                }
                for range in intervals.as_slice() {
                    write!(f, ":{}", range.start())?;
                    if range.end() > range.start() {
                        write!(f, "-{}", range.end())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Hands out the ranges of one piece, with the tag that each stands under.
fn parse_piece(
    piece: &str,
    mut each: impl FnMut(Uuid, Arc<str>, RangeInclusive<u64>),
) -> Result<(), GtidError> {
    let mut parts = piece.split(':').map(str::trim_ascii);
    let uuid = parts.next().unwrap_or_default().parse()?;
    let mut tag: Arc<str> = Arc::from("");
    let mut interval_due = true;
    for part in parts {
        if part.starts_with(|first: char| first.is_ascii_digit()) {
            each(uuid, Arc::clone(&tag), parse_interval(part)?);
            interval_due = false;
        } else {
            // The first tag may follow the UUID at once, but no tag may follow a tag.
            if interval_due && !tag.is_empty() {
                return Err(GtidError::new(piece, NO_INTERVAL));
            }
            tag = parse_tag(part)?;
            interval_due = true;
        }
    }
    if interval_due { Err(GtidError::new(piece, NO_INTERVAL)) } else { Ok(()) }
}

fn parse_tag(text: &str) -> Result<Arc<str>, GtidError> {
    let tag = text.to_ascii_lowercase();
    if is_tag(&tag) { Ok(tag.into()) } else { Err(GtidError::new(text, BAD_TAG)) }
}

fn parse_interval(text: &str) -> Result<RangeInclusive<u64>, GtidError> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (parse_number(start)?, parse_number(end)?);
    if start > end {
        return Err(GtidError::new(text, "the interval runs backwards"));
    }
    Ok(start..=end)
}

fn parse_number(text: &str) -> Result<u64, GtidError> {
    let text = text.trim_ascii();
    parse_decimal(text)
        .filter(|number| (1..=NUMBER_MAX).contains(number))
        .ok_or_else(|| GtidError::new(text, BAD_NUMBER))
}

/// Parses `uuid[:tag]:number`.
pub(super) fn parse_gtid(text: &str) -> Result<Gtid, GtidError> {
    let bad = || GtidError::new(text, "expected uuid:number or uuid:tag:number");
    let mut parts = text.trim_ascii().split(':');
    let (uuid, second, third, end) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (tag, number) = match (second, third, end) {
        (Some(number), None, None) => (Arc::from(""), number),
        (Some(tag), Some(number), None) => (parse_tag(tag)?, number),
        _ => return Err(bad()),
    };
    Ok(Gtid::Mysql { uuid: uuid.unwrap_or_default().parse()?, tag, number: parse_number(number)? })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const A: &str = "3E11FA47-71CA-11E1-9E33-C80AA9429562";
    const B: &str = "aa11fa47-71ca-11e1-9e33-c80aa9429562";

    /// Parses `text`, in which `A` and `B` stand for two UUIDs, and prints what came of it.
    fn check(text: &str, expect: Expect) {
        let parsed = MysqlGtidSet::parse(&text.replace('A', A).replace('B', B));
        if let Ok(set) = &parsed {
            assert_eq!(MysqlGtidSet::parse(&set.to_string()).as_ref(), Ok(set), "parses back");
        }
        let printed = parsed.map_or_else(|error| format!("error: {error}"), |set| set.to_string());
        expect.assert_eq(&printed.replace(&A.to_lowercase(), "A").replace(A, "A").replace(B, "B"));
    }

    #[test]
    fn what_servers_print() {
        check("", expect![""]);
        check(" \n", expect![""]);
        check("A:1", expect!["A:1"]);
        check("A:1-3:15-21,\nB:1", expect!["A:1-3:15-21,B:1"]);
        check(
            "A:1-3:15-21:domain_1:5-7:domain_2:8-52,\nB:b_0:1",
            expect!["A:1-3:15-21:domain_1:5-7:domain_2:8-52,B:b_0:1"],
        );
        check("A:1-9223372036854775806", expect!["A:1-9223372036854775806"]);
    }

    #[test]
    fn what_people_write() {
        check("B:7,A:4-6:Tag:2:1:_:9,A:1-3:5-9", expect!["A:1-9:_:9:tag:1-2,B:7"]);
        check(" A : 1 - 3 : 5 \r\n, B:\ttag : 001", expect!["A:1-3:5,B:tag:1"]);
        check("A:tag:1:tag:2:1", expect!["A:tag:1-2"]);
    }

    #[test]
    fn refusals_name_the_part() {
        check(
            "A",
            expect![[
                r#"error: "A" in a GTID or GTID set: expected an interval like 1-5 after the UUID and after each tag"#
            ]],
        );
        check(
            "A:1:tag",
            expect![[
                r#"error: "A:1:tag" in a GTID or GTID set: expected an interval like 1-5 after the UUID and after each tag"#
            ]],
        );
        check(
            "A:one:two:3",
            expect![[
                r#"error: "A:one:two:3" in a GTID or GTID set: expected an interval like 1-5 after the UUID and after each tag"#
            ]],
        );
        check(
            "A:",
            expect![[
                r#"error: "" in a GTID or GTID set: expected an interval like 1-5, or a tag of at most 32 letters, digits and underscores"#
            ]],
        );
        check(
            "A:t-g:1",
            expect![[
                r#"error: "t-g" in a GTID or GTID set: expected an interval like 1-5, or a tag of at most 32 letters, digits and underscores"#
            ]],
        );
        check(
            "A:0-3",
            expect![[
                r#"error: "0" in a GTID or GTID set: expected a number from 1 to 9223372036854775806"#
            ]],
        );
        check(
            "A:1-",
            expect![[
                r#"error: "" in a GTID or GTID set: expected a number from 1 to 9223372036854775806"#
            ]],
        );
        check(
            "A:1-2-3",
            expect![[
                r#"error: "2-3" in a GTID or GTID set: expected a number from 1 to 9223372036854775806"#
            ]],
        );
        check(
            "A:1-+3",
            expect![[
                r#"error: "+3" in a GTID or GTID set: expected a number from 1 to 9223372036854775806"#
            ]],
        );
        check(
            "A:9223372036854775807",
            expect![[
                r#"error: "9223372036854775807" in a GTID or GTID set: expected a number from 1 to 9223372036854775806"#
            ]],
        );
        check(
            "A:5-3",
            expect![[r#"error: "5-3" in a GTID or GTID set: the interval runs backwards"#]],
        );
        check("A:1,", expect![[r#"error: "" in a GTID or GTID set: expected a UUID, like A"#]]);
        check(
            "0-1-5",
            expect![[r#"error: "0-1-5" in a GTID or GTID set: expected a UUID, like A"#]],
        );
    }

    #[test]
    fn tags() {
        assert!(is_tag("_") && is_tag("a_9") && is_tag(&"a".repeat(TAG_BYTES_MAX)));
        assert!(
            !is_tag("") && !is_tag("9a") && !is_tag("A") && !is_tag(&"a".repeat(TAG_BYTES_MAX + 1))
        );
    }

    #[test]
    fn inserts_only_what_a_server_can_have() {
        let uuid = A.parse().unwrap();
        let mut set = MysqlGtidSet::default();
        assert!(!set.insert(uuid, &"".into(), 0));
        assert!(!set.insert(uuid, &"".into(), NUMBER_MAX + 1));
        assert!(!set.insert(uuid, &"Tag".into(), 1));
        assert!(set.is_empty());
        assert!(set.insert(uuid, &"".into(), NUMBER_MAX));
        assert!(set.contains(uuid, "", NUMBER_MAX) && !set.contains(uuid, "tag", NUMBER_MAX));
    }

    #[test]
    fn how_far() {
        let uuid = A.parse().unwrap();
        let set = |text: &str| MysqlGtidSet::parse(&text.replace('A', A)).unwrap();
        let replica = set("A:1-5:8-20:tag:2-3");
        assert_eq!(
            (replica.contiguous_up_to(uuid, ""), replica.contiguous_up_to(uuid, "tag")),
            (5, 0)
        );
        for (source, covered) in
            [("A:1-20", 5), ("A:1-5:8-12", 12), ("A:1-5:9:30", 9), ("A:6", 0), ("A:tag:1", 0)]
        {
            assert_eq!(replica.covered_up_to(&set(source), uuid, ""), covered, "{source}");
        }
    }

    #[test]
    fn single_gtids() {
        for text in [format!("{B}:7"), format!("{B}:tag:7")] {
            assert_eq!(parse_gtid(&text).unwrap().to_string(), text);
        }
        for bad in ["", B, &format!("{B}:"), &format!("{B}:1-2"), &format!("{B}:a:1:2"), "0-1-2"] {
            assert!(parse_gtid(bad).is_err(), "{bad}");
        }
    }
}
