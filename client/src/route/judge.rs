//! Which of several answers is the answer.

use super::{
    ask::{Class, Failure, Op, Outcome},
    errand::Reply,
    tree::Judge,
};

/// How a part of the way ended.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) reply: Reply,
}

/// The answer of all children together, as soon as it is certain; `None` for those that have not answered. A delete waits for all
/// of them, whatever the route: one that has not been answered could still be undone for a reader.
pub(super) fn decide(judge: Judge, op: Op, answers: &[Option<Answer>]) -> Option<Answer> {
    let is_whole = answers.iter().all(Option::is_some);
    if op.class() == Class::Delete && !is_whole {
        return None;
    }
    let mut known: Vec<&Answer> = answers.iter().flatten().collect();
    let mut count = answers.len();
    // Replicas that may not be read are not in the set that is read.
    let is_out = |answer: &Answer| answer.outcome == Outcome::Failed(Failure::Tko);
    if op.class() == Class::Read && !(is_whole && known.iter().all(|it| is_out(it))) {
        known.retain(|it| !is_out(it));
        count -= answers.iter().flatten().count() - known.len();
    }
    let worst = || known.iter().rev().max_by_key(|it| it.outcome);
    let best = || known.iter().min_by_key(|it| it.outcome);
    let found = match judge {
        Judge::Nth(at) => return answers.get(at).cloned().flatten(),
        Judge::Worst => is_whole.then(worst).flatten(),
        Judge::Fastest => best().filter(|it| is_whole || !is_failure(it)),
        Judge::Majority => most(&known, if is_whole { 1 } else { count / 2 + 1 }),
    };
    found.map(|&answer| answer.clone())
}

/// What most have answered, if they are at least so many; of equally many, the worse. All failures are one answer.
fn most<'a, 'b>(known: &'b [&'a Answer], votes_min: usize) -> Option<&'b &'a Answer> {
    let kind = |it: &Answer| if is_failure(it) { None } else { Some(it.outcome) };
    let votes = |of: &Answer| known.iter().filter(|it| kind(it) == kind(of)).count();
    let most = known.iter().rev().max_by_key(|it| (votes(it), it.outcome));
    most.filter(|it| votes(it) >= votes_min)
}

fn is_failure(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Failed(_))
}
