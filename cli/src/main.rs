//! The mcsqueal binary: every daemon and every tool is a subcommand.

fn main() {}
