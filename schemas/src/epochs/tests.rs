//! The table against histories that are written out, and against an obvious model of one promotion.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::gtid::{Dialect, Uuid};

const OLD: &str = "00000000-0000-0000-0000-0000000000aa";
const NEW: &str = "00000000-0000-0000-0000-0000000000bb";

fn mysql(text: &str) -> GtidSet {
    let text = text.replace("old", OLD).replace("new", NEW);
    let text = text.replace("errant", "00000000-0000-0000-0000-0000000000ee");
    GtidSet::parse(Dialect::Mysql, &text).unwrap()
}

fn start(epoch: u16, uuid: &str, first: u64, before: &str) -> EpochStart {
    let uuid: Uuid = uuid.parse().unwrap();
    EpochStart {
        source: "s".into(),
        epoch,
        origin: Origin::Mysql { uuid, tag: "".into(), server_id: 1 },
        first,
        before: mysql(before),
        lossless: false,
    }
}

/// The old primary wrote 1 to 10, of which 1 to 7 survived; then the new one wrote.
fn promotion() -> EpochTable {
    let mut table = EpochTable::default();
    assert!(table.learn(start(1, OLD, 1, "")));
    assert!(table.learn(start(2, NEW, 1, "old:1-7")));
    assert!(!table.learn(start(2, NEW, 5, "old:1-9")));
    table
}

fn show(standing: Standing) -> String {
    let Standing { position, highest, foreign } = standing;
    let highest = if highest == Version::MAX { "?".to_owned() } else { highest.to_string() };
    format!("{position} {highest}{}", if foreign { " foreign" } else { "" })
}

fn check(table: &EpochTable, source: &str, sets: &[&str], expect: Expect) {
    let line =
        |has: &&str| format!("{has:<24} {}\n", show(table.standing(&mysql(has), &mysql(source))));
    expect.assert_eq(&sets.iter().map(line).collect::<String>());
}

#[test]
fn a_promotion() {
    let sets = [
        "",
        "old:1-3",
        "old:1-7",
        "old:1-10",
        "old:1-7,new:1-2",
        "old:1-7,new:1:3",
        "old:1-7,new:2",
        "old:1-5:7",
        "old:1-6,new:1",
        "old:1-7,new:1-2,errant:1",
        "old:1-10,new:1-2",
        "errant:1",
    ];
    check(
        &promotion(),
        "old:1-7,new:1-2",
        &sets,
        expect![[r"
                                 1.0 0.0
        old:1-3                  1.3 1.3
        old:1-7                  2.0 1.7
        old:1-10                 1.7 ? foreign
        old:1-7,new:1-2          2.2 2.2
        old:1-7,new:1:3          2.1 2.3
        old:1-7,new:2            2.0 2.2
        old:1-5:7                1.5 1.7
        old:1-6,new:1            1.6 2.1
        old:1-7,new:1-2,errant:1 1.7 ? foreign
        old:1-10,new:1-2         1.7 ? foreign
        errant:1                 1.0 ? foreign
    "]],
    );
    assert_eq!(promotion().last_before(2).to_string(), "1.7");
    assert_eq!(promotion().last_before(1), Version::ZERO);
}

/// The source never used 3, and nobody knows yet what it has beyond 6.
#[test]
fn gaps_of_the_source_do_not_count() {
    let mut table = EpochTable::default();
    table.learn(start(1, OLD, 1, ""));
    check(
        &table,
        "old:1-2:4-6",
        &["old:1-2", "old:1-2:4", "old:1-2:4-8", "old:1-2:4-6:8", "old:1-2:5-8"],
        expect![[r"
        old:1-2                  1.2 1.2
        old:1-2:4                1.4 1.4
        old:1-2:4-8              1.8 1.8
        old:1-2:4-6:8            1.6 1.8
        old:1-2:5-8              1.2 1.8
    "]],
    );
}

/// A server that had been the primary before numbers on where it was; and an epoch that was opened by force.
#[test]
fn an_origin_may_return() {
    let mut table = promotion();
    table.learn(start(3, OLD, 8, "old:1-7,new:1-4"));
    table.learn(start(4, OLD, 12, "old:1-11,new:1-4"));
    let sets = [
        "old:1-7,new:1-3",
        "old:1-7,new:1-4",
        "old:1-9,new:1-4",
        "old:1-11,new:1-4",
        "old:1-13,new:1-4",
        "old:1-13,new:1-3",
    ];
    check(
        &table,
        "old:1-13,new:1-4",
        &sets,
        expect![[r"
        old:1-7,new:1-3          2.3 2.3
        old:1-7,new:1-4          3.7 2.4
        old:1-9,new:1-4          3.9 3.9
        old:1-11,new:1-4         4.11 3.11
        old:1-13,new:1-4         4.13 4.13
        old:1-13,new:1-3         2.3 4.13
    "]],
    );
}

#[test]
fn mariadb_domains() {
    let set = |text: &str| GtidSet::parse(Dialect::MariaDb, text).unwrap();
    let epoch = |epoch, server_id, first, before: &str| EpochStart {
        origin: Origin::MariaDb { domain: 0, server_id },
        before: set(before),
        ..start(epoch, OLD, first, "")
    };
    let mut table = EpochTable::default();
    table.learn(epoch(1, 1, 1, ""));
    table.learn(epoch(2, 2, 8, "0-1-7"));
    let mut lines = String::new();
    for has in ["", "0-1-3", "0-1-7", "0-1-9", "0-2-9", "0-2-9,1-5-2"] {
        lines += &format!("{has:<12} {}\n", show(table.standing(&set(has), &set("0-2-9"))));
    }
    expect![[r"
                     1.0 0.0
        0-1-3        1.3 1.3
        0-1-7        2.7 1.7
        0-1-9        1.7 ? foreign
        0-2-9        2.9 2.9
        0-2-9,1-5-2  1.7 ? foreign
    "]]
    .assert_eq(&lines);
    // What the first server has lost is foreign, also when the domain is past its numbers.
    table.learn(epoch(3, 3, 13, "0-2-12"));
    let mut lines = String::new();
    for has in ["0-1-7", "0-1-9", "0-2-9", "0-2-14", "0-3-14", "0-1-14"] {
        lines += &format!("{has:<12} {}\n", show(table.standing(&set(has), &set("0-3-14"))));
    }
    expect![[r"
        0-1-7        2.7 1.7
        0-1-9        1.7 ? foreign
        0-2-9        2.9 2.9
        0-2-14       2.12 ? foreign
        0-3-14       3.14 3.14
        0-1-14       1.7 ? foreign
    "]]
    .assert_eq(&lines);
}

proptest! {
    /// History: old numbers `1..=wrote`, of which `1..=cut` survived, then `1..=new`. A server that has any set of
    /// these stands where the surviving history, in order, is first missing something.
    #[test]
    fn the_position_is_what_is_there_without_a_hole(
        wrote in 1..8_u64, lost in 0..4_u64, new in 0..6_u64, has_old in 0..256_u32, has_new in 0..64_u32,
    ) {
        let cut = wrote.saturating_sub(lost).max(1);
        let mut table = EpochTable::default();
        table.learn(start(1, OLD, 1, ""));
        table.learn(start(2, NEW, 1, &format!("old:1-{cut}")));
        let pick = |bits: u32, of: u64, name: &str| {
            (1..=of).filter(|number| bits >> number & 1 == 1).map(|number| format!("{name}:{number}")).collect::<Vec<_>>()
        };
        let (olds, news) = (pick(has_old, wrote, "old"), pick(has_new, new, "new"));
        let has = mysql(&[olds.clone(), news.clone()].concat().join(","));
        let foreign = (cut + 1..=wrote).any(|number| has_old >> number & 1 == 1);
        let old_run = (1..=cut).take_while(|number| has_old >> number & 1 == 1).last().unwrap_or(0);
        let new_run = (1..=new).take_while(|number| has_new >> number & 1 == 1).last().unwrap_or(0);
        let expected = if old_run == cut && !foreign { Version::new(2, new_run) } else { Version::new(1, old_run) };
        let source = mysql(&if new > 0 { format!("old:1-{cut},new:1-{new}") } else { format!("old:1-{cut}") });
        let standing = table.standing(&has, &source);
        prop_assert_eq!(Some(standing.position), expected);
        prop_assert_eq!(standing.foreign, foreign);
        prop_assert!(standing.position <= standing.highest || standing.position.sequence() == 0);
        if !foreign {
            let highest = news.last().map(|_| 2).or(olds.last().map(|_| 1)).unwrap_or(0);
            prop_assert_eq!(standing.highest.epoch(), highest);
        }
    }
}

/// A client names what it has just committed.
#[test]
fn a_number_is_of_its_old_epoch_only_if_it_survived() {
    let mut table = promotion();
    table.learn(start(3, OLD, 8, "old:1-7,new:1-4"));
    table.learn(start(4, NEW, 3, "old:1-9,new:1-2"));
    let version = |server: &str, number| {
        let gtid = Gtid::Mysql { uuid: server.parse().unwrap(), tag: "".into(), number };
        table.version_of(&gtid, &mysql("old:1-9,new:1-9")).map(|version| version.to_string())
    };
    assert_eq!(version(OLD, 7).as_deref(), Some("1.7"));
    assert_eq!(version(OLD, 9).as_deref(), Some("3.9"));
    // Lost; or of a primary that has returned, and whose epoch is not announced yet.
    assert_eq!(version(OLD, 10), None);
    assert_eq!(version(NEW, 2).as_deref(), Some("2.2"));
    assert_eq!(version(NEW, 3).as_deref(), Some("4.3"));
    // A third server has written, and its epoch is not announced yet.
    let gtid = Gtid::Mysql { uuid: NEW.parse().unwrap(), tag: "".into(), number: 3 };
    assert_eq!(table.version_of(&gtid, &mysql("old:1-9,new:1-9,errant:1")), None);
}
