//! Random histories of nodes behind a router: they leave, stand still, are too busy, answer late and come back, while readers are slow
//! and a row changes. Whoever reads through the router never gets what he could not have got before. Each cure of the router that can
//! be missed here is.

use client::route::{Condition, Op, Outcome, health::Event};
use fastrand::Rng;
use schemas::cure::Cure;

use crate::{
    fleet::{Ours, honest},
    race::Ending,
    routed::{Fleet, GUTTER, HOME, Row, STAND_IN},
};

const SEEDS: u64 = 3000;
const STEPS: usize = 120;

/// Stock nodes, which know nothing but what they are told.
fn stock(route: &str, seed: u64) -> Ending {
    let (mut rng, mut fleet) = (Rng::with_seed(seed), Fleet::new(route));
    let mut slow: Vec<(Row, u64)> = Vec::new();
    for _ in 0..STEPS {
        let at = [HOME, STAND_IN][rng.usize(..2)];
        match rng.u8(..16) {
            0..=3 => {
                let got = fleet.read();
                if got != fleet.row {
                    return Err(format!("a reader gets {got}, the row says {}", fleet.row));
                }
            }
            4 | 5 => {
                fleet.change();
            }
            6 | 7 => {
                let answer = fleet.ask(Op::LeaseGet, 0, 0);
                if answer.outcome == Outcome::NotFound && answer.token > 1 {
                    slow.push((fleet.row, answer.token));
                }
            }
            8 | 9 if !slow.is_empty() => {
                let (row, token) = slow.swap_remove(rng.usize(..slow.len()));
                fleet.ask(Op::LeaseSet, row, token);
            }
            10 => fleet.leaves(at),
            11 => fleet.answers_again(at),
            12 => fleet.returns(at),
            13 => fleet.nodes[at].busy = !fleet.nodes[at].busy,
            14 => fleet.probe(at),
            15 if fleet.router.is(at, Condition::Down) => {
                fleet.router.tell(at, Event::Ended(Outcome::Hit));
            }
            _ => {}
        }
        honest(&mut fleet)?;
    }
    Ok(())
}

/// Nodes of ours: nobody reads what he has seen replaced.
fn ours(seed: u64) -> Ending {
    let (mut rng, mut ours) = (Rng::with_seed(seed), Ours::new());
    for _ in 0..STEPS / 2 {
        match rng.u8(..10) {
            0..=2 => ours.never_goes_back()?,
            3 | 4 => ours.commit(),
            5 => ours.stands_still(),
            6 => ours.goes_on(),
            7 => ours.connects(),
            8 if !ours.away => ours.probe(),
            9 => ours.answers_late(),
            _ => {}
        }
        ours.pass(rng.u64(1..700));
    }
    Ok(())
}

fn first_bad(tell: impl Fn(u64) -> Ending) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| tell(seed).err().map(|why| (seed, why)))
}

#[test]
fn stock_nodes_behind_a_router() {
    let routes = [GUTTER, "kind = \"all-fastest\"\nchildren = [\"a\", \"b\"]"];
    for route in routes {
        assert_eq!(first_bad(|seed| stock(route, seed)), None, "{route}");
        for cure in [Cure::FailedChangeIsMissed, Cure::MissedKeepsFromReads] {
            let found = cure.off(|| first_bad(|seed| stock(route, seed)));
            assert!(found.is_some(), "nobody misses {cure:?}: {route}");
        }
    }
    for cure in [Cure::TokenGoesBack, Cure::TokenAsksItsNode, Cure::DeletesReachEveryRead] {
        let found = cure.off(|| first_bad(|seed| stock(GUTTER, seed)));
        assert!(found.is_some(), "nobody misses {cure:?}");
    }
}

#[test]
fn nodes_of_ours_behind_a_router() {
    assert_eq!(first_bad(ours), None);
    for cure in [Cure::ReturnAsksNews, Cure::ReturnAsksProbe] {
        let found = cure.off(|| first_bad(ours));
        assert!(found.is_some(), "nobody misses {cure:?}");
    }
}
