//! `cargo xtask bench invalidate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::invalidate::main()
}
