//! `cargo xtask bench router`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::router::main()
}
