//! `cargo xtask test`: named stages, each with its seconds, and one closing line.
//!
//! Everything is built once (`cargo test --no-run --workspace`); test programs are then run one by one. Tests that
//! a machine cannot run print `skipped: NAME: REASON`, which is collected; `MCSQUEAL_REQUIRE` makes a missing server a failure.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    apt::is_program,
    budgets::{Over, Spent},
    e2e,
    engine::Pull,
    fuzz, servers, tidy,
};

pub(crate) const STAGES: [&str; 10] =
    ["tidy", "clippy", "build", "unit", "sim", "doc", "fuzz", "servers", "kafka", e2e::PROGRAM];
/// Test programs that need real servers; each is a stage of its own.
const ON_SERVERS: [&str; 3] = ["servers", "kafka", e2e::PROGRAM];
/// Histories of the simulation, and of its long form.
const SEEDS: &str = "10000";
const SEEDS_LONG: &str = "1000000";
/// Seconds of fuzzing for each parser, and in a long run.
const FUZZ_SECONDS: [&str; 2] = ["3", "60"];
/// After this, whatever runs is killed; in a long run after ten times as long.
const GUARD: Duration = Duration::from_secs(80 * 60);
/// The stage that runs, for the guard.
static RUNNING: Mutex<&str> = Mutex::new("");

/// What happened so far.
#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

/// A test program that cargo built.
struct Program {
    name: String,
    path: String,
    package: PathBuf,
}

/// Runs the command; true if nothing failed.
pub(crate) fn run(args: &[String], pull: Pull) -> Result<bool> {
    let (chosen, length) = parse(args)?;
    guard(length);
    let (mut outcome, mut spent, mut table) = (Outcome::default(), Spent::default(), Vec::new());
    for stage in STAGES {
        if !chosen.is_empty() && !chosen.iter().any(|name| name == stage) {
            continue;
        }
        println!("== {stage}");
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no runtime whose time could be paused"
        )]
        let (begin, failed) = (Instant::now(), outcome.failed);
        if let Err(err) = run_stage(stage, length, pull, &mut outcome) {
            println!("{stage}: {err:#}");
            // Its failed tests were counted one by one.
            outcome.failed = outcome.failed.max(failed + 1);
        }
        let took = begin.elapsed();
        // A long run takes what it takes.
        match spent.add(stage, took).filter(|_| length == Length::Default) {
            Some(Over::Slow(what)) => println!("{what}"),
            Some(Over::Failed(what)) => {
                println!("{what}");
                outcome.failed += 1;
            }
            None => {}
        }
        let state = if outcome.failed == failed { "ok" } else { "FAILED" };
        table.push(format!("{stage:10} {:7.1} s  {state}", took.as_secs_f64()));
    }
    println!("\n{}", table.join("\n"));
    for skip in &outcome.skipped {
        println!("{skip}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        outcome.passed,
        outcome.failed,
        outcome.skipped.len()
    );
    Ok(outcome.failed == 0)
}

/// Whether `--long` was given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Default,
    Long,
}

fn parse(args: &[String]) -> Result<(Vec<String>, Length)> {
    let (mut chosen, mut length) = (Vec::new(), Length::Default);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--long" => length = Length::Long,
            "--stage" => {
                let name = args.next().context("--stage needs a name")?;
                ensure!(
                    STAGES.contains(&name.as_str()),
                    "there is no stage {name:?}: {}",
                    STAGES.join(" ")
                );
                chosen.push(name.clone());
            }
            other => bail!("unknown option {other:?}; see cargo xtask help"),
        }
    }
    Ok((chosen, length))
}

/// Ends us, and with us everything that we started, when a run hangs.
fn guard(length: Length) {
    let after = GUARD * if length == Length::Long { 10 } else { 1 };
    thread::spawn(move || {
        thread::sleep(after);
        let stage = *RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = after.as_secs() / 60;
        eprintln!("xtask: in {stage}, the run took more than {minutes} minutes and is ended");
        std::process::abort();
    });
}

fn run_stage(stage: &str, length: Length, pull: Pull, outcome: &mut Outcome) -> Result<()> {
    match stage {
        "tidy" => {
            cargo(&["fmt", "--all", "--", "--check"])?;
            let complaints = tidy::check(&workspace())?;
            ensure!(complaints.is_empty(), "\n{}", complaints.join("\n"));
            if is_program("cargo-deny") {
                cargo(&["deny", "--all-features", "check"])?;
            } else {
                outcome.skipped.push("skipped: licences: cargo-deny is not installed".to_owned());
            }
            Ok(())
        }
        "clippy" => {
            cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
        }
        "build" => cargo(&["test", "--no-run", "--workspace", "--quiet"]),
        "unit" => programs(
            |program| !ON_SERVERS.contains(&program.name.as_str()),
            &Way { env: &[], features: &[], tests: &[], length },
            outcome,
        ),
        "sim" => {
            let args = match length {
                Length::Default => ["--seeds", SEEDS].map(str::to_owned).to_vec(),
                Length::Long => ["--seeds", SEEDS_LONG, "--release"].map(str::to_owned).to_vec(),
            };
            ensure!(simulate(&args)?, "a promise was broken");
            Ok(())
        }
        "doc" => cargo(&["test", "--doc", "--workspace", "--quiet"]),
        "fuzz" => {
            let seconds = FUZZ_SECONDS[usize::from(length == Length::Long)];
            match fuzz::run(&["--seconds".to_owned(), seconds.to_owned()])? {
                fuzz::Found::Nothing => Ok(()),
                fuzz::Found::Something => bail!("an input fails"),
                fuzz::Found::NoCompiler(reason) => {
                    outcome.skipped.push(format!("skipped: fuzz: {reason}"));
                    Ok(())
                }
            }
        }
        e2e::PROGRAM => {
            let stagehand = e2e::Stagehand::of_stage()?;
            let ran = on_servers(stage, length, pull, outcome, Some(&stagehand));
            stagehand.results.tell()?;
            ran
        }
        _ => on_servers(stage, length, pull, outcome, None),
    }
}

/// Runs a test program that needs servers.
fn on_servers(
    stage: &str,
    length: Length,
    pull: Pull,
    outcome: &mut Outcome,
    stagehand: Option<&e2e::Stagehand>,
) -> Result<()> {
    let found = servers::provide(&servers::ALL, pull)?;
    print!("{}", found.table());
    for required in std::env::var("MCSQUEAL_REQUIRE")
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty() && *name != e2e::PROGRAM)
    {
        ensure!(found.has(required), "{required} is required and missing");
    }
    let manifest = found.write()?;
    let features = features(stage, length, outcome);
    let bins = ["build", "--quiet", "-p", "cli", "-p", "e2e", "--bins"];
    let target = build(&[&bins[..], features].concat())?;
    let run = RunFolder::make()?;
    let mut env = vec![
        ("MCSQUEAL_SERVERS", manifest.clone()),
        ("MCSQUEAL_BIN", target.join("mcsqueal")),
        ("MCSQUEAL_RUN_DIR", run.path().to_owned()),
    ];
    let mut tests = &[][..];
    if let Some(stagehand) = stagehand {
        env.extend(stagehand.prepare(&found, &target.join("mcsqueal"))?);
        tests = &stagehand.tests;
    }
    let way = Way { env: &env, features, tests, length };
    let ran = programs(|program| program.name == stage, &way, outcome);
    fs::remove_file(manifest).context("remove the list of servers")?;
    ran
}

/// Runs these scenarios of two regions; true if nothing failed.
pub(crate) fn run_scenarios(
    args: &[String],
    pull: Pull,
    stagehand: &e2e::Stagehand,
) -> Result<bool> {
    let (_, length) = parse(args)?;
    guard(length);
    let mut outcome = Outcome::default();
    let ran = on_servers(e2e::PROGRAM, length, pull, &mut outcome, Some(stagehand));
    stagehand.results.tell()?;
    for skip in &outcome.skipped {
        println!("{skip}");
    }
    ran.map(|()| outcome.failed == 0)
}

/// With what a stage is built. A long run takes the minutes that OpenSSL wants, and speaks to Kafka through TLS.
fn features(stage: &str, length: Length, outcome: &mut Outcome) -> &'static [&'static str] {
    if stage != "kafka" || length == Length::Default {
        return &[];
    }
    if !is_program("perl") {
        outcome.skipped.push("skipped: TLS to Kafka: perl is not installed".to_owned());
        return &[];
    }
    &["--features", "cli/kafka-tls,e2e/kafka-tls"]
}

/// How test programs are run.
struct Way<'a> {
    env: &'a [(&'a str, PathBuf)],
    features: &'a [&'a str],
    /// Whole names, or options that choose some; none: all.
    tests: &'a [String],
    length: Length,
}

/// Runs the chosen test programs one after another.
fn programs(chosen: impl Fn(&Program) -> bool, way: &Way<'_>, outcome: &mut Outcome) -> Result<()> {
    let Way { env, features, tests, length } = *way;
    let mut failed = Vec::new();
    for program in built(features)?.into_iter().filter(chosen) {
        let mut command = dies_with_us(&[program.path.clone().into()]);
        command
            .current_dir(&program.package)
            .envs(env.iter().map(|(name, path)| (*name, path.as_path())));
        if ON_SERVERS.contains(&program.name.as_str()) {
            // Each test has servers of its own; two at a time is what two cores bear.
            command.args(["--test-threads=2", "--nocapture"]);
            if !tests.is_empty() {
                command.arg("--exact").args(tests);
            }
        }
        if length == Length::Long {
            command.env("MCSQUEAL_LONG", "1");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("run a test program")?;
        let stdout = child.stdout.take().context("read a test program")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("read a test program")?;
            outcome.note(&line);
            println!("{line}");
        }
        if !child.wait().context("wait for a test program")?.success() {
            failed.push(program.name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

impl Outcome {
    /// Reads what libtest and our own tests say.
    fn note(&mut self, line: &str) {
        if let Some(at) = line.find("skipped: ") {
            self.skipped.push(line.get(at..).unwrap_or(line).to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| -> usize {
                let words: Vec<&str> =
                    counts.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
                words
                    .windows(2)
                    .find(|pair| pair[1] == what)
                    .and_then(|pair| pair[0].parse().ok())
                    .unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
        }
    }
}

/// Runs the simulation with these options; true if it finds nothing. `--release` is ours: nearly twice as fast, but built for
/// longer, and without the switches that mutants need.
pub(crate) fn simulate(args: &[String]) -> Result<bool> {
    let is_release = |arg: &&String| *arg == "--release";
    let sim = ["build", "--quiet", "-p", "sim", "--bins"];
    let program = if args.iter().any(|arg| is_release(&arg)) {
        build(&[&sim[..], &["--release"]].concat())?.with_file_name("release").join("sim")
    } else {
        build(&sim)?.join("sim")
    };
    let mut argv = vec![program.into_os_string()];
    argv.extend(args.iter().filter(|arg| !is_release(arg)).map(Into::into));
    let status = dies_with_us(&argv).current_dir(workspace()).status();
    Ok(status.context("run the simulation")?.success())
}

/// The test programs, from cargo's messages.
fn built(features: &[&str]) -> Result<Vec<Program>> {
    let output = Command::new(cargo_path())
        .args(["test", "--no-run", "--workspace", "--quiet", "--message-format=json"])
        .args(features)
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "cargo test --no-run failed");
    let mut out = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // A target may be able to hold tests; its profile says whether this is the program that runs them.
        let profile = line.split_once("\"profile\":").and_then(|(_, rest)| rest.split('}').next());
        let is_test = profile.is_some_and(|profile| profile.contains("\"test\":true"));
        let Some(path) = json_text(line, "executable").filter(|_| is_test) else { continue };
        let manifest = json_text(line, "manifest_path").context("cargo names no manifest")?;
        let package = Path::new(&manifest).parent().context("a manifest in no folder")?.to_owned();
        // The name of the target, which stands after the package's id.
        let target = line.find("\"target\":").and_then(|at| line.get(at..)).unwrap_or(line);
        let name = json_text(target, "name").unwrap_or_default();
        out.push(Program { name, path, package });
    }
    ensure!(!out.is_empty(), "cargo built no tests");
    Ok(out)
}

/// The text behind the first `"key":"` of a line of JSON; paths with escapes are not ours.
fn json_text(line: &str, key: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
    rest.split('"').next().map(str::to_owned)
}

fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new(cargo_path())
        .args(args)
        .current_dir(workspace())
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo {} failed", args.join(" "));
    Ok(())
}

/// Builds, and returns the folder of the binaries.
pub(crate) fn build(args: &[&str]) -> Result<PathBuf> {
    println!("building");
    cargo(args)?;
    Ok(target_folder().join("debug"))
}

/// Where cargo builds.
pub(crate) fn target_folder() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR");
    named.map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The root of the repository.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// A command that the kernel kills when we die. Without `setpriv` it may outlive a killed xtask; what it started is
/// then ended by the next one.
pub(crate) fn dies_with_us(argv: &[std::ffi::OsString]) -> Command {
    hears_of_our_death("KILL", argv)
}

/// A command that the kernel asks to end when we die.
pub(crate) fn ends_with_us(argv: &[std::ffi::OsString]) -> Command {
    hears_of_our_death("TERM", argv)
}

fn hears_of_our_death(signal: &str, argv: &[std::ffi::OsString]) -> Command {
    let mut whole: Vec<std::ffi::OsString> = Vec::new();
    if is_program("setpriv") {
        whole.extend(["setpriv", "--pdeathsig", signal, "--"].map(Into::into));
    }
    whole.extend(argv.iter().cloned());
    let mut command = Command::new(&whole[0]);
    command.args(&whole[1..]);
    command
}

/// A folder in which a run writes down the processes that it starts, one `pid starttime` per line of `pids`.
pub(crate) struct RunFolder(PathBuf);

impl RunFolder {
    /// Ends what earlier runs left behind, and makes a folder for this one.
    pub(crate) fn make() -> Result<RunFolder> {
        let runs = servers::cache()?.join("run");
        fs::create_dir_all(&runs).context("make the folder for runs")?;
        for entry in fs::read_dir(&runs).context("read the folder for runs")? {
            let path = entry.context("read the folder for runs")?.path();
            let owner =
                path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let (pid, start) = owner.split_once('-').unwrap_or_default();
            if start_time(pid).as_deref() != Some(start) {
                end_leftovers(&path);
                drop(fs::remove_dir_all(&path));
            }
        }
        let pid = std::process::id().to_string();
        let folder = runs.join(format!("{pid}-{}", start_time(&pid).unwrap_or_default()));
        fs::create_dir_all(&folder).context("make the folder of this run")?;
        Ok(RunFolder(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        end_leftovers(&self.0);
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Kills the processes that `folder/pids` names, where pid and start time are still those of the one that was started.
fn end_leftovers(folder: &Path) {
    for line in fs::read_to_string(folder.join("pids")).unwrap_or_default().lines() {
        let Some((pid, start)) = line.split_once(' ') else { continue };
        if start_time(pid).as_deref() == Some(start.trim()) {
            println!("ending process {pid}, which an earlier run left behind");
            drop(Command::new("kill").args(["-KILL", pid]).status());
        }
    }
}

/// When a process started, in clock ticks since boot: with its id, that names it for ever.
fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}
