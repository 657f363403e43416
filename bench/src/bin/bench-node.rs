//! `cargo xtask bench node`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::node::main()
}
