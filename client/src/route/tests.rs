//! Every kind of route and every default, as tables: what is sent where, what is missed, and whose answer is the reply.

mod files;
mod model;
mod return_of_a_node;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
};

use expect_test::{Expect, expect};

use super::*;

/// Nodes are called by the first part of their address. All are ready that are not listed.
#[derive(Default)]
struct Town {
    conditions: RefCell<BTreeMap<TargetId, Condition>>,
    tokens: Cell<u32>,
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
}

/// `a`, `b` and so on are pools of one node each.
fn routes(more: &str) -> Arc<Routes> {
    let pools: String =
        ('a'..='e').map(|name| format!("[pool.{name}]\nservers = [\"{name}:1\"]\n")).collect();
    match Routes::parse(&format!("start = \"start\"\n{more}\n{pools}")) {
        Ok(routes) => Arc::new(routes),
        Err(err) => panic!("{err}"),
    }
}

fn name(routes: &Routes, target: TargetId) -> &str {
    let address = &routes.targets()[target.index()].address;
    address.split(':').next().unwrap_or(address)
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
    let mut come: Vec<(&str, &str)> = Vec::new();
    for answer in answers.split_whitespace() {
        let (node, word) = answer.split_once('=').expect("node=word");
        let target = (0..routes.targets().len()).map(|at| TargetId(at as u16));
        let target = target.into_iter().find(|&at| name(routes, at) == node);
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
    let mut out = String::new();
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

#[track_caller]
fn check(routes: &Arc<Routes>, ask: &str, answers: &str, expect: Expect) {
    expect.assert_eq(&play(routes, ask, answers, 0));
}

#[test]
fn one_pool_needs_no_routes() {
    let routes = Arc::new(Routes::parse("[pool.main]\nservers = [\"a:1\"]").unwrap());
    check(
        &routes,
        "get k",
        "a=hit",
        expect![[r#"
        direct a: hit
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=down",
        expect![[r#"
              reply Local(Failed(Tko))
        "#]],
    );
    check(
        &routes,
        "get k",
        "a=behind",
        expect![[r#"
              reply Local(Failed(Tko))
        "#]],
    );
    check(
        &routes,
        "set k",
        "a=behind a=stored",
        expect![[r#"
        direct a: stored
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=down",
        expect![[r#"
              missed by a
              reply Local(Failed(Tko))
        "#]],
    );
    check(
        &routes,
        "lease-set k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
}

#[test]
fn failover() {
    let routes = routes("[route.start]\nkind = \"failover\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "get k",
        "a=miss",
        expect![[r#"
        direct a: miss
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=refused c=hit",
        expect![[r#"
        direct a: timeout
          Ticket(2) to b
        b: refused
          Ticket(3) to c
        c: hit
          reply Of { ticket: Ticket(3), place: Away }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=down b=down c=down",
        expect![[r#"
              reply Local(Failed(Tko))
        "#]],
    );
    check(
        &routes,
        "set k",
        "a=down b=stored",
        expect![[r#"
          missed by a
          Ticket(1) to b
        b: stored
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "cas k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "lease-get k",
        "a=timeout b=miss",
        expect![[r#"
        direct a: timeout
          Ticket(2) to b
        b: miss
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    check(
        &routes,
        "lease-set k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "b=deleted c=not-found a=timeout",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: deleted
        c: not-found
        a: timeout
          missed by a
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "c=down a=deleted b=not-found",
        expect![[r#"
          missed by c
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
}

#[test]
fn failover_for_some_errors_and_within_a_limit() {
    let some = "[route.start]\nkind = \"failover\"\nchildren = [\"a\", \"b\"]\n";
    let routes_of = |more: &str| routes(&format!("{some}{more}"));
    let timeouts = routes_of("errors = [\"timeout\"]");
    check(
        &timeouts,
        "get k",
        "a=busy",
        expect![[r#"
        direct a: busy
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &timeouts,
        "get k",
        "a=timeout b=hit",
        expect![[r#"
        direct a: timeout
          Ticket(2) to b
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    let by_class = routes_of("errors = { updates = [] }");
    check(
        &by_class,
        "get k",
        "a=busy b=hit",
        expect![[r#"
        direct a: busy
          Ticket(2) to b
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    check(
        &by_class,
        "set k",
        "a=busy",
        expect![[r#"
        direct a: busy
          missed by a
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    let limited = routes_of("limit = { rate = 1.0 }");
    assert_eq!(limited.limits().len(), 1);
    check(
        &limited,
        "get k",
        "a=timeout b=hit",
        expect![[r#"
        direct a: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
}

#[test]
fn gutter() {
    let routes = routes("[route.start]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"");
    // A miss is not looked for in the gutter.
    check(
        &routes,
        "get k",
        "a=miss",
        expect![[r#"
        direct a: miss
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=hit",
        expect![[r#"
        direct a: timeout
          Ticket(2) to b for 60 s
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    check(
        &routes,
        "set k",
        "a=down b=stored",
        expect![[r#"
          missed by a
          Ticket(1) to b for 60 s
        b: stored
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=down b=deleted",
        expect![[r#"
          missed by a
          Ticket(1) to b
        b: deleted
          reply Local(Failed(Tko))
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted b=timeout",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: timeout
          missed by b
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
}

#[test]
fn gutter_and_standby_of_a_pool() {
    let routes = routes(
        "[route.start]\nkind = \"random\"\nchildren = [\"main\"]\n[pool.main]\nservers = [\"m:1\"]\nstandby = \"a\"\ngutter = \"b\"",
    );
    check(
        &routes,
        "set k",
        "m=timeout a=timeout b=stored",
        expect![[r#"
        direct m: timeout
          missed by m
          Ticket(3) to a
        a: timeout
          missed by a
          Ticket(4) to b for 60 s
        b: stored
          reply Of { ticket: Ticket(4), place: Away }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "m=deleted a=deleted b=deleted",
        expect![[r#"
          Ticket(3) to m
          Ticket(4) to a
          Ticket(5) to b
        m: deleted
        a: deleted
        b: deleted
          reply Of { ticket: Ticket(3), place: Away }
    "#]],
    );
}

#[test]
fn miss_failover() {
    let routes =
        routes("[route.start]\nkind = \"miss-failover\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "get k",
        "a=hit",
        expect![[r#"
        direct a: hit
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=timeout c=hit",
        expect![[r#"
        direct a: miss
          Ticket(2) to b
        b: timeout
          Ticket(3) to c
        c: hit
          reply Of { ticket: Ticket(3), place: Away }
    "#]],
    );
    check(
        &routes,
        "lease-get k",
        "a=miss b=miss c=timeout",
        expect![[r#"
        direct a: miss
          Ticket(2) to b
        b: miss
          Ticket(3) to c
        c: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &routes,
        "set k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=not-found b=deleted c=not-found",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: not-found
        b: deleted
        c: not-found
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
}

#[test]
fn warm_up() {
    let routes = routes("[route.start]\nkind = \"warm-up\"\ncold = \"a\"\nwarm = \"b\"");
    check(
        &routes,
        "get k",
        "a=hit",
        expect![[r#"
        direct a: hit
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=hit a=stored",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
          reply Of { ticket: Ticket(2), place: Away }
        a: stored
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=miss",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=timeout",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=hit",
        expect![[r#"
        direct a: timeout
          Ticket(2) to b Look
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=miss",
        expect![[r#"
        direct a: timeout
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &routes,
        "gets k",
        "a=miss b=hit a=not-stored a=hit",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
        a: not-stored
          Ticket(4) to a
        a: hit
          reply Of { ticket: Ticket(4), place: Home }
    "#]],
    );
    check(
        &routes,
        "gat k",
        "a=miss b=hit a=timeout",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
        a: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &routes,
        "lease-get k",
        "a=hot",
        expect![[r#"
        direct a: hot
    "#]],
    );
    check(
        &routes,
        "lease-get k",
        "a=miss b=hit a=stored",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a LeaseSetOf { value: Ticket(2), token: Ticket(1) }
          reply Of { ticket: Ticket(2), place: Away }
        a: stored
    "#]],
    );
    check(
        &routes,
        "lease-get k",
        "a=miss b=miss",
        expect![[r#"
        direct a: miss
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
    "#]],
    );
    check(
        &routes,
        "set k",
        "a=timeout",
        expect![[r#"
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted",
        expect![[r#"
        direct a: deleted
    "#]],
    );
    let capped = self::routes(
        "[route.start]\nkind = \"warm-up\"\ncold = \"g\"\nwarm = \"c\"\nexptime_s = 100\n[route.g]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"",
    );
    check(
        &capped,
        "get k",
        "a=down b=miss c=hit b=stored",
        expect![[r#"
          Ticket(2) to b for 60 s
        b: miss
          Ticket(3) to c Look
        c: hit
          Ticket(4) to b AddOf(Ticket(3)) for 60 s
          reply Of { ticket: Ticket(3), place: Away }
        b: stored
    "#]],
    );
    check(
        &capped,
        "get k",
        "a=miss c=hit a=stored",
        expect![[r#"
        direct a: miss
          Ticket(3) to c Look
        c: hit
          Ticket(4) to a AddOf(Ticket(3)) for 100 s
          reply Of { ticket: Ticket(3), place: Away }
        a: stored
    "#]],
    );
}

#[test]
fn all_sync() {
    let routes = routes("[route.start]\nkind = \"all-sync\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "set k",
        "b=stored a=timeout c=stored",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: stored
        a: timeout
          missed by a
        c: stored
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "set k",
        "b=stored a=stored c=stored",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: stored
        a: stored
        c: stored
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=hit b=miss c=hit",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: hit
        b: miss
        c: hit
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    // A replica that may not be read is not in the set that is read.
    check(
        &routes,
        "get k",
        "a=down b=hit c=behind",
        expect![[r#"
          Ticket(1) to b
        b: hit
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=down b=down c=behind",
        expect![[r#"
              reply Local(Failed(Tko))
        "#]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted b=deleted c=down",
        expect![[r#"
          missed by c
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: deleted
          reply Local(Failed(Tko))
    "#]],
    );
}

#[test]
fn all_fastest() {
    let routes = routes("[route.start]\nkind = \"all-fastest\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "get k",
        "b=timeout a=miss c=hit",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: timeout
        a: miss
          reply Of { ticket: Ticket(1), place: Away }
        c: hit
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=behind b=timeout c=timeout",
        expect![[r#"
          Ticket(1) to b
          Ticket(2) to c
        b: timeout
        c: timeout
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "set k",
        "c=stored a=timeout b=stored",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        c: stored
          reply Of { ticket: Ticket(3), place: Away }
        a: timeout
          missed by a
        b: stored
    "#]],
    );
    check(
        &routes,
        "delete k",
        "c=not-found a=timeout b=deleted",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        c: not-found
        a: timeout
          missed by a
        b: deleted
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
}

#[test]
fn all_majority() {
    let routes = routes("[route.start]\nkind = \"all-majority\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "get k",
        "a=miss b=hit c=hit",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: miss
        b: hit
        c: hit
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=hit b=hit c=miss",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: hit
        b: hit
          reply Of { ticket: Ticket(1), place: Away }
        c: miss
    "#]],
    );
    check(
        &routes,
        "get k",
        "a=down b=timeout c=hit",
        expect![[r#"
          Ticket(1) to b
          Ticket(2) to c
        b: timeout
        c: hit
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "set k",
        "a=timeout b=refused c=stored",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: timeout
          missed by a
        b: refused
          missed by b
          reply Of { ticket: Ticket(1), place: Away }
        c: stored
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted b=deleted c=timeout",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: deleted
        b: deleted
        c: timeout
          missed by c
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
}

#[test]
fn selection() {
    let routes = routes(
        "[route.start]\nkind = \"prefix\"\nprefixes = { pop = \"a\", \"popular:\" = \"ops\", q = \"nobody\", r = \"error\" }\notherwise = \"c\"\n[route.ops]\nkind = \"operation\"\noperations = { delete = \"d\", lease-get = \"e\" }\notherwise = \"b\"\n[route.nobody]\nkind = \"null\"\n[route.error]\nkind = \"error\"\nmessage = \"not here\"",
    );
    check(
        &routes,
        "get popular:1",
        "b=hit",
        expect![[r#"
        direct b: hit
    "#]],
    );
    check(
        &routes,
        "delete popular:1",
        "d=deleted",
        expect![[r#"
        direct d: deleted
    "#]],
    );
    check(
        &routes,
        "lease-get popular:1",
        "e=hit",
        expect![[r#"
        direct e: hit
    "#]],
    );
    check(
        &routes,
        "get populous",
        "a=hit",
        expect![[r#"
        direct a: hit
    "#]],
    );
    check(
        &routes,
        "get po",
        "c=hit",
        expect![[r#"
        direct c: hit
    "#]],
    );
    check(
        &routes,
        "get q",
        "",
        expect![[r#"
              reply Local(NotFound)
        "#]],
    );
    check(
        &routes,
        "set q",
        "",
        expect![[r#"
              reply Local(NotStored)
        "#]],
    );
    check(
        &routes,
        "delete q",
        "",
        expect![[r#"
              reply Local(NotFound)
        "#]],
    );
    check(
        &routes,
        "get r",
        "",
        expect![[r#"
              reply Error("not here")
        "#]],
    );
}

#[test]
fn random() {
    let routes = routes("[route.start]\nkind = \"random\"\nchildren = [\"a\", \"b\"]");
    expect![[r#"
        direct b: hit
    "#]]
    .assert_eq(&play(&routes, "get k", "b=hit", 1));
    expect![[r#"
        direct b: timeout
          reply Of { ticket: Ticket(0), place: Away }
    "#]]
    .assert_eq(&play(&routes, "get k", "b=timeout", 3));
    expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(2), place: Away }
    "#]]
    .assert_eq(&play(&routes, "delete k", "a=deleted b=not-found", 1));
}

#[test]
fn roll_over_moves_each_key_once() {
    let at = |percent: f64| {
        routes(&format!(
            "[route.start]\nkind = \"roll-over\"\nfrom = \"a\"\nto = \"b\"\npercent = {percent:?}"
        ))
    };
    let steps = [0.0, 0.1, 1.0, 10.0, 50.0, 99.0, 100.0].map(at);
    let mut moved = [0; 7];
    for number in 0..10_000 {
        let key = format!("key:{number}");
        let ask = Ask { op: Op::Get, key: key.as_bytes() };
        let mut was = false;
        for (routes, moved) in steps.iter().zip(&mut moved) {
            let target = routes.direct(&ask, &Town::default(), 0).unwrap().target;
            let is = name(routes, target) == "b";
            assert!(is || !was, "{key} went back");
            was = is;
            *moved += i32::from(is);
        }
    }
    expect![[r#"
        [
            0,
            13,
            126,
            1005,
            4997,
            9899,
            10000,
        ]
    "#]]
    .assert_debug_eq(&moved);
    check(
        &at(0.0),
        "delete k",
        "a=deleted b=not-found",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &at(100.0),
        "delete k",
        "a=deleted b=not-found",
        expect![[r#"
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(2), place: Away }
    "#]],
    );
}

#[test]
fn hash_over_routes_and_a_pool_of_several_nodes() {
    let routes = routes(
        "[route.start]\nkind = \"hash\"\nchildren = [\"a\", \"b\", \"big\"]\n[pool.big]\nservers = [\"x:1\", \"y:1\", \"z:1\"]\nhashing = \"ketama\"",
    );
    let mut seen = BTreeMap::new();
    for number in 0..900 {
        let key = format!("key:{number}");
        let ask = Ask { op: Op::Get, key: key.as_bytes() };
        let target = routes.direct(&ask, &Town::default(), 0).unwrap().target;
        *seen.entry(name(&routes, target).to_owned()).or_insert(0) += 1;
    }
    expect![[r#"
        {
            "a": 302,
            "b": 307,
            "x": 81,
            "y": 96,
            "z": 114,
        }
    "#]]
    .assert_debug_eq(&seen);
}

#[test]
fn routing_prefixes() {
    let prefixes = "[prefix]\n\"/west/x/\" = \"a\"\n\"/west/y/\" = \"b\"\n\"/east/x/\" = \"c\"\n[route.start]\nkind = \"random\"\nchildren = [\"d\"]\n";
    let routes = routes(prefixes);
    check(
        &routes,
        "get k",
        "d=hit",
        expect![[r#"
        direct d: hit
    "#]],
    );
    check(
        &routes,
        "get /k",
        "d=hit",
        expect![[r#"
        direct d: hit
    "#]],
    );
    check(
        &routes,
        "get /west/y/k",
        "b=timeout",
        expect![[r#"
        direct b: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "#]],
    );
    check(
        &routes,
        "get /north/x/k",
        "",
        expect![[r#"
              reply Error("no such routing prefix")
        "#]],
    );
    check(
        &routes,
        "get /west/*/k",
        "b=hit a=miss",
        expect![[r#"
          Ticket(1) to a strip 8
          Ticket(2) to b strip 8
        b: hit
        a: miss
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    check(
        &routes,
        "delete /*/*/k",
        "a=deleted b=deleted c=timeout",
        expect![[r#"
          Ticket(1) to c strip 5
          Ticket(2) to a strip 5
          Ticket(3) to b strip 5
        a: deleted
        b: deleted
        c: timeout
          missed by c
          reply Of { ticket: Ticket(1), place: Away }
    "#]],
    );
    let lax = self::routes(&format!("unknown_prefix = \"start\"\n{prefixes}"));
    check(
        &lax,
        "get /north/x/k",
        "d=timeout",
        expect![[r#"
            direct d: timeout
              reply Of { ticket: Ticket(0), place: Away }
        "#]],
    );
}

#[test]
fn a_failure_in_a_nested_route_goes_up_one_level_at_a_time() {
    let routes = routes(
        "[route.start]\nkind = \"gutter\"\nnormal = \"both\"\ngutter = \"e\"\n[route.both]\nkind = \"all-sync\"\nchildren = [\"f\", \"c\"]\n[route.f]\nkind = \"failover\"\nchildren = [\"a\", \"b\"]",
    );
    check(
        &routes,
        "get k",
        "a=down b=timeout c=hit e=hit",
        expect![[r#"
          Ticket(3) to b
          Ticket(4) to c
        b: timeout
        c: hit
          Ticket(5) to e for 60 s
        e: hit
          reply Of { ticket: Ticket(5), place: Away }
    "#]],
    );
    check(
        &routes,
        "delete k",
        "a=down b=deleted c=deleted e=timeout",
        expect![[r#"
          missed by a
          Ticket(3) to b
          Ticket(4) to c
          Ticket(5) to e
        b: deleted
        c: deleted
        e: timeout
          missed by e
          reply Local(Failed(Tko))
    "#]],
    );
}

#[test]
fn explained() {
    let routes = routes(
        "[prefix]\n\"/west/x/\" = \"start\"\n[route.start]\nkind = \"prefix\"\nprefixes = { \"popular:\" = \"g\", \"w\" = \"warm\", \"m\" = \"move\" }\notherwise = \"all\"\n[route.g]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"\n[route.warm]\nkind = \"warm-up\"\ncold = \"a\"\nwarm = \"b\"\n[route.move]\nkind = \"roll-over\"\nfrom = \"a\"\nto = \"b\"\npercent = 50.0\n[route.all]\nkind = \"all-majority\"\nchildren = [\"a\", \"r\"]\n[route.r]\nkind = \"random\"\nchildren = [\"c\", \"d\"]",
    );
    let told = |ask: &str| {
        let (word, key) = ask.split_once(' ').unwrap();
        routes.explain(&Ask { op: op(word), key: key.as_bytes() })
    };
    let all = [
        "get popular:1",
        "delete /west/x/popular:1",
        "get w",
        "set w",
        "get m1",
        "get x",
        "get /*/x/k",
        "get /no/x/k",
    ];
    expect![[r#"
        get popular:1
          start: by prefix: popular:
            g: the next one on failure, for 60 s at most
              a: pool, ch3
                a:1
              b: pool, ch3
                b:1

        delete /west/x/popular:1
          sent as popular:1
          start: by prefix: popular:
            g: the next one on failure, for 60 s at most
              (all are asked, number 1 answers)
              a: pool, ch3
                a:1
              b: pool, ch3
                b:1

        get w
          start: by prefix: w
            warm: warm-up
              a: pool, ch3
                a:1
              b: pool, ch3
                b:1

        set w
          start: by prefix: w
            warm: warm-up
              a: pool, ch3
                a:1

        get m1
          start: by prefix: m
            move: roll-over: moved
              b: pool, ch3
                b:1

        get x
          start: by prefix: none fits
            all: all
              (what most answer counts)
              a: pool, ch3
                a:1
              r: any of these
                c: pool, ch3
                  c:1
                d: pool, ch3
                  d:1

        get /*/x/k
          sent as k to all; the first answers
            start: by prefix: none fits
              all: all
                (what most answer counts)
                a: pool, ch3
                  a:1
                r: any of these
                  c: pool, ch3
                    c:1
                  d: pool, ch3
                    d:1

        get /no/x/k
          SERVER_ERROR no such routing prefix
    "#]]
    .assert_eq(&all.map(told).join("\n"));
}
