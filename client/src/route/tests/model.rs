//! Errands through trees, conditions and outcomes of all sorts, against what must hold for each of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::{
    super::config::{FailoverErrors, PoolFile, RouteFile, RoutesFile},
    *,
};

const POOLS: usize = 4;
const NODES: usize = 3;

#[derive(Clone, Debug)]
struct Plot {
    file: RoutesFile,
    op: Op,
    key: String,
    dice: u64,
    /// For each node.
    conditions: Vec<Condition>,
    /// For each sending, in the order in which they are answered, and which of those that wait that is.
    answers: Vec<(Outcome, usize)>,
}

fn pool(number: usize) -> PoolFile {
    let servers = (0..NODES).map(|node| format!("\"p{number}n{node}:1\"")).collect::<Vec<_>>();
    toml::from_str(&format!("servers = [{}]", servers.join(","))).expect("a pool")
}

/// Route `at` may name pools and the routes after it.
fn route(at: usize, kind: usize, picks: &[usize], count: usize) -> RouteFile {
    let name = |pick: &usize| {
        let later = count - at - 1;
        let pick = pick % (POOLS + later);
        if pick < POOLS { format!("p{pick}") } else { format!("r{}", at + 1 + pick - POOLS) }
    };
    let children: Vec<String> = picks.iter().map(name).collect();
    let (one, other) = (children[0].clone(), children[children.len() - 1].clone());
    match kind {
        0 => RouteFile::Failover { children, errors: FailoverErrors::default(), limit: None },
        1 => RouteFile::Gutter {
            normal: one,
            gutter: other,
            exptime_s: 60,
            errors: FailoverErrors::default(),
            limit: None,
        },
        2 => RouteFile::MissFailover { children },
        3 => RouteFile::RollOver { from: one, to: other, percent: 50.0, salt: String::new() },
        4 => RouteFile::Random { children },
        5 => RouteFile::AllSync { children },
        6 => RouteFile::AllFastest { children },
        7 => RouteFile::AllMajority { children },
        _ => RouteFile::WarmUp { cold: one, warm: other, exptime_s: None },
    }
}

fn file(kinds: usize) -> impl Strategy<Value = RoutesFile> {
    vec((0..kinds, vec(any::<usize>(), 1..4)), 1..5).prop_map(|parts| {
        let count = parts.len();
        let routes = parts.iter().enumerate();
        RoutesFile {
            start: Some("r0".to_owned()),
            pool: (0..POOLS).map(|number| (format!("p{number}"), pool(number))).collect(),
            route: routes
                .map(|(at, (kind, picks))| (format!("r{at}"), route(at, *kind, picks, count)))
                .collect(),
            ..RoutesFile::default()
        }
    })
}

fn plot(kinds: usize) -> impl Strategy<Value = Plot> {
    let condition = prop_oneof![
        3 => Just(Condition::Ready),
        1 => Just(Condition::Behind),
        1 => Just(Condition::Down),
    ];
    let outcome = prop_oneof![
        Just(Outcome::Hit),
        Just(Outcome::NotFound),
        Just(Outcome::Failed(Failure::Timeout)),
        Just(Outcome::Failed(Failure::ConnectError)),
        Just(Outcome::HotMiss),
    ];
    (
        file(kinds),
        0..Op::ALL.len(),
        "[a-z]{1,8}",
        any::<u64>(),
        vec(condition, POOLS * NODES),
        vec((outcome, any::<usize>()), 600),
    )
        .prop_map(|(file, op, key, dice, conditions, answers)| Plot {
            file,
            op: Op::ALL[op],
            key,
            dice,
            conditions,
            answers,
        })
}

/// What came of an errand.
#[derive(Debug, Default)]
struct Story {
    reply: Option<Outcome>,
    asked: Vec<TargetId>,
    missed: BTreeSet<TargetId>,
    /// Nodes with an answer that is no failure.
    answered: BTreeSet<TargetId>,
}

fn tell(plot: &Plot, routes: &Arc<Routes>) -> Result<Story, TestCaseError> {
    let town = Town::default();
    *town.conditions.borrow_mut() = targets(routes).zip(plot.conditions.iter().copied()).collect();
    let ask = Ask { op: plot.op, key: plot.key.as_bytes() };
    let mut story = Story::default();
    let mut outcomes: BTreeMap<Ticket, Outcome> = BTreeMap::new();
    let mut answers = plot.answers.iter();
    let (mut errand, mut step) = match routes.direct(&ask, &town, plot.dice) {
        None => Errand::begin(routes, &ask, &town, plot.dice),
        Some(direct) => {
            let (outcome, _) = *answers.next().expect("enough answers");
            story.asked.push(direct.target);
            if direct.ends_with(outcome) {
                story.reply = Some(outcome);
                return Ok(story);
            }
            let step = Errand::resume(routes, &ask, &town, plot.dice, (direct, outcome));
            // The first sending of an errand is that of the direct way.
            let (begun, first) = Errand::begin(routes, &ask, &town, plot.dice);
            drop(begun);
            prop_assert_eq!(first.sends[0].target, direct.target);
            outcomes.insert(first.sends[0].ticket, outcome);
            step
        }
    };
    let mut waiting: Vec<Send> = Vec::new();
    loop {
        story.missed.extend(step.missed.iter().map(|it| it.target));
        story.asked.extend(step.sends.iter().map(|it| it.target));
        waiting.append(&mut step.sends);
        if let Some(reply) = step.reply.take() {
            prop_assert!(story.reply.is_none(), "two replies");
            story.reply = Some(match reply {
                Reply::Of { ticket, .. } => {
                    let outcome = outcomes.get(&ticket).copied();
                    prop_assert!(outcome.is_some(), "the reply is an answer that has not come");
                    outcome.expect("just seen")
                }
                Reply::Local(outcome) => outcome,
                Reply::Error(_) => Outcome::Failed(Failure::LocalError),
            });
            if plot.op == Op::Delete {
                prop_assert!(waiting.is_empty(), "a delete was answered too early");
            }
        }
        prop_assert_eq!(errand.is_over(), story.reply.is_some() && waiting.is_empty());
        if waiting.is_empty() {
            break;
        }
        let (outcome, which) = *answers.next().expect("bounded sends");
        let send = waiting.swap_remove(which % waiting.len());
        outcomes.insert(send.ticket, outcome);
        if !matches!(outcome, Outcome::Failed(_)) {
            story.answered.insert(send.target);
        }
        step = errand.answered(&ask, &town, send.ticket, outcome);
    }
    prop_assert!(story.reply.is_some(), "no reply");
    Ok(story)
}

/// Every node that a read of the key may reach, whatever happens.
fn readable(plot: &Plot, routes: &Arc<Routes>) -> Result<BTreeSet<TargetId>, TestCaseError> {
    let mut out = BTreeSet::new();
    for outcome in [Outcome::NotFound, Outcome::Failed(Failure::Timeout)] {
        for dice in 0..6 {
            let plot = Plot {
                op: Op::Get,
                dice,
                conditions: Vec::new(),
                answers: vec![(outcome, 0); 600],
                ..plot.clone()
            };
            out.extend(tell(&plot, routes)?.asked);
        }
    }
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn there_is_one_reply_and_never_a_neighbour(plot in plot(9)) {
        let Ok(routes) = Routes::new(&plot.file) else { return Ok(()) };
        let routes = Arc::new(routes);
        let story = tell(&plot, &routes)?;
        // Whoever owns the key in a pool does so whatever the conditions are.
        let mut owners: BTreeMap<&str, TargetId> = BTreeMap::new();
        for target in story.asked.iter().copied().chain(readable(&plot, &routes)?) {
            let pool = routes.targets()[target.index()].pools[0].as_str();
            prop_assert_eq!(*owners.entry(pool).or_insert(target), target);
        }
        if !plot.op.changes() {
            prop_assert!(story.missed.is_empty());
        }
    }

    /// Without warm-up, whose warm side has deletes of its own.
    #[test]
    fn a_delete_reaches_or_is_kept_for_every_node_that_is_read(plot in plot(8)) {
        let plot = Plot { op: Op::Delete, ..plot };
        let Ok(routes) = Routes::new(&plot.file) else { return Ok(()) };
        let routes = Arc::new(routes);
        let story = tell(&plot, &routes)?;
        let told: BTreeSet<TargetId> =
            story.asked.iter().copied().chain(story.missed.iter().copied()).collect();
        let readable = readable(&plot, &routes)?;
        prop_assert!(readable.is_subset(&told), "{:?} is not in {:?}", readable, told);
    }

    /// Without replicas, of which one that missed the delete is not read.
    #[test]
    fn a_delete_that_the_home_missed_is_not_answered_as_done(plot in plot(5)) {
        let plot = Plot { op: Op::Delete, ..plot };
        let Ok(routes) = Routes::new(&plot.file) else { return Ok(()) };
        let routes = Arc::new(routes);
        let read = Ask { op: Op::Get, key: plot.key.as_bytes() };
        let home = routes.direct(&read, &Town::default(), plot.dice).map(|it| it.target);
        let story = tell(&plot, &routes)?;
        // It may be asked twice, and have missed only one of them.
        if home.is_some_and(|home| story.missed.contains(&home) && !story.answered.contains(&home)) {
            let failed = matches!(story.reply, Some(Outcome::Failed(_)));
            prop_assert!(failed, "{:?}", story);
        }
    }
}
