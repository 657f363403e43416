//! `demo`: the main job, on real servers. `cargo xtask demo` starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::demo::main()
}
