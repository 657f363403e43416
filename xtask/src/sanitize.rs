//! `cargo xtask sanitize`: the tests of the crate with `unsafe` code, where every access to memory is watched.
//!
//! By Miri, which knows the rules of the language, where the nightly compiler has it; else by AddressSanitizer. Without a nightly
//! compiler there is neither.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{fuzz, stages};

/// Runs the command; true if nothing was found.
pub(crate) fn run(args: &[String]) -> Result<bool> {
    let wish = match args {
        [] => None,
        [one] if one == "--miri" => Some(Tool::Miri),
        [one] if one == "--asan" => Some(Tool::AddressSanitizer),
        other => bail!("{other:?}: there are --miri and --asan"),
    };
    let Some(nightly) = fuzz::nightly() else {
        println!(
            "skipped: sanitize: there is no nightly compiler: rustup toolchain install nightly"
        );
        return Ok(true);
    };
    let tool = wish
        .unwrap_or_else(|| if has_miri(&nightly) { Tool::Miri } else { Tool::AddressSanitizer });
    println!("with {tool:?}");
    let mut command = Command::new(nightly[0]);
    command.args(&nightly[1..]).current_dir(stages::workspace());
    match tool {
        Tool::Miri => command
            .args(["miri", "test", "-p", "engine", "--lib"])
            // The tests look for one environment variable.
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("CARGO_TARGET_DIR", stages::target_folder().join("miri")),
        Tool::AddressSanitizer => command
            // A named target keeps build scripts and macros free of the flags.
            .args(["test", "-p", "engine", "--lib", "--target", &fuzz::host(&nightly)?])
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env("CARGO_TARGET_DIR", stages::target_folder().join("asan")),
    };
    Ok(command.status().context("run cargo")?.success())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Miri,
    AddressSanitizer,
}

fn has_miri(nightly: &[&str]) -> bool {
    let version = Command::new(nightly[0]).args(&nightly[1..]).args(["miri", "--version"]).output();
    version.is_ok_and(|said| said.status.success())
}
