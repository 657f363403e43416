//! What scenarios measured: one row for each region, and figures, said at once and kept in the file that the environment names.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
};

use e2e::shop::Quantiles;

/// The file that rows and figures are added to.
const RESULTS_ENV: &str = "MCSQUEAL_RESULTS";

/// What became of the customers of one region.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) region: String,
    /// Values that were compared when they were read, and those that were compared in the end.
    pub(crate) checks: u64,
    pub(crate) stale: usize,
    pub(crate) late: u64,
    /// For how long the values had been superseded that were, when they were read.
    pub(crate) staleness: Quantiles,
    /// In percent of the reads.
    pub(crate) hit_rate: f64,
    pub(crate) flagged_rate: f64,
    pub(crate) database_reads: u64,
    pub(crate) commits: u64,
    pub(crate) seconds: u64,
}

/// Adds a row. The columns are those of the head that `cargo xtask e2e` writes.
pub(crate) fn add(row: &Row) {
    let Row { scenario, region, checks, stale, late, staleness, .. } = row;
    let Row { hit_rate, flagged_rate, database_reads, commits, seconds, .. } = row;
    let Quantiles { count, p50_ms, p99_ms, max_ms } = staleness;
    say(&format!(
        "| {scenario} | {region} | {checks} | {stale} | {late} | {count} | {p50_ms:.0} | {p99_ms:.0} | {max_ms:.0} | \
         {hit_rate:.1} | {flagged_rate:.1} | {database_reads} | {commits} | {seconds} |"
    ));
}

/// Adds a figure.
pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    say(&format!("figure {name} {value:.3} {unit}"));
}

/// Past the capture of the test's output.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("standard error can be written");
    let Some(path) = env::var_os(RESULTS_ENV) else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.expect("the file of results"), "{line}").expect("the file of results");
}
