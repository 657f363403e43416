//! `cargo xtask e2e`: scenarios of two regions, and the table of what they measured. Some of them are a stage of `cargo xtask test`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    containers::Engine,
    engine::Pull,
    servers::{self, Servers},
    stages,
};

const HELP: &str = include_str!("e2e.txt");
/// The test program.
pub(crate) const PROGRAM: &str = "containers";
/// The variable that names the file of rows and figures.
const RESULTS_ENV: &str = "MCSQUEAL_RESULTS";

/// Whether a scenario is one of the few that every run of all tests has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Every,
    Whole,
}

/// Module and name of each test, and what it is about.
const SCENARIOS: [(&str, &str, In, &str); 12] = [
    ("faults", "steady_state", In::Every, "nothing fails; how long a commit in A takes to reach B"),
    ("faults", "replication_stopped", In::Whole, "B's replica stands still for 30 s"),
    ("faults", "cut_off_from_kafka", In::Every, "region B is cut off from Kafka, and healed"),
    ("faults", "node_paused", In::Whole, "a node of B is frozen, and goes on"),
    ("faults", "node_killed", In::Whole, "a node of B is killed, and started again"),
    ("faults", "invalidator_killed", In::Whole, "B's invalidator is killed, and started again"),
    ("failover", "primary_failed_over", In::Whole, "the replica takes over, with all transactions"),
    (
        "failover",
        "primary_failed_over_with_loss",
        In::Every,
        "the replica takes over, without the last ones",
    ),
    ("growth", "cluster_added", In::Whole, "a cluster is added to B under load"),
    (
        "growth",
        "node_added_and_removed",
        In::Whole,
        "a cluster of B gets a node more, and loses it",
    ),
    (
        "own_writes",
        "own_writes",
        In::Every,
        "users of B write, and read that at once, a thousand times a second",
    ),
    ("replayed", "replayed", In::Whole, "the last minute is replayed into one cluster of B"),
];

/// The columns of rows.
const HEAD: &str = "\
| scenario | region | checks | stale | late reads | superseded reads | p50 ms | p99 ms | max ms | hit rate % | flagged % | database reads | commits | seconds |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Runs the command; true if nothing failed.
pub(crate) fn run(args: &[String], pull: Pull) -> Result<bool> {
    let (mut chosen, mut rest, mut place) = (Vec::new(), Vec::new(), Ground::Containers);
    for arg in args {
        match arg.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(true);
            }
            "--list" => {
                for (_, name, part, what) in SCENARIOS {
                    let mark = if part == In::Every { "*" } else { " " };
                    println!("{mark} {name:30} {what}");
                }
                println!("\n* also in cargo xtask test");
                return Ok(true);
            }
            "--long" => rest.push(arg.clone()),
            "--no-containers" => place = Ground::Processes,
            name => chosen.push(filter(name)?),
        }
    }
    if chosen.is_empty() {
        chosen = SCENARIOS.iter().map(|(module, name, ..)| format!("{module}::{name}")).collect();
    }
    let engine = match place {
        Ground::Containers => engine()?,
        Ground::Processes => None,
    };
    let results = Results::make(&stages::target_folder())?;
    stages::run_scenarios(&rest, pull, &Stagehand { tests: chosen, results, engine })
}

/// Builds the images, and nothing else.
pub(crate) fn images(pull: Pull) -> Result<bool> {
    let found = servers::provide(&["mysql", "kafka"], pull)?;
    let target = stages::build(&["build", "--quiet", "-p", "cli", "--bins"])?;
    Engine::provide()?.build_images(&found, &target.join("mcsqueal"))?;
    Ok(true)
}

/// What servers run in.
enum Ground {
    Containers,
    Processes,
}

/// What a run of scenarios has beside servers.
pub(crate) struct Stagehand {
    /// Names of tests, or options that choose some.
    pub(crate) tests: Vec<String>,
    pub(crate) results: Results,
    /// `None`: plain processes.
    engine: Option<Engine>,
}

impl Stagehand {
    /// For the stage of `cargo xtask test`.
    pub(crate) fn of_stage() -> Result<Stagehand> {
        let results = Results::make(&stages::target_folder())?;
        Ok(Stagehand { tests: short_form(), results, engine: engine()? })
    }

    /// Gets everything ready; returns what tests must have in their environment.
    pub(crate) fn prepare(
        &self,
        found: &Servers,
        program: &Path,
    ) -> Result<Vec<(&'static str, PathBuf)>> {
        let mut env = vec![(RESULTS_ENV, self.results.path().to_owned())];
        if let Some(engine) = &self.engine {
            engine.clean()?;
            engine.build_images(found, program)?;
            env.extend(engine.env());
        }
        Ok(env)
    }
}

/// An engine; without one, plain processes have to do, unless that is not allowed.
fn engine() -> Result<Option<Engine>> {
    match Engine::provide() {
        Ok(engine) => Ok(Some(engine)),
        Err(err) => {
            let required = std::env::var("MCSQUEAL_REQUIRE").unwrap_or_default();
            ensure!(
                !required.split(',').any(|name| name == PROGRAM),
                "containers are required: {err:#}"
            );
            println!("no containers, plain processes: {err:#}");
            Ok(None)
        }
    }
}

/// What the stage tells the test program: everything but the scenarios that are too much for every run.
fn short_form() -> Vec<String> {
    let whole = SCENARIOS.iter().filter(|(_, _, part, _)| *part == In::Whole);
    whole
        .flat_map(|(module, name, ..)| ["--skip".to_owned(), format!("{module}::{name}")])
        .collect()
}

fn filter(name: &str) -> Result<String> {
    let found = SCENARIOS.iter().find(|(_, known, ..)| *known == name);
    let Some((module, name, ..)) = found else {
        bail!("there is no scenario {name:?}; cargo xtask e2e --list");
    };
    Ok(format!("{module}::{name}"))
}

/// The file of a run's rows and figures.
pub(crate) struct Results(PathBuf);

impl Results {
    /// An empty one.
    pub(crate) fn make(target: &Path) -> Result<Results> {
        let folder = target.join("e2e");
        fs::create_dir_all(&folder).context("make the folder for results")?;
        let path = folder.join("results");
        fs::write(&path, "").context("make the file of results")?;
        Ok(Results(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Prints the table and the figures, and keeps them.
    pub(crate) fn tell(&self) -> Result<()> {
        let text = fs::read_to_string(&self.0).context("read the results")?;
        let whole = summary(&text)?;
        println!("\n{whole}");
        let path = self.0.with_file_name("table.md");
        fs::write(&path, whole).context("keep the table")?;
        println!("kept in {}", path.display());
        Ok(())
    }
}

/// The table, and figures: those of scenarios, and the sums.
fn summary(results: &str) -> Result<String> {
    let (mut out, mut figures) = (HEAD.to_owned(), String::new());
    let (mut scenarios, mut sums) = (Vec::new(), [0_u64; 3]);
    for line in results.lines() {
        if line.starts_with("figure ") {
            figures.push_str(&format!("{line}\n"));
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        ensure!(
            cells.len() == HEAD.lines().next().unwrap_or_default().split('|').count(),
            "{line}"
        );
        if !scenarios.contains(&cells[1]) {
            scenarios.push(cells[1]);
        }
        for (sum, cell) in sums.iter_mut().zip(&cells[3..]) {
            *sum += cell.parse::<u64>().with_context(|| format!("a number in {line}"))?;
        }
        out.push_str(&format!("{line}\n"));
    }
    let [checks, stale, late] = sums;
    out.push_str(&format!("\nfigure e2e_scenarios {} scenarios\n", scenarios.len()));
    out.push_str(&format!("figure e2e_checks {checks} values\nfigure e2e_stale {stale} values\n"));
    out.push_str(&format!("figure e2e_late_reads {late} reads\n{figures}"));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_a_test_and_every_test_a_scenario() {
        let folder = stages::workspace().join("e2e/tests").join(PROGRAM);
        let mut tests = Vec::new();
        for file in fs::read_dir(folder).expect("the tests") {
            let path = file.expect("a file").path();
            let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a test");
            let after = text.split("#[tokio::test(flavor = \"multi_thread\")]\nasync fn ").skip(1);
            tests.extend(after.map(|rest| {
                let name = rest.split('(').next().expect("a name");
                format!("{module}::{name}")
            }));
        }
        let mut known: Vec<String> =
            SCENARIOS.iter().map(|(module, name, ..)| format!("{module}::{name}")).collect();
        tests.sort();
        known.sort();
        assert_eq!(tests, known);
    }

    #[test]
    fn rows_are_added_up() {
        let rows = "| calm | A | 10 | 0 | 1 | 5 | 1 | 2 | 3 | 90.0 | 0.0 | 7 | 8 | 9 |\n\
                    figure e2e_wan_added_p99_ms 12.5 ms\n\
                    | calm | B | 20 | 2 | 0 | 5 | 1 | 2 | 3 | 90.0 | 0.0 | 7 | 8 | 9 |\n";
        let summary = summary(rows).expect("rows");
        let figures: Vec<&str> =
            summary.lines().filter(|line| line.starts_with("figure")).collect();
        assert_eq!(
            figures,
            [
                "figure e2e_scenarios 1 scenarios",
                "figure e2e_checks 30 values",
                "figure e2e_stale 2 values",
                "figure e2e_late_reads 1 reads",
                "figure e2e_wan_added_p99_ms 12.5 ms",
            ]
        );
    }

    #[test]
    fn scenarios_go_by_their_names() {
        assert_eq!(filter("steady_state").expect("known"), "faults::steady_state");
        assert!(filter("none").is_err());
        assert!(short_form().contains(&"faults::node_paused".to_owned()));
        assert!(!short_form().contains(&"faults::steady_state".to_owned()));
    }
}
