//! `cargo xtask bench tail`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::tail::main()
}
