//! `cargo xtask bench snapshot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::snapshot::main()
}
