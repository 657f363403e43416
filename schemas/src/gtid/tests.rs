//! Sets of both dialects, against sets of single transactions.

#![expect(clippy::arithmetic_side_effects, reason = "sets")]

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

/// Few numbers, so that sets meet often.
const MODEL_NUMBER_MAX: u64 = 12;

/// Everything that the model can hold: two origins, for MySQL with and without a tag.
fn universe(dialect: Dialect) -> Vec<Gtid> {
    let numbers = 1..=MODEL_NUMBER_MAX;
    match dialect {
        Dialect::Mysql => numbers
            .flat_map(|number| {
                [(1, ""), (1, "tag"), (2, "")].map(|(uuid, tag)| Gtid::Mysql {
                    uuid: Uuid([uuid; 16]),
                    tag: tag.into(),
                    number,
                })
            })
            .collect(),
        Dialect::MariaDb => numbers
            .flat_map(|sequence| {
                [0, 1].map(|domain| Gtid::MariaDb { domain, server_id: 1, sequence })
            })
            .collect(),
    }
}

/// Every transaction of the model that `set` should hold after `gtids` were inserted.
fn model(dialect: Dialect, gtids: &[Gtid]) -> BTreeSet<Gtid> {
    let held = |candidate: &Gtid| match dialect {
        Dialect::Mysql => gtids.contains(candidate),
        Dialect::MariaDb => {
            gtids.iter().any(|gtid| origin(gtid) == origin(candidate) && gtid >= candidate)
        }
    };
    universe(dialect).into_iter().filter(held).collect()
}

fn origin(gtid: &Gtid) -> (u32, u32) {
    match gtid {
        Gtid::MariaDb { domain, server_id, .. } => (*domain, *server_id),
        Gtid::Mysql { .. } => unreachable!("asked for MariaDB only"),
    }
}

fn set_of(dialect: Dialect, gtids: &[Gtid]) -> GtidSet {
    let mut set = GtidSet::empty(dialect);
    for gtid in gtids {
        assert!(set.insert(gtid), "{gtid}");
    }
    set
}

fn held(set: &GtidSet) -> BTreeSet<Gtid> {
    universe(set.dialect()).into_iter().filter(|gtid| set.contains(gtid)).collect()
}

fn gtids(dialect: Dialect) -> impl Strategy<Value = Vec<Gtid>> {
    vec(prop::sample::select(universe(dialect)), 0..24)
}

fn two_sets() -> impl Strategy<Value = (Dialect, Vec<Gtid>, Vec<Gtid>)> {
    prop::sample::select(vec![Dialect::Mysql, Dialect::MariaDb])
        .prop_flat_map(|dialect| (Just(dialect), gtids(dialect), gtids(dialect)))
}

proptest! {
    #[test]
    fn agrees_with_a_set_of_transactions((dialect, one, two) in two_sets()) {
        let (a, b) = (set_of(dialect, &one), set_of(dialect, &two));
        let (model_a, model_b) = (model(dialect, &one), model(dialect, &two));
        prop_assert_eq!(held(&a), model_a.clone());
        prop_assert_eq!(a.is_empty(), model_a.is_empty());
        prop_assert_eq!(a.contains_all(&b), model_a.is_superset(&model_b));

        let mut union = a.clone();
        prop_assert!(union.union(&b));
        prop_assert_eq!(held(&union), &model_a | &model_b);

        let mut difference = a.clone();
        prop_assert!(difference.subtract(&b));
        prop_assert_eq!(difference.is_empty(), b.contains_all(&a));
        match dialect {
            Dialect::Mysql => prop_assert_eq!(held(&difference), &model_a - &model_b),
            Dialect::MariaDb => {
                prop_assert!(held(&difference).is_superset(&(&model_a - &model_b)));
                prop_assert!(a.contains_all(&difference));
            }
        }

        for set in [a, union, difference] {
            prop_assert_eq!(GtidSet::parse(dialect, &set.to_string()), Ok(set));
        }
    }

    #[test]
    fn parsing_never_panics(text in "[-:,0-9a-z \\n]{0,60}|\\PC{0,40}") {
        for dialect in [Dialect::Mysql, Dialect::MariaDb] {
            if let Ok(set) = GtidSet::parse(dialect, &text) {
                prop_assert_eq!(GtidSet::parse(dialect, &set.to_string()), Ok(set));
            }
            if let Ok(gtid) = Gtid::parse(dialect, &text) {
                prop_assert_eq!(Gtid::parse(dialect, &gtid.to_string()), Ok(gtid));
            }
        }
    }
}

#[test]
fn dialects_never_mix() {
    let mysql = GtidSet::parse(Dialect::Mysql, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3").unwrap();
    let mariadb = GtidSet::parse(Dialect::MariaDb, "0-1-3").unwrap();
    let gtid = Gtid::MariaDb { domain: 0, server_id: 1, sequence: 1 };
    let mut set = mysql.clone();
    assert!(!set.insert(&gtid) && !set.contains(&gtid));
    assert!(!set.union(&mariadb) && !set.subtract(&mariadb));
    assert_eq!(set, mysql);
    assert!(!mysql.contains_all(&mariadb));
    assert!(mysql.contains_all(&GtidSet::empty(Dialect::MariaDb)));
    assert_eq!(
        (mysql.dialect(), gtid.dialect(), gtid.number()),
        (Dialect::Mysql, Dialect::MariaDb, 1)
    );
}

#[test]
fn errors_stay_short() {
    let error = GtidSet::parse(Dialect::Mysql, &"x".repeat(1 << 20)).unwrap_err();
    assert_eq!(error.part.len(), PART_CHARS_MAX);
}
