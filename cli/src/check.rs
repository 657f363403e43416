//! `mcsqueal check`: everything that could hide changes, before it does.

use std::io::{self, Write};

use anyhow::Context;
use schemas::{config::Region, rules::Rules};
use tailer::preflight::{self, Report};

use crate::{args::CheckArgs, failure::Failure, load, log, run};

/// Runs the command.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let (region, rules) = load::region(&args.config)?;
    let mut out = io::stdout().lock();
    let nodes: usize = region.clusters.iter().map(|cluster| cluster.nodes.len()).sum();
    let files = format!(
        "{}: region {} with {} cluster(s), {nodes} node(s), {} rule(s): valid\n",
        args.config.display(),
        region.name,
        region.clusters.len(),
        rules.iter().count(),
    );
    print(&mut out, &files)?;
    if args.offline {
        return Ok(());
    }
    let settings = run::tailer_settings(&args.config, &region)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let mut passed = true;
    for at in 0..=settings.standbys.len() {
        let settings = settings.at(at);
        let report = runtime
            .block_on(preflight::check(&settings, &rules))
            .with_context(|| format!("ask {} (source.address)", settings.address))?;
        let shown =
            format!("{}: {} {}\n{report}\n", settings.address, report.dialect, report.version);
        print(&mut out, &shown)?;
        if at == 0 {
            print(&mut out, &grants(&region, &rules, &report))?;
            print(&mut out, &preflight::sessions(report.dialect))?;
        }
        passed &= report.is_passed();
    }
    if let Some(said) = runtime.block_on(log::inspect(&args.config, &region))? {
        print(&mut out, &said)?;
    }
    if passed { Ok(()) } else { Err(Failure::SaidConfig) }
}

/// The statements that make the account, for whoever has to.
fn grants(region: &Region, rules: &Rules, report: &Report) -> String {
    let mut schemas: Vec<&str> = rules.exact_tables().map(|(schema, _)| schema).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let mut out = String::from("The account needs:\n");
    for statement in preflight::grants(report.dialect, &region.source.user, &schemas) {
        out.push_str("  ");
        out.push_str(&statement);
        out.push('\n');
    }
    out
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).context("write to standard output").map_err(Failure::Failed)
}
