//! MariaDB's GTID sets, which its manual calls positions.
//!
//! ```text
//! set  = [ gtid *( "," gtid ) ]
//! gtid = domain "-" server "-" sequence     ; decimal: 32 bits, 32 bits, 64 bits
//! ```
//!
//! A GTID in a set stands for every transaction of its domain up to that sequence, whichever server
//! wrote it. `gtid_slave_pos` and `gtid_binlog_pos` hold each domain once. `gtid_binlog_state` holds
//! it once for each server that wrote, and its newest entry last: of several entries the highest
//! sequence wins, and of equal ones the last, which makes the state the same set as the position.
//!
//! A domain whose numbers ran backwards (`gtid_strict_mode=OFF`) breaks "everything up to": such a
//! set says too much. So nobody may skip a transaction because a set contains it; epochs rise there.

use std::{collections::BTreeMap, fmt};

use super::{Gtid, GtidError, parse_decimal};

/// `domain-server-sequence,...`: one per domain.
///
/// Invariant: no sequence is 0, which would stand for nothing. Equality heeds the server ids, and
/// [`MariaDbGtidSet::contains_all`] does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbGtidSet {
    domains: BTreeMap<u32, Newest>,
}

/// The newest transaction of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    server_id: u32,
    sequence: u64,
}

impl MariaDbGtidSet {
    /// Parses the grammar above. A sequence of 0, which servers let users set, adds nothing.
    pub fn parse(text: &str) -> Result<MariaDbGtidSet, GtidError> {
        let mut set = MariaDbGtidSet::default();
        if !text.trim_ascii().is_empty() {
            for piece in text.split(',') {
                let (domain, newest) = parse_piece(piece)?;
                set.raise(domain, newest);
            }
        }
        Ok(set)
    }

    /// Adds a transaction and all before it in its domain; false, and nothing is added, if the
    /// sequence is 0.
    #[must_use = "false means that the transaction is not in the set"]
    pub fn insert(&mut self, domain: u32, server_id: u32, sequence: u64) -> bool {
        self.raise(domain, Newest { server_id, sequence });
        sequence > 0
    }

    /// Whether the domain's transactions up to and with `sequence` are in the set.
    pub fn contains(&self, domain: u32, sequence: u64) -> bool {
        (1..=self.up_to(domain)).contains(&sequence)
    }

    /// Whether every transaction of `other` is in `self`.
    pub fn contains_all(&self, other: &MariaDbGtidSet) -> bool {
        other.domains.iter().all(|(domain, theirs)| theirs.sequence <= self.up_to(*domain))
    }

    /// Adds all of `other`; of equal sequences, the server id is `other`'s.
    pub fn union(&mut self, other: &MariaDbGtidSet) {
        for (domain, newest) in &other.domains {
            self.raise(*domain, *newest);
        }
    }

    /// Removes the domains of which `other` has everything. A domain of which it has less stays
    /// whole, because a set cannot hold an end without its beginning.
    pub fn subtract(&mut self, other: &MariaDbGtidSet) {
        self.domains.retain(|domain, ours| ours.sequence > other.up_to(*domain));
    }

    /// Keeps what is in both: of each domain, the lower of the two sequences.
    pub fn intersect(&mut self, other: &MariaDbGtidSet) {
        self.domains.retain(|domain, _| other.domains.contains_key(domain));
        for (domain, ours) in &mut self.domains {
            if let Some(theirs) = other.domains.get(domain)
                && theirs.sequence < ours.sequence
            {
                *ours = *theirs;
            }
        }
    }

    /// Of `domain`, keeps nothing behind this transaction.
    pub(super) fn lower(&mut self, domain: u32, server_id: u32, sequence: u64) {
        self.domains.remove(&domain);
        self.raise(domain, Newest { server_id, sequence });
    }

    /// Whether there is nothing in the set.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// The highest sequence of `domain`; 0 if there is none.
    pub fn up_to(&self, domain: u32) -> u64 {
        self.domains.get(&domain).map_or(0, |newest| newest.sequence)
    }

    /// How far `self` has what `source` has of `domain`: the lower of the two highest sequences.
    pub fn covered_up_to(&self, source: &MariaDbGtidSet, domain: u32) -> u64 {
        self.up_to(domain).min(source.up_to(domain))
    }

    /// Each domain with the server id and sequence of its newest transaction, ascending by domain.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.domains.iter().map(|(domain, newest)| (*domain, newest.server_id, newest.sequence))
    }

    fn raise(&mut self, domain: u32, newest: Newest) {
        if newest.sequence > 0 && newest.sequence >= self.up_to(domain) {
            self.domains.insert(domain, newest);
        }
    }
}

/// In the form of the grammar above, sorted by domain, without white space.
impl fmt::Display for MariaDbGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (domain, server_id, sequence)) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{domain}-{server_id}-{sequence}")?;
        }
        Ok(())
    }
}

fn parse_piece(piece: &str) -> Result<(u32, Newest), GtidError> {
    let mut parts = piece.trim_ascii().split('-');
    let domain = parts.next().and_then(parse_decimal);
    let server_id = parts.next().and_then(parse_decimal);
    let sequence = parts.next().and_then(parse_decimal);
    match (domain, server_id, sequence, parts.next()) {
        (Some(domain), Some(server_id), Some(sequence), None) => {
            Ok((domain, Newest { server_id, sequence }))
        }
        _ => Err(GtidError::new(piece, "expected domain-server-sequence, like 0-1-100")),
    }
}

/// Parses `domain-server-sequence`.
pub(super) fn parse_gtid(text: &str) -> Result<Gtid, GtidError> {
    let (domain, Newest { server_id, sequence }) = parse_piece(text)?;
    if sequence == 0 {
        return Err(GtidError::new(text, "sequences begin at 1"));
    }
    Ok(Gtid::MariaDb { domain, server_id, sequence })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expect: Expect) {
        let parsed = MariaDbGtidSet::parse(text);
        if let Ok(set) = &parsed {
            assert_eq!(MariaDbGtidSet::parse(&set.to_string()).as_ref(), Ok(set), "parses back");
        }
        expect.assert_eq(
            &parsed.map_or_else(|error| format!("error: {error}"), |set| set.to_string()),
        );
    }

    #[test]
    fn text_form() {
        check("", expect![""]);
        check("0-1-5", expect!["0-1-5"]);
        check(
            "7-1-5,0-4294967295-18446744073709551615",
            expect!["0-4294967295-18446744073709551615,7-1-5"],
        );
        check(" 0-1-5 ,\n1-2-7", expect!["0-1-5,1-2-7"]);
        check("1-1-0", expect![""]);
    }

    #[test]
    fn the_binlog_state_is_the_position() {
        check("0-1-1,3-7-1,3-8-2", expect!["0-1-1,3-8-2"]);
        check("0-1-1,3-8-2,3-7-1,3-9-2", expect!["0-1-1,3-9-2"]);
    }

    #[test]
    fn refusals_name_the_part() {
        check(
            "0-1-5,",
            expect![[
                r#"error: "" in a GTID or GTID set: expected domain-server-sequence, like 0-1-100"#
            ]],
        );
        check(
            "0-1-5, 0-1",
            expect![[
                r#"error: "0-1" in a GTID or GTID set: expected domain-server-sequence, like 0-1-100"#
            ]],
        );
        check(
            "0-1-2-3",
            expect![[
                r#"error: "0-1-2-3" in a GTID or GTID set: expected domain-server-sequence, like 0-1-100"#
            ]],
        );
        check(
            "0-1-+5",
            expect![[
                r#"error: "0-1-+5" in a GTID or GTID set: expected domain-server-sequence, like 0-1-100"#
            ]],
        );
        check(
            "4294967296-1-1",
            expect![[
                r#"error: "4294967296-1-1" in a GTID or GTID set: expected domain-server-sequence, like 0-1-100"#
            ]],
        );
        check(
            "0-1-18446744073709551616",
            expect![[
                r#"error: "0-1-18446744073709551616" in a GTID or GTID set: expected domain-server-sequence, like 0-1-100"#
            ]],
        );
    }

    #[test]
    fn how_far() {
        let set = |text| MariaDbGtidSet::parse(text).unwrap();
        assert_eq!(set("0-1-5,1-1-9").up_to(1), 9);
        assert_eq!(set("0-1-5").covered_up_to(&set("0-2-7"), 0), 5);
        assert_eq!(set("0-1-9").covered_up_to(&set("0-2-7"), 0), 7);
        assert_eq!(set("0-1-9").covered_up_to(&set("1-2-7"), 1), 0);
    }

    #[test]
    fn single_gtids() {
        assert_eq!(parse_gtid("0-1-18").unwrap().to_string(), "0-1-18");
        assert!(parse_gtid("0-1-0").is_err() && parse_gtid("0-1-18,1-1-1").is_err());
        assert!(!MariaDbGtidSet::default().insert(0, 1, 0));
    }
}
