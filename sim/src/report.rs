//! What people see: figures, and the story of a history that went wrong.

#![expect(clippy::cast_precision_loss, reason = "counts and times that are far below 2^52")]

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use crate::{Outcome, Stats, Violation, world::Line};

/// An interleaving counts as reached when it came up this often.
const REACHED: u64 = 100;
/// How many lines of a story are shown; the rest is in its file.
const LINES_SHOWN: usize = 60;

/// The figures of histories with faults, and of the same ones without.
pub fn figures(faults: &Stats, calm: &Stats, seeds: u64, stale: u64, seconds: f64) -> String {
    let ratio = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let reached = faults.races.values().filter(|count| **count >= REACHED).count();
    let mut out = String::new();
    let mut figure = |name: &str, value: String, unit: &str| {
        writeln!(out, "figure {name} {value} {unit}").expect("a text takes everything");
    };
    let steps = faults.steps + calm.steps;
    figure("sim_seeds", seeds.to_string(), "seeds");
    figure("sim_steps", steps.to_string(), "steps");
    figure("sim_steps_per_s", format!("{:.0}", steps as f64 / seconds), "steps/s");
    figure("sim_faults", faults.faults.to_string(), "faults");
    figure("sim_fills_accepted", faults.fills_accepted.to_string(), "fills");
    figure("sim_fills_refused", faults.fills_refused.to_string(), "fills");
    figure("sim_hit_ratio", format!("{:.4}", ratio(calm.hits, calm.reads)), "ratio");
    figure("sim_hit_ratio_oracle", format!("{:.4}", ratio(calm.hits_oracle, calm.reads)), "ratio");
    figure("sim_hit_ratio_faults", format!("{:.4}", ratio(faults.hits, faults.reads)), "ratio");
    let oracle = ratio(faults.hits_oracle, faults.reads);
    figure("sim_hit_ratio_oracle_faults", format!("{oracle:.4}"), "ratio");
    figure("sim_races_reached", reached.to_string(), "races");
    figure("sim_stale", stale.to_string(), "histories");
    out
}

/// How often each interleaving came up, one line each.
pub fn races(stats: &Stats) -> String {
    let lines: Vec<String> =
        stats.races.iter().map(|(name, count)| format!("  {name:6} {count:>9}")).collect();
    lines.join("\n")
}

/// The end of a story, as far as it concerns what went wrong: lines of other keys and other nodes are left out.
pub fn story(outcome: &Outcome, violation: &Violation) -> String {
    let told: Vec<&Line> =
        outcome.trace.iter().filter(|(_, line)| concerns(line, violation)).collect();
    let shown = &told[told.len().saturating_sub(LINES_SHOWN)..];
    let mut out = String::new();
    for (at, line) in shown {
        writeln!(out, "{} {line}", time(*at)).expect("a text takes everything");
    }
    out + &format!("{} !!! {}\n", time(violation.at), violation.what)
}

/// Writes the whole trace into a file.
pub fn write_trace(outcome: &Outcome, path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let line = |(at, line): &Line| format!("{} {line}\n", time(*at));
    std::fs::write(path, outcome.trace.iter().map(line).collect::<Vec<_>>().concat())
}

fn time(at: u64) -> String {
    format!("{:>10.3} ms", at as f64 / 1_000.0)
}

/// Whether a line names no key and no node that the violation does not name as well.
fn concerns(line: &str, violation: &Violation) -> bool {
    let about = names(&violation.what);
    let of_line = names(line);
    let other = |kind: char| {
        let has = |names: &BTreeSet<String>| names.iter().any(|name| name.starts_with(kind));
        let shares = of_line.intersection(&about).any(|name| name.starts_with(kind));
        has(&of_line) && has(&about) && !shares
    };
    !other('k') && !other('n')
}

/// The keys (`k1`) and nodes (`node 1`, as `n1`) that a text names.
fn names(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> = text
        .split(|of: char| !of.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let keys = words.iter().filter(|word| word.strip_prefix('k').is_some_and(number));
    let nodes = words.windows(2).filter(|pair| pair[0] == "node" && number(pair[1]));
    keys.map(ToString::to_string).chain(nodes.map(|pair| format!("n{}", pair[1]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_leaves_out_other_keys_and_nodes() {
        let line = |text: &str| (1_000, text.to_owned());
        let violation = Violation { at: 2_500, what: "node 1 serves k3 = old".to_owned() };
        let trace = ["node 1 stores k3", "node 2 stores k3", "node 1 stores k4", "server 1 dies"];
        let outcome = Outcome {
            stats: Stats::default(),
            violation: Some(violation.clone()),
            trace: trace.into_iter().map(line).collect(),
        };
        let story = story(&outcome, &violation);
        let lines: Vec<&str> = story.lines().map(str::trim_start).collect();
        let expected = [
            "1.000 ms node 1 stores k3",
            "1.000 ms server 1 dies",
            "2.500 ms !!! node 1 serves k3 = old",
        ];
        assert_eq!(lines, expected);
    }
}
