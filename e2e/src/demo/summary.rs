//! What is printed at the end.

use std::{fmt::Write, time::Duration};

use super::{
    figures::Figure,
    view::{age, grouped},
};
use crate::shop::{Comparison, Quantiles, Shop, Stale};

/// How many stale values are shown.
const STALE_SHOWN: usize = 5;
/// A value that has been superseded for longer than this should not be read.
const STALENESS_MAX: Duration = Duration::from_secs(5);

/// What one shop came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    commits: u64,
    reads: u64,
    hits: u64,
    slow_fills: u64,
    late_reads: u64,
    superseded: Quantiles,
    commit_to_delete: Quantiles,
    canaries_lost: u64,
    comparison: Comparison,
}

impl Outcome {
    /// Of a closed shop.
    pub(super) fn of(shop: &Shop, comparison: Comparison) -> Outcome {
        let stats = shop.stats();
        Outcome {
            commits: stats.commits.get(),
            reads: stats.reads.get(),
            hits: stats.hits.get(),
            slow_fills: stats.slow_fills.get(),
            late_reads: stats.superseded.longer_than(STALENESS_MAX),
            superseded: stats.superseded.quantiles(),
            commit_to_delete: stats.commit_to_delete.quantiles(),
            canaries_lost: stats.canaries_lost.get(),
            comparison,
        }
    }

    /// How many cached values differ from the database.
    pub(super) fn stale(&self) -> usize {
        self.comparison.stale.len()
    }

    /// Whether every cached value is right, and no reader got one that had been wrong for too long.
    pub(super) fn is_clean(&self) -> bool {
        self.stale() == 0 && self.late_reads == 0
    }
}

/// The table, the first stale values, and how to read them.
pub(super) fn text(with: Option<&Outcome>, naive: Option<&Outcome>) -> String {
    let mut text = String::from("\n");
    let columns: Vec<(&str, &Outcome)> = [("with mcsqueal", with), ("without (naive)", naive)]
        .into_iter()
        .filter_map(|(title, outcome)| Some((title, outcome?)))
        .collect();
    let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        write!(text, "  {name:<34}").expect("writing to text cannot fail");
        for (title, outcome) in &columns {
            let cell = if name.is_empty() { (*title).to_owned() } else { cell(outcome) };
            write!(text, "{cell:>18}").expect("writing to text cannot fail");
        }
        text.push('\n');
    };
    row("", &|_| String::new());
    row("commits", &|of| grouped(of.commits));
    row("reads", &|of| grouped(of.reads));
    row("hit rate", &|of| percent(of.hits, of.reads));
    row("slow fills (up to a second)", &|of| grouped(of.slow_fills));
    if with.is_some() {
        row("commit to delete, p50", &|of| latency(of, of.commit_to_delete.p50_ms));
        row("commit to delete, p99", &|of| latency(of, of.commit_to_delete.p99_ms));
        row("commit to delete, max", &|of| latency(of, of.commit_to_delete.max_ms));
        row("canaries not deleted in time", &|of| grouped(of.canaries_lost));
    }
    row("oldest superseded value read", &|of| age(of.superseded.max_ms));
    row("reads superseded for over 5 s", &|of| grouped(of.late_reads));
    row("cached values compared", &|of| of.comparison.cached.to_string());
    row("stale values that remain", &|of| of.stale().to_string());
    for (title, outcome) in &columns {
        stale(&mut text, title, &outcome.comparison.stale);
    }
    if let Some(with) = with {
        text.push_str(verdict(with));
    }
    text.push('\n');
    text
}

fn verdict(with: &Outcome) -> &'static str {
    if with.is_clean() {
        "\n  With mcsqueal, no cached value differs from the database.\n"
    } else {
        "\n  FAILED: with mcsqueal, values are stale or were read long after they were.\n"
    }
}

fn stale(text: &mut String, title: &str, stale: &[Stale]) {
    if stale.is_empty() {
        return;
    }
    write!(text, "\n  Stale, {title}:\n").expect("writing to text cannot fail");
    for Stale { key, node, cached, database, .. } in stale.iter().take(STALE_SHOWN) {
        write!(text, "    {key} on {node}\n      cached    {cached}\n      database  {database}\n")
            .expect("writing to text cannot fail");
    }
    if stale.len() > STALE_SHOWN {
        let more = stale.len() - STALE_SHOWN;
        writeln!(text, "    and {more} more").expect("writing to text cannot fail");
    }
}

/// The figures of the demo.
pub(super) fn figures(with: Option<&Outcome>, naive: Option<&Outcome>) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(main) = with.or(naive) {
        figures.push(Figure::count("demo_commits", main.commits, "transactions"));
        figures.push(Figure::count("demo_reads", main.reads, "reads"));
    }
    let values = |name, of: &Outcome| Figure::count(name, of.stale() as u64, "values");
    if let Some(with) = with {
        figures.push(values("demo_stale", with));
    }
    if let Some(naive) = naive {
        figures.push(values("demo_stale_naive", naive));
    }
    if let Some(Outcome { commit_to_delete, .. }) = with {
        figures.push(Figure::ms("demo_commit_to_delete_p50_ms", commit_to_delete.p50_ms));
        figures.push(Figure::ms("demo_commit_to_delete_p99_ms", commit_to_delete.p99_ms));
        figures.push(Figure::ms("demo_commit_to_delete_max_ms", commit_to_delete.max_ms));
    }
    figures
}

fn latency(of: &Outcome, ms: f64) -> String {
    if of.commit_to_delete.count == 0 { "-".to_owned() } else { format!("{ms:.1} ms") }
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = (part * 1000).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}
