//! `cargo xtask bench hitratio TRACE`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::hitratio::main()
}
