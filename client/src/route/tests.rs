//! Every kind of route and every default, as tables: what is sent where, what is missed, and whose answer is the reply.

mod choices;
mod copies;
mod files;
mod model;
mod return_of_a_node;
mod stand_ins;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
};

use expect_test::Expect;

use super::{config::RetriesFile, health::Retries, *};

/// Nodes are called by the first part of their address. All are ready that are not listed.
#[derive(Default)]
struct Town {
    conditions: RefCell<BTreeMap<TargetId, Condition>>,
    tokens: Cell<u32>,
    retries: RefCell<Option<Retries>>,
}

impl Nodes for Town {
    fn condition(&self, target: TargetId) -> Condition {
        self.conditions.borrow().get(&target).copied().unwrap_or(Condition::Ready)
    }

    fn take(&self, _: LimitId) -> bool {
        let left = self.tokens.get().checked_sub(1);
        self.tokens.set(left.unwrap_or(0));
        left.is_some()
    }

    fn retry(&self) -> bool {
        self.retries.borrow_mut().as_mut().is_none_or(|it| it.take(0))
    }
}

/// `a`, `b` and so on are pools of one node each.
fn routes(more: &str) -> Arc<Routes> {
    let mut pools = String::new();
    for name in 'a'..='e' {
        writeln!(pools, "[pool.{name}]\nservers = [\"{name}:1\"]").unwrap();
    }
    Arc::new(Routes::parse(&format!("start = \"start\"\n{more}\n{pools}")).unwrap())
}

fn name(routes: &Routes, target: TargetId) -> &str {
    let address = &routes.targets()[target.index()].address;
    address.split(':').next().unwrap_or(address)
}

fn targets(routes: &Routes) -> impl Iterator<Item = TargetId> {
    (0..u16::MAX).map(TargetId).take(routes.targets().len())
}

fn outcome(word: &str) -> Outcome {
    match word {
        "hit" => Outcome::Hit,
        "hot" => Outcome::HotMiss,
        "miss" | "not-found" => Outcome::NotFound,
        "stored" => Outcome::Stored,
        "not-stored" => Outcome::NotStored,
        "exists" => Outcome::Exists,
        "deleted" => Outcome::Deleted,
        "timeout" => Outcome::Failed(Failure::Timeout),
        "refused" => Outcome::Failed(Failure::ConnectError),
        "busy" => Outcome::Failed(Failure::Busy),
        word => panic!("no outcome: {word}"),
    }
}

fn op(word: &str) -> Op {
    *Op::ALL.iter().find(|op| op.to_string() == word).unwrap_or_else(|| panic!("no op: {word}"))
}

/// Nodes' answers, in the order in which they come: `a=hit b=timeout`; `a=down` and `a=behind` are so from the beginning.
/// Who is asked again answers with the next word for it. Shows each step.
fn play(routes: &Arc<Routes>, ask: &str, answers: &str, dice: u64) -> String {
    let (word, key) = ask.split_once(' ').expect("a command and a key");
    let ask = Ask { op: op(word), key: key.as_bytes() };
    let town = Town::default();
    let RetriesFile { share, burst } = routes.retries();
    *town.retries.borrow_mut() = Some(Retries::new(share, burst, 0));
    let mut come: Vec<(&str, &str)> = Vec::new();
    for answer in answers.split_whitespace() {
        let (node, word) = answer.split_once('=').expect("node=word");
        let target = targets(routes).find(|&at| name(routes, at) == node);
        let condition = match word {
            "down" => Condition::Down,
            "behind" => Condition::Behind,
            _ => {
                come.push((node, word));
                continue;
            }
        };
        town.conditions.borrow_mut().insert(target.expect("a node"), condition);
    }
    // With a first line that is not indented, so that all of them keep their indentation.
    let mut out = format!("{word}\n");
    let (mut errand, mut step) = match routes.direct(&ask, &town, dice) {
        None => Errand::begin(routes, &ask, &town, dice),
        Some(direct) => {
            let node = name(routes, direct.target);
            let at = come.iter().position(|it| it.0 == node);
            let (_, word) = at.map_or((node, "hit"), |at| come.remove(at));
            writeln!(out, "direct {node}: {word}").unwrap();
            if direct.ends_with(outcome(word)) {
                return out;
            }
            Errand::resume(routes, &ask, &town, dice, (direct, outcome(word)))
        }
    };
    let mut waiting: Vec<Send> = Vec::new();
    loop {
        show(&mut out, routes, &step);
        waiting.append(&mut step.sends);
        let next = come
            .iter()
            .position(|(node, _)| waiting.iter().any(|send| name(routes, send.target) == *node));
        let Some((node, word)) = next.map(|at| come.remove(at)) else { break };
        let at = waiting.iter().position(|send| name(routes, send.target) == node).unwrap();
        let send = waiting.remove(at);
        writeln!(out, "{node}: {word}").unwrap();
        step = errand.answered(&ask, &town, send.ticket, outcome(word));
        // A second answer to the same says nothing.
        assert_eq!(errand.answered(&ask, &town, send.ticket, Outcome::Hit), Step::default());
    }
    if !errand.is_over() {
        writeln!(out, "not over").unwrap();
    }
    out
}

fn show(out: &mut String, routes: &Routes, step: &Step) {
    for Missed { target, .. } in &step.missed {
        writeln!(out, "  missed by {}", name(routes, *target)).unwrap();
    }
    for Send { ticket, target, change } in &step.sends {
        let Change { strip, form, ttl_s_max } = change;
        let strip = if *strip > 0 { format!(" strip {strip}") } else { String::new() };
        let ttl = ttl_s_max.map_or(String::new(), |ttl| format!(" for {ttl} s"));
        let form = match form {
            Form::AsAsked => String::new(),
            form => format!(" {form:?}"),
        };
        writeln!(out, "  {ticket:?} to {}{form}{strip}{ttl}", name(routes, *target)).unwrap();
    }
    if let Some(reply) = &step.reply {
        writeln!(out, "  reply {reply:?}").unwrap();
    }
}

/// Each request with the answers to it, one after the other.
#[track_caller]
fn check(routes: &Arc<Routes>, cases: &[(&str, &str)], expect: Expect) {
    let mut out = String::new();
    for (ask, answers) in cases {
        let bar = if answers.is_empty() { "" } else { " | " };
        let played = play(routes, ask, answers, 0);
        let (_, steps) = played.split_once('\n').expect("a first line");
        write!(out, "{ask}{bar}{answers}\n{steps}").unwrap();
    }
    expect.assert_eq(&out);
}
