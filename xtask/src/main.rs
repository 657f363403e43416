//! Developer entry point: cargo xtask demo, test.

fn main() {}
