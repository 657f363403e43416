//! `cargo xtask bench stream`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::stream::main()
}
