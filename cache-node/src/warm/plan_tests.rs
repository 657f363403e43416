//! The plan against times, sources and readers of every kind.

use proptest::{collection::vec, prelude::*};

use super::*;

const PACE: Pace = Pace { deadline: Duration::from_secs(100), entries_per_s_max: 10_000 };

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

fn reads(gets: u64, hits: u64) -> Reads {
    Reads { gets, hits }
}

fn answer(looked: u32, entries: u64, reads: Reads, over: bool) -> Answer {
    Answer { state: GiverState::Gives, looked, refused: 0, entries, reads, over }
}

#[test]
fn nothing_is_asked_before_this_node_is_up_to_date_or_while_it_is_not() {
    let mut plan = Plan::new(1, PACE);
    assert_eq!(plan.tick(at(1000), Live::No, Reads::default()), None);
    assert!(!plan.helps());
    assert!(matches!(plan.next(at(1500), 0), Next::Wait(_)));
    plan.tick(at(2000), Live::Yes, Reads::default());
    assert!(plan.helps());
    assert_eq!(plan.next(at(2100), 0), Next::Walk(LOOKS));
    plan.tick(at(3000), Live::No, Reads::default());
    assert!(!plan.helps());
    assert!(matches!(plan.next(at(3500), 0), Next::Wait(_)));
}

#[test]
fn it_ends_when_the_rates_meet() {
    let mut plan = Plan::new(1, PACE);
    plan.answered(at(0), 0, &answer(100, 1000, reads(100_000, 90_000), false));
    let (mut own, mut ended) = (reads(0, 0), Vec::new());
    for second in 0..60 {
        // Colder than the warm one for twenty seconds.
        own = reads(own.gets + 1000, own.hits + if second < 20 { 500 } else { 890 });
        ended.extend(plan.tick(at(second * 1000), Live::Yes, own).map(|why| (second, why)));
    }
    let [(second, Ended::RatesMet { own, warm })] = ended[..] else { panic!("{ended:?}") };
    assert!((28..32).contains(&second), "{second}");
    assert_eq!((own, warm), (89, 90));
    assert_eq!(plan.next(at(70_000), 0), Next::Over);
}

#[test]
fn without_readers_it_ends_when_everything_was_copied_and_else_at_the_deadline() {
    for (over, expected) in [(true, (10, Ended::Copied)), (false, (100, Ended::Deadline))] {
        let mut plan = Plan::new(1, PACE);
        plan.answered(at(0), 0, &answer(1000, 1000, reads(10, 9), over));
        let mut ticks = (0..200).filter_map(|second| {
            let why = plan.tick(at(second * 1000), Live::Yes, reads(second, 0))?;
            Some((second, why))
        });
        assert_eq!(ticks.next(), Some(expected));
        assert_eq!(ticks.next(), None);
    }
}

#[test]
fn who_gives_nothing_is_asked_less_and_less() {
    let mut plan = Plan::new(1, PACE);
    plan.tick(at(0), Live::Yes, Reads::default());
    let mut now = 1000;
    let mut asked = Vec::new();
    while asked.len() < 8 {
        match plan.next(at(now), 0) {
            Next::Wait(wait) => now += u64::try_from(wait.as_millis()).unwrap(),
            Next::Walk(_) => {
                asked.push(now - 1000);
                let state = GiverState::Quarantined;
                plan.answered(at(now), 0, &Answer { state, ..answer(0, 0, reads(0, 0), false) });
            }
            Next::Over => panic!("it is not over"),
        }
    }
    assert_eq!(asked, [0, 250, 750, 1750, 3750, 7750, 12750, 17750]);
}

#[test]
fn a_walk_of_which_much_was_refused_is_done_again() {
    let mut plan = Plan::new(1, PACE);
    plan.tick(at(0), Live::Yes, Reads::default());
    let refused = Answer { refused: 11, ..answer(100, 100, reads(0, 0), true) };
    plan.answered(at(1000), 0, &refused);
    assert_eq!(plan.next(at(1000), 0), Next::Wait(AGAIN));
    assert_eq!(plan.next(at(3000), 0), Next::Walk(LOOKS));
    assert_eq!(plan.progress(at(3000)).looked, 0);
    plan.answered(at(3000), 0, &Answer { refused: 10, ..refused });
    assert_eq!(plan.next(at(9000), 0), Next::Walk(0));
}

#[test]
fn progress_and_what_is_left() {
    let mut plan = Plan::new(2, PACE);
    plan.tick(at(1000), Live::Yes, Reads::default());
    assert_eq!(plan.progress(at(2000)).seconds_left, None);
    plan.answered(at(11_000), 0, &answer(400, 1000, reads(0, 0), false));
    plan.answered(at(11_000), 1, &answer(600, 500, reads(0, 0), true));
    let expected = Progress { looked: 1000, entries: 1600, sources_up: 2, seconds_left: Some(6) };
    assert_eq!(plan.progress(at(11_000)), expected);
}

proptest! {
    /// Looks never exceed the rate and what was saved, and every source that gives is walked to its end.
    #[test]
    fn the_rate_is_kept_and_every_walk_ends(
        sizes in vec(0..3000_u64, 1..4),
        rate in 100..20_000_u32,
        troubles in vec(0..4_u8, 0..40),
    ) {
        let pace = Pace { deadline: Duration::from_secs(100_000), entries_per_s_max: rate };
        let mut plan = Plan::new(sizes.len(), pace);
        let (mut now, mut looked, mut left) = (0_u64, 0_u64, sizes.clone());
        let mut troubles = troubles.into_iter();
        plan.tick(at(0), Live::Yes, Reads::default());
        for _ in 0..20_000 {
            now += 50;
            for (source, left) in left.iter_mut().enumerate() {
                if let Next::Walk(looks) = plan.next(at(now), source) {
                    if troubles.next() == Some(0) {
                        plan.failed(at(now), source);
                        continue;
                    }
                    let seen = u64::from(looks).min(*left);
                    *left -= seen;
                    looked += seen;
                    let seen = u32::try_from(seen).unwrap();
                    plan.answered(at(now), source, &answer(seen, 0, reads(0, 0), *left == 0));
                }
            }
            let most = u64::from(rate) * (now + 500) / 1000 + u64::from(LOOKS_MIN);
            prop_assert!(looked <= most, "{looked} of {most}");
            if left.iter().all(|left| *left == 0) {
                break;
            }
        }
        prop_assert_eq!(left.iter().sum::<u64>(), 0);
        prop_assert_eq!(plan.progress(at(now)).entries, sizes.iter().sum::<u64>());
    }
}
