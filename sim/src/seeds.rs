//! Many histories, with faults and without; and the story of one.

use std::{ops::Range, path::PathBuf};

use sim::{History, Outcome, Stats, Trace, Violation, Weather, report};

use crate::{
    mutants::without,
    pool::{self, Go},
};

/// One seed in so many is run without faults, too: enough to know the hit ratio.
const CALM_ONE_IN: u64 = 5;
/// After this many failures no more are looked for.
const FAILURES_MAX: usize = 10;

/// Runs them all; true if every promise was kept in each. The first history that fails is shortened and told.
pub(crate) fn run(range: Range<u64>, weather: Weather, threads: usize, cure: Option<&str>) -> bool {
    let began = pool::now();
    let (mut faults, mut calm) = (Stats::default(), Stats::default());
    let mut failures: Vec<(History, Violation)> = Vec::new();
    let mut count = 0;
    let of = |seed: u64| {
        let faults = History { seed, weather, until: None };
        let calm = History { weather: Weather::Calm, ..faults };
        [Some(faults), seed.is_multiple_of(CALM_ONE_IN).then_some(calm)].into_iter().flatten()
    };
    pool::each(
        range,
        threads,
        |seed| {
            without(cure, || {
                of(seed).map(|history| (history, sim::run(history, Trace::Off))).collect::<Vec<_>>()
            })
        },
        |_, outcomes| {
            count += 1;
            for (history, Outcome { stats, violation, .. }) in outcomes {
                match history.weather {
                    Weather::Calm => calm += stats,
                    _ => faults += stats,
                }
                if let Some(violation) = violation {
                    println!("seed {} ({:?}): {}", history.seed, history.weather, violation.what);
                    failures.push((history, violation));
                }
            }
            if failures.len() >= FAILURES_MAX { Go::Stop } else { Go::On }
        },
        |_| "histories,".to_owned(),
    );
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "interleavings of the catalogue, and how often they came up:\n{}",
        report::races(&faults)
    );
    let failed = u64::try_from(failures.len()).unwrap_or(u64::MAX);
    print!("{}", report::figures(&faults, &calm, count, failed, seconds));
    failures.sort_by_key(|(history, violation)| (violation.at, history.seed));
    if let Some((history, _)) = failures.first() {
        without(cure, || tell_history(shortened(*history)));
    }
    failures.is_empty()
}

/// Runs one history and tells it; true if every promise was kept.
pub(crate) fn tell(seed: u64, weather: Weather, until_ms: Option<u64>) -> bool {
    let until = until_ms.map(|ms| ms.saturating_mul(1_000));
    tell_history(History { seed, weather, until })
}

/// The same history, calmed down as early as it still goes wrong.
fn shortened(history: History) -> History {
    let fails = |until| {
        let shorter = History { until: Some(until), ..history };
        sim::run(shorter, Trace::Off).violation.is_some()
    };
    let (mut good, mut bad) = (0, sim::chaos_ms());
    while good + 1 < bad {
        let middle = u64::midpoint(good, bad);
        if fails(middle.saturating_mul(1_000)) { bad = middle } else { good = middle }
    }
    History { until: Some(bad.saturating_mul(1_000)), ..history }
}

fn tell_history(history: History) -> bool {
    let outcome = sim::run(history, Trace::On);
    let History { seed, weather, until } = history;
    let path = PathBuf::from(format!("target/sim/seed-{seed}.txt"));
    let how = match weather {
        Weather::Calm => " --calm",
        Weather::Faults => "",
        Weather::Storm => " --storm",
        Weather::StormOfOurs => " --storm=ours",
        Weather::StormOfDatabase => " --storm=database",
    };
    let short = until.map_or(String::new(), |until| format!(" --until {}", until / 1_000));
    println!("\n=== cargo xtask sim --seed {seed}{how}{short}");
    match report::write_trace(&outcome, &path) {
        Ok(()) => println!("the whole story is in {}", path.display()),
        Err(error) => println!("the whole story cannot be written to {}: {error}", path.display()),
    }
    match &outcome.violation {
        Some(violation) => print!("{}", report::story(&outcome, violation)),
        None => println!(
            "{} steps, {} faults, every promise kept",
            outcome.stats.steps, outcome.stats.faults
        ),
    }
    outcome.violation.is_none()
}
