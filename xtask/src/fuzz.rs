//! `cargo xtask fuzz`: coverage-guided fuzzing of every parser, each for some seconds.
//!
//! Only a nightly compiler can count coverage and watch memory; where there is none, the targets are skipped. Nothing
//! else is needed: what libFuzzer finds worth keeping goes into the cache directory, and what fails into
//! `fuzz/artifacts`, as a file that is a test case.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{servers, stages};

const SECONDS: u32 = 30;
/// What libFuzzer reads from: edges that were taken, by counters; and every access to memory is checked.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Zsanitizer=address";
/// One input may not take longer, nor all together more memory.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"];

/// Targets whose inputs are binlogs.
const READS_BINLOGS: [&str; 2] = ["binlog", "dump"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    List,
    Run { targets: Vec<String>, seconds: u32 },
}

/// What a run found.
pub(crate) enum Found {
    Nothing,
    /// An input that fails.
    Something,
    /// It could not run, for this reason.
    NoCompiler(&'static str),
}

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result<Found> {
    let folder = stages::workspace().join("fuzz");
    let known = targets(&folder)?;
    let (targets, seconds) = match parse(args, &known)? {
        Wish::List => {
            println!("{}", known.join("\n"));
            return Ok(Found::Nothing);
        }
        Wish::Run { targets, seconds } => (targets, seconds),
    };
    let Some(nightly) = nightly() else {
        return Ok(Found::NoCompiler(
            "there is no nightly compiler: rustup toolchain install nightly",
        ));
    };
    let programs = build(&folder, &nightly)?;
    let mut failed = 0;
    for target in &targets {
        failed += usize::from(!fuzz(&folder, &programs, target, seconds)?);
    }
    println!("{} passed, {failed} failed, 0 skipped", targets.len() - failed);
    Ok(if failed == 0 { Found::Nothing } else { Found::Something })
}

fn parse(args: &[String], known: &[String]) -> Result<Wish> {
    let (mut targets, mut seconds) = (Vec::new(), SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => return Ok(Wish::List),
            "--seconds" => {
                let number = args.next().context("--seconds needs a number")?;
                seconds = number.parse().with_context(|| format!("--seconds {number}"))?;
                // To libFuzzer, no seconds are no end.
                ensure!(seconds > 0, "--seconds 0: at least one");
            }
            name if known.iter().any(|target| target == name) => targets.push(name.to_owned()),
            name => bail!("there is no target {name:?}: {}", known.join(" ")),
        }
    }
    if targets.is_empty() {
        targets = known.to_vec();
    }
    Ok(Wish::Run { targets, seconds })
}

/// One file each.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder.join("targets")).context("look for fuzz targets")? {
        let path = entry.context("look for fuzz targets")?.path();
        out.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    out.sort_unstable();
    Ok(out)
}

/// The words before a nightly cargo's own arguments.
pub(crate) fn nightly() -> Option<Vec<&'static str>> {
    let is_nightly = |words: &[&str]| {
        let version = Command::new(words[0]).args(&words[1..]).arg("--version").output();
        version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("nightly"))
    };
    let candidates = [vec!["cargo"], vec!["rustup", "run", "nightly", "cargo"]];
    candidates.into_iter().find(|words| is_nightly(words))
}

/// Builds all targets, and returns their folder.
fn build(folder: &Path, nightly: &[&str]) -> Result<PathBuf> {
    println!("building for fuzzing");
    let host = host(nightly)?;
    let target = stages::target_folder().join("fuzz");
    let status = Command::new(nightly[0])
        .args(&nightly[1..])
        // A named target keeps build scripts and macros free of the flags.
        .args(["build", "--quiet", "--release", "--bins", "--target", &host])
        .current_dir(folder)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "the fuzz targets cannot be built");
    Ok(target.join(host).join("release"))
}

pub(crate) fn host(nightly: &[&str]) -> Result<String> {
    let output = Command::new(nightly[0]).args(&nightly[1..]).arg("-vV").output();
    let said = String::from_utf8_lossy(&output.context("run cargo")?.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("cargo does not say its host")
}

/// True if nothing was found.
fn fuzz(folder: &Path, programs: &Path, target: &str, seconds: u32) -> Result<bool> {
    let corpus = servers::cache()?.join("fuzz").join(target);
    let artifacts = folder.join("artifacts").join(target);
    for made in [&corpus, &artifacts] {
        fs::create_dir_all(made).with_context(|| format!("make {}", made.display()))?;
    }
    let log = corpus.with_extension("log");
    let program = programs.join(target);
    let mut command = stages::dies_with_us(&[program.clone().into_os_string()]);
    command.args(LIMITS).args([
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={}/", artifacts.display()),
    ]);
    command.arg(&corpus).args(seeds(target)?).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(&log).with_context(|| format!("make {}", log.display()))?);
    let status = command.status().with_context(|| format!("run {}", program.display()))?;
    let said = fs::read_to_string(&log).context("read what the fuzzer said")?;
    if status.success() {
        println!("{target:15} ok      {}", last(&said, "DONE").unwrap_or_default());
        return Ok(true);
    }
    println!("{target:15} FAILED  {}", last(&said, "Test unit written").unwrap_or("see below"));
    let tail: Vec<&str> = said.lines().rev().take(40).collect();
    println!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    println!("again with one input: {} FILE", program.display());
    Ok(false)
}

/// Folders of inputs to begin with: for what reads binlogs, those that real servers wrote for the tests.
fn seeds(target: &str) -> Result<Vec<PathBuf>> {
    if !READS_BINLOGS.contains(&target) {
        return Ok(Vec::new());
    }
    let fixtures = stages::workspace().join("binlog/tests/fixtures");
    let mut out = Vec::new();
    for entry in fs::read_dir(&fixtures).context("look for binlogs")? {
        let path = entry.context("look for binlogs")?.path();
        if path.is_dir() {
            out.push(path);
        }
    }
    Ok(out)
}

/// The last line that says `what`.
fn last<'a>(said: &'a str, what: &str) -> Option<&'a str> {
    said.lines().rev().find(|line| line.contains(what)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &str) -> Result<Wish, String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        parse(&args, &["binlog".into(), "rules".into()]).map_err(|err| err.to_string())
    }

    #[test]
    fn wishes() {
        let run = |targets: &[&str], seconds| {
            Ok(Wish::Run { targets: targets.iter().map(ToString::to_string).collect(), seconds })
        };
        assert_eq!(parsed(""), run(&["binlog", "rules"], SECONDS));
        assert_eq!(parsed("rules --seconds 5"), run(&["rules"], 5));
        assert_eq!(parsed("--list"), Ok(Wish::List));
        assert_eq!(parsed("nope"), Err(r#"there is no target "nope": binlog rules"#.to_owned()));
        assert_eq!(parsed("--seconds"), Err("--seconds needs a number".to_owned()));
        assert_eq!(parsed("--seconds 0"), Err("--seconds 0: at least one".to_owned()));
    }

    #[test]
    fn every_target_is_built() {
        let folder = stages::workspace().join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("the manifest");
        let targets = targets(&folder).expect("the targets");
        assert!(!targets.is_empty());
        for target in targets {
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
        }
    }
}
