//! `cargo xtask bench NAME`: gets the servers, builds for release, and hands over to the benchmark itself.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{engine::Pull, servers, stages};

/// Name of a benchmark, and the servers that it needs.
const BENCHMARKS: [(&str, &[&str]); 8] = [
    ("tail", &["mysql"]),
    ("stream", &["kafka"]),
    ("node", &["memcached"]),
    ("hitratio", &[]),
    ("invalidate", &["mysql", "kafka"]),
    ("snapshot", &[]),
    ("warm", &["mysql"]),
    ("router", &["memcached", "nutcracker"]),
];
/// Peers that a benchmark can do without: it says so then.
const PEERS: [&str; 1] = ["nutcracker"];

/// Starts what follows with the highest number of open files that may be had without asking.
const ALL_FILES: &str = r#"ulimit -n "$(ulimit -H -n)" 2> /dev/null; exec "$@""#;

/// Runs the command; true if the benchmark succeeded.
pub(crate) fn run(args: &[String], pull: Pull) -> Result<bool> {
    let names = || BENCHMARKS.map(|(name, _)| name).join(" ");
    let Some((name, rest)) = args.split_first() else { bail!("bench needs a name: {}", names()) };
    let Some((_, needs)) = BENCHMARKS.iter().find(|(known, _)| known == name) else {
        bail!("there is no benchmark {name:?}: {}", names());
    };
    let program = format!("bench-{name}");
    let debug =
        stages::build(&["build", "--quiet", "--release", "-p", "bench", "--bin", &program])?;
    let release: PathBuf = debug.with_file_name("release");
    if matches!(name.as_str(), "node" | "invalidate" | "snapshot" | "warm" | "router") {
        stages::build(&["build", "--quiet", "--release", "-p", "cli", "--bins"])?;
    }
    let found = servers::provide(needs, pull)?;
    if let Some((name, why)) = found.missing().find(|(name, _)| !PEERS.contains(name)) {
        bail!("{name} is missing: {why}");
    }
    print!("{}", found.table());
    let manifest = found.write()?;
    // As many files as the system allows: some have many clients.
    let mut argv: Vec<OsString> = ["sh", "-c", ALL_FILES, "sh"].map(Into::into).to_vec();
    argv.push(release.join(program).into_os_string());
    argv.extend(rest.iter().map(Into::into));
    let mut command = stages::dies_with_us(&argv);
    let run = stages::RunFolder::make()?;
    command.env("MCSQUEAL_BIN", release.join("mcsqueal"));
    command.env("MCSQUEAL_SERVERS", &manifest).env("MCSQUEAL_RUN_DIR", run.path());
    let status = command.status().context("run the benchmark")?;
    std::fs::remove_file(manifest).context("remove the list of servers")?;
    Ok(status.success())
}
