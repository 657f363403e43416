//! A map that never drops a lease.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::{at, check, version};
use crate::rules::{
    Token,
    leases::{Lease, Leases},
};
use schemas::{cure::Cure, version::Version};

#[derive(Clone, Debug)]
enum Op {
    Issue {
        key: u64,
        filled: u64,
    },
    /// Shows the token that was issued so many leases ago.
    Take {
        key: u64,
        ago: u64,
    },
    Void {
        key: u64,
        below: u64,
    },
    Pass {
        milliseconds: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..5_u64, 1..10_u64).prop_map(|(key, filled)| Op::Issue { key, filled }),
        (0..5_u64, 0..4_u64).prop_map(|(key, ago)| Op::Take { key, ago }),
        (0..5_u64, 1..12_u64).prop_map(|(key, below)| Op::Void { key, below }),
        (0..30_u64).prop_map(|milliseconds| Op::Pass { milliseconds }),
    ]
}

#[test]
fn only_the_newest_token_of_a_key_is_good() {
    let ops = (1..6_usize, vec(op(), 0..80));
    check(&ops, &[Cure::LeaseNewestOnly], |(entries_max, ops)| agrees(entries_max, &ops));
}

fn agrees(entries_max: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut leases = Leases::new(entries_max);
    let mut model: BTreeMap<u64, Lease> = BTreeMap::new();
    let (mut now, mut tokens, mut crowded) = (0, 0, false);
    for op in ops {
        match op {
            Op::Issue { key, filled } => {
                tokens += 1;
                let deadline = at(now).later(Duration::from_millis(20));
                let lease = Lease { token: Token(tokens), filled: version(*filled), deadline };
                leases.issue(*key, lease);
                model.insert(*key, lease);
            }
            Op::Take { key, ago } => {
                let token = Token(tokens.saturating_sub(*ago));
                let (got, meant) = (leases.take(*key, token), model.get(key).copied());
                let meant = meant.filter(|lease| lease.token == token);
                prop_assert!(got == meant || (crowded && got.is_none()), "{got:?} for {meant:?}");
                if meant.is_some() {
                    model.remove(key);
                }
            }
            Op::Void { key, below } => {
                leases.void_below(*key, version(*below));
                model.retain(|of, lease| of != key || lease.filled >= version(*below));
            }
            Op::Pass { milliseconds } => now += milliseconds,
        }
        crowded |= model.len() > entries_max;
        for key in 0..5 {
            let meant = model.get(&key).is_some_and(|lease| at(now) < lease.deadline);
            let held = leases.is_held(key, at(now));
            prop_assert!(held == meant || (crowded && !held), "{key} is held: {held}");
        }
    }
    prop_assert!(model.values().all(|lease| lease.filled > Version::ZERO));
    Ok(())
}
