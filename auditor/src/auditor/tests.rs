//! One key on one node, told as a story: what is there at each look, and what the auditor says.

use std::collections::VecDeque;

use expect_test::{Expect, expect};
use schemas::{config::Region, version::Version};

use super::*;

const LOOKS: Looks = Looks {
    in_flight: Duration::from_secs(1),
    late: Duration::from_secs(10),
    lost: Duration::from_secs(60),
};

pub(crate) fn placement() -> Placement {
    let text = include_str!("../../../region-configs/shop.toml");
    Placement::new(&Region::parse("shop.toml", text).unwrap().clusters).unwrap()
}

pub(super) fn at(ms: u64) -> Moment {
    Moment::after_start(Duration::from_millis(ms))
}

pub(super) fn changed(key: &str, rule: Option<&str>, committed: Moment) -> Changed {
    Changed {
        key: Key::new(key.to_owned()).unwrap(),
        rule: rule.map(Arc::from),
        value: None,
        transaction: Arc::from("tx"),
        number: Some(7),
        committed,
    }
}

/// What a node shows.
fn entry(cas: u64, value: u64) -> Sight {
    Sight::Entry { cas, value: Some(value), filled: None }
}

/// A change at 100 s by a rule (or none); a node whose counter stood at 1000 just before; then what is seen, and what the
/// database says, at each look.
fn check(rule: Option<&str>, looks: &[(Sight, Answer)], expect: Expect) {
    let mut auditor = Auditor::new(LOOKS, 10, placement());
    let mut story = Vec::new();
    let mut change = changed("user:1", rule, at(100_000));
    change.value = Some(ValueOf { rule: 0, parameters: Vec::new() });
    for (ms, cas) in [(99_950, 1000), (100_005, 1500)] {
        for node in 0..2 {
            auditor.step(at(ms), Event::Ticked { node: NodeId(node), cas });
        }
    }
    assert_eq!(auditor.step(at(100_010), Event::Changed(change)), []);
    for (sight, answer) in looks {
        let due = auditor.due().expect("another look");
        let mut actions = VecDeque::from(auditor.step(due, Event::Woke));
        while let Some(action) = actions.pop_front() {
            actions.extend(match action {
                Action::Look { watch, node, .. } => {
                    story.push(format!("{due} look"));
                    auditor.step(due, Event::Seen { watch, node, sight: *sight })
                }
                Action::Ask { watch, .. } => {
                    auditor.step(due, Event::Answered { watch, answer: *answer })
                }
                Action::Found(found) => {
                    let (name, age) = (found.verdict.name(), found.age.as_secs());
                    story
                        .push(format!("{name} after {age} s, database: {}", found.database.name()));
                    Vec::new()
                }
                Action::Judged { .. } => {
                    story.push("judged".to_owned());
                    Vec::new()
                }
                Action::Unjudged { why, .. } => {
                    story.push(format!("unjudged: {}", why.name()));
                    Vec::new()
                }
                Action::Skipped => Vec::new(),
            });
        }
    }
    assert_eq!(auditor.due(), None, "it goes on: {story:?}");
    assert_eq!(auditor.watching(), 0);
    expect.assert_eq(&story.join("\n"));
}

const GONE: (Sight, Answer) = (Sight::Absent, Answer::Value(2));
const FRESH: Sight = Sight::Entry { cas: 2000, value: Some(2), filled: None };

#[test]
fn fine() {
    check(
        Some("users"),
        &[GONE, GONE, (FRESH, Answer::Value(2))],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            judged"]],
    );
    check(
        Some("users"),
        &[(entry(7, 1), Answer::Value(2)), GONE, GONE],
        expect![[r"
            101.010s look
            in_flight after 1 s, database: another value
            110.010s look
            160.010s look
            judged"]],
    );
}

#[test]
fn late_and_lost() {
    let old = (entry(7, 1), Answer::Value(2));
    check(
        Some("users"),
        &[old, old, GONE],
        expect![[r"
            101.010s look
            in_flight after 1 s, database: another value
            110.010s look
            late after 10 s, database: not asked
            160.010s look
            judged"]],
    );
    check(
        Some("users"),
        &[old, old, old],
        expect![[r"
            101.010s look
            in_flight after 1 s, database: another value
            110.010s look
            late after 10 s, database: not asked
            160.010s look
            lost after 60 s, database: another value
            judged"]],
    );
}

/// Nobody knows whether it came just before the commit or just after it; but that it was never deleted.
#[test]
fn lost_as_far_as_can_be_told() {
    let stays = (entry(1200, 1), Answer::Value(2));
    check(
        Some("users"),
        &[stays; 4],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            170.010s look
            lost after 70 s, database: another value
            judged"]],
    );
}

#[test]
fn resurrected() {
    let planted = (entry(2000, 1), Answer::Value(2));
    check(
        Some("users"),
        &[GONE, GONE, planted, planted],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            170.010s look
            resurrected after 70 s, database: another value
            judged"]],
    );
    // What the second look at it no longer finds was being deleted.
    check(
        Some("users"),
        &[GONE, GONE, planted, GONE],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            170.010s look
            judged"]],
    );
    // A node of ours says by itself that it has stored what it should have refused.
    let filled = Version::new(1, 5);
    let stale = Sight::Entry { cas: 2000, value: None, filled };
    check(
        Some("users"),
        &[GONE, GONE, (stale, Answer::None)],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            resurrected after 60 s, database: not asked
            judged"]],
    );
}

#[test]
fn wrong_rule() {
    let old = (entry(7, 1), Answer::Value(2));
    check(
        None,
        &[old, old, old, old],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            170.010s look
            wrong_rule after 70 s, database: another value
            judged"]],
    );
    // Right at the first look, and wrong at the last, without a change of the key between.
    let right = (FRESH, Answer::Value(2));
    let wrong = (FRESH, Answer::Value(3));
    check(
        Some("users"),
        &[right, right, wrong, wrong],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            170.010s look
            wrong_rule after 70 s, database: another value
            judged"]],
    );
}

#[test]
fn what_cannot_be_told_is_not_judged() {
    let silent = (Sight::Unknown, Answer::None);
    check(
        Some("users"),
        &[silent, silent, silent],
        expect![[r"
            101.010s look
            110.010s look
            160.010s look
            unjudged: unreachable"]],
    );
    let mut auditor = Auditor::new(LOOKS, 10, placement());
    auditor.step(at(1), Event::Changed(changed("k", Some("r"), at(0))));
    let mut last = Vec::new();
    while let Some(due) = auditor.due() {
        last.clear();
        for action in auditor.step(due, Event::Woke) {
            if let Action::Look { watch, node, .. } = action {
                last = auditor.step(due, Event::Seen { watch, node, sight: entry(3, 1) });
            }
        }
    }
    let [Action::Unjudged { why: Unjudged::NotWatched, .. }] = last[..] else { panic!("{last:?}") };
}
