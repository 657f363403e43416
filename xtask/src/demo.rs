//! `cargo xtask demo`: gets the servers, builds, and hands over to the demo itself.
//!
//! The demo runs in our process group, so that Ctrl-C reaches it and it can clean up; it is killed by the kernel when
//! we die, and so is everything that it starts.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt::is_program, engine::Pull, servers, stages};

/// Runs the command; true if the demo succeeded.
pub(crate) fn run(args: &[String], pull: Pull) -> Result<bool> {
    let target = stages::build(&["build", "--quiet", "-p", "cli", "-p", "e2e", "--bins"])?;
    let demo = target.join("demo");
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(Command::new(demo).arg("--help").status().context("run the demo")?.success());
    }
    let chosen = args.windows(2).find(|pair| pair[0] == "--database").map(|pair| pair[1].as_str());
    let mut wanted = match chosen {
        Some("mysql") => vec!["mysql", "memcached"],
        Some("mariadb") => vec!["mariadb", "memcached"],
        Some(other) => bail!("--database {other}: there are mysql and mariadb"),
        // Whichever is installed; else MariaDB, whose packages are the smaller.
        None if is_program("mysqld") => vec!["mysql", "memcached"],
        None => vec!["mariadb", "memcached"],
    };
    if args.windows(2).any(|pair| pair == ["--with", "kafka"])
        || args.iter().any(|arg| arg == "--with=kafka")
    {
        wanted.push("kafka");
    }
    let found = servers::provide(&wanted, pull)?;
    if let Some((name, why)) = found.missing().next() {
        bail!("{name} is missing: {why}");
    }
    print!("{}", found.table());
    let manifest = found.write()?;
    let mut argv = vec![demo.into_os_string()];
    argv.extend(args.iter().map(Into::into));
    let mut command = stages::dies_with_us(&argv);
    command.env("MCSQUEAL_SERVERS", &manifest).env("MCSQUEAL_BIN", target.join("mcsqueal"));
    let run = stages::RunFolder::make()?;
    command.env("MCSQUEAL_RUN_DIR", run.path());
    let status = command.status().context("run the demo")?;
    std::fs::remove_file(manifest).context("remove the list of servers")?;
    Ok(status.success())
}
