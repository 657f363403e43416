//! `cargo xtask bench warm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::warm::main()
}
