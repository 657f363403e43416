//! Runs histories.

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|of| of.parse().ok()).collect();
    let (first, count) = (arguments[0], arguments[1]);
    let mut total = sim::Stats::default();
    let mut failed = 0;
    let began = std::time::Instant::now();
    for seed in first..first + count {
        let trace = if count == 1 { sim::Trace::On } else { sim::Trace::Off };
        let weather = if arguments.len() > 2 { sim::Weather::Calm } else { sim::Weather::Faults };
        let outcome = sim::run(seed, sim::Size::default(), weather, trace);
        for (at, line) in &outcome.trace {
            println!("{:>9.3} {line}", *at as f64 / 1000.0);
        }
        if let Some(violation) = &outcome.violation {
            failed += 1;
            if failed < 12 {
                println!("seed {seed}: {violation:?}");
            }
        }
        total += outcome.stats;
    }
    println!("{failed} of {count} failed in {:?}\n{total:?}", began.elapsed());
}
