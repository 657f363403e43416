//! The command line.

use clap::Parser;

/// Simulates mcsqueal: its real cores between a database, a broker, networks, clocks and clients that are made up.
/// One seed is one history, the same on every machine.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask sim",
    after_help = "Examples:\n  \
        cargo xtask sim --seeds 10000        many histories; the first failing one is shortened and told\n  \
        cargo xtask sim --seed 4711          one history, told from beginning to end\n  \
        cargo xtask sim --seeds 1000 --storm each with as many faults at once as there may be\n  \
        cargo xtask sim --mutants            each cure switched off in turn: every one must be missed\n\n\
        Exit status: 0 nothing stale, 1 a promise was broken (or a mutant survived), 64 usage."
)]
pub(crate) struct Options {
    /// How many histories to run, with faults and without.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub(crate) seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub(crate) first: u64,
    /// Run this one history, and tell it.
    #[arg(long, value_name = "SEED", conflicts_with = "mutants")]
    pub(crate) seed: Option<u64>,
    /// With --seed: nothing breaks after this many milliseconds.
    #[arg(long, value_name = "MS", requires = "seed")]
    pub(crate) until: Option<u64>,
    /// With --seed: without faults.
    #[arg(long, requires = "seed")]
    pub(crate) calm: bool,
    /// As many faults at once as there may be, in every history; else in one of ten. Faults of everything, of our processes
    /// alone, or of the database alone.
    #[arg(
        long,
        value_name = "OF",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        conflicts_with = "calm"
    )]
    pub(crate) storm: Option<Storm>,
    /// Switch off each cure in turn, and see that the simulation finds out within --seeds histories.
    #[arg(long)]
    pub(crate) mutants: bool,
    /// With --mutants: only those whose name contains this.
    #[arg(long, value_name = "TEXT", requires = "mutants")]
    pub(crate) only: Option<String>,
    /// With a cure switched off (a name, or a part of one, from --mutants).
    #[arg(long, value_name = "CURE", conflicts_with = "mutants")]
    pub(crate) without: Option<String>,
    /// Histories at a time; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// Whose faults a storm has.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Storm {
    /// Everybody's.
    All,
    /// Those of our own processes.
    Ours,
    /// Those of the database.
    Database,
}
