//! `mcsqueal replay`: past invalidations, made once more on the nodes.
//!
//! It reads everything twice: first to count, then to delete. How far it is stands in a state file, so that the same
//! command goes on where it was stopped. Nothing is said to the stream, and no cursor moves: nodes only get deletes, those
//! of ours with the versions that they had.

pub(crate) mod bar;
mod nodes;
mod plain;
pub(crate) mod state;

use std::{
    collections::HashSet,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::anyhow;
use schemas::config::Region;
use stream::Reader;
use tokio::time::{Instant, sleep_until};

use crate::{
    args::ReplayArgs,
    clock,
    failure::Failure,
    history::{self, History, Range, Step},
    invalidate::{confirm, say},
    load, log,
    run::Signals,
    stream::{From, Select, block_on},
};
use bar::Bar;
use nodes::Nodes;
use state::State;

/// Distinct keys that are counted; beyond that it is "at least".
const DISTINCT_MAX: usize = 1 << 22;

/// Runs the command.
pub(crate) fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    if args.rate == 0 {
        return Err(Failure::Config(anyhow!("--rate 0: nothing would ever be deleted")));
    }
    let (region, rules) = load::region(&args.config)?;
    let range = range(args)?;
    let mut nodes =
        Nodes::choose(&args.config, &region, args.cluster.as_deref(), args.node.as_deref())?;
    block_on(async {
        let mut signals = Signals::install()?;
        let reader = log::reader(&args.config, &region).await?;
        nodes.of_stream(reader.stream_id(), reader.partitions());
        let history = if args.remap {
            let settings = history::binlog_settings(&args.config, &region)?;
            History::of_binlog(reader, range.clone(), &region, settings, rules).await?
        } else {
            History::of_stream(reader, range.clone()).await?
        };
        if history.is_empty() {
            return Err(Failure::Config(anyhow!("nothing is between --from and --to")));
        }
        let state = State::open(&args.state, &identity(args, &region))?;
        let plan = tokio::select! {
            plan = Plan::count(&history, &nodes) => plan?,
            name = signals.wait() => return Err(Failure::Failed(anyhow!("{name}: nothing was done"))),
        };
        say(&mut io::stdout().lock(), &plan.describe(args, &range.select, &nodes, &state))?;
        if args.dry_run {
            return say(&mut io::stdout().lock(), "dry run: nothing was done\n");
        }
        if plan.keys > args.confirm_above && !args.yes {
            confirm("Go on?", "--yes")?;
        }
        let stop = args.stop_file.clone().unwrap_or_else(|| state::stop_file(&args.state));
        let work = Work { history, nodes, state, stop, rate: args.rate, total: plan.keys };
        work.run(&mut signals).await
    })
}

fn range(args: &ReplayArgs) -> Result<Range, Failure> {
    let inverted = match (args.from, args.to) {
        (From::Time(from), From::Time(to)) => from >= to,
        (From::Version(from), From::Version(to)) => from > to,
        (From::Place(from), From::Place(to)) => from >= to,
        (From::Time(from), From::End) => from > clock::now(),
        (From::End, _) | (_, From::Start) => true,
        _ => false,
    };
    if inverted {
        return Err(Failure::Config(anyhow!("--from is not before --to: nothing is in the range")));
    }
    let select = Select::of(&args.filters, args.from, args.to)?;
    Ok(Range { from: args.from, to: args.to, select })
}

/// What tells one replay from another: who continues must mean the same.
fn identity(args: &ReplayArgs, region: &Region) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {}",
        region.name, args.from, args.to, args.filters, args.cluster, args.node, args.remap
    )
}

/// What there is to do.
#[derive(Debug, Default)]
struct Plan {
    keys: u64,
    distinct: HashSet<u64>,
    deletes: u64,
    floors: u64,
    gaps: u64,
}

impl Plan {
    async fn count(history: &History, nodes: &Nodes) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        let mut steps = history.read(None);
        while let Some(step) = steps.next().await? {
            plan.floors += step.floors.len() as u64;
            plan.gaps += step.gaps;
            for past in &step.keys {
                plan.keys += 1;
                plan.deletes += nodes.count_owners(&past.key);
                if plan.distinct.len() < DISTINCT_MAX {
                    plan.distinct.insert(xxhash_rust::xxh64::xxh64(past.key.as_bytes(), 0));
                }
            }
        }
        Ok(plan)
    }

    fn describe(&self, args: &ReplayArgs, select: &Select, nodes: &Nodes, state: &State) -> String {
        let at_least = if self.distinct.len() < DISTINCT_MAX { "" } else { "at least " };
        let seconds = self.keys / u64::from(args.rate);
        let mut text = format!(
            "{} keys ({at_least}{} different), {} deletes on {} node(s), about {seconds} s at {} keys/s\n",
            self.keys,
            self.distinct.len(),
            self.deletes,
            nodes.len(),
            args.rate
        );
        let filters = select.describe();
        if !filters.is_empty() {
            text.push_str(&format!("only: {filters}\n"));
        }
        let (versioned, plain) = (nodes.len_versioned(), nodes.len() - nodes.len_versioned());
        if self.floors > 0 && plain > 0 {
            text.push_str(&format!(
                "warning: {} floor(s) are in the range; their keys cannot be listed, and are not replayed on nodes without versions (see mcsqueal invalidate --prefix)\n",
                self.floors
            ));
        }
        if self.floors > 0 && versioned > 0 {
            text.push_str(&format!("{} floor(s) are raised again\n", self.floors));
        }
        if self.gaps > 0 {
            text.push_str(&format!(
                "warning: {} hole(s): what was there is gone from the stream (--remap may find it in the binlog)\n",
                self.gaps
            ));
        }
        if versioned > 0 {
            text.push_str(&format!(
                "{versioned} node(s) get each delete with its version: values that were filled since stay\n"
            ));
        }
        if plain > 0 {
            text.push_str(&format!(
                "warning: {plain} node(s) are deleted from without versions: values that were filled since are removed as well\n"
            ));
        }
        if state.keys > 0 {
            text.push_str(&format!(
                "goes on after {} keys, as {} says\n",
                state.keys,
                args.state.display()
            ));
        }
        text
    }
}

/// The second reading.
struct Work {
    history: History,
    nodes: Nodes,
    state: State,
    stop: PathBuf,
    rate: u32,
    total: u64,
}

impl Work {
    async fn run(mut self, signals: &mut Signals) -> Result<(), Failure> {
        let begun = Instant::now();
        let resumed = self.state.keys;
        let mut bar = Bar::new(self.total, resumed);
        let mut steps = self.history.read(self.state.mark.clone());
        let ended = loop {
            let step = tokio::select! {
                biased;
                name = signals.wait() => break Err(anyhow!("stopped by {name}")),
                step = steps.next() => step?,
            };
            let Some(step) = step else { break Ok(()) };
            if self.stop.exists() {
                break Err(anyhow!("stopped by {}", self.stop.display()));
            }
            if let Err(err) = self.deliver(step).await {
                break Err(err);
            }
            bar.show(self.state.keys);
            let done = self.state.keys.saturating_sub(resumed);
            let due =
                begun + Duration::from_millis(done.saturating_mul(1000) / u64::from(self.rate));
            tokio::select! {
                name = signals.wait() => break Err(anyhow!("stopped by {name}")),
                () = sleep_until(due) => {}
            }
        };
        bar.end();
        let Nodes { removed, absent, deleted, .. } = self.nodes;
        let summary = format!(
            "{} of {} keys in {:.1} s: {removed} values removed, {absent} were not there, {deleted} deletes with versions\n",
            self.state.keys,
            self.total,
            begun.elapsed().as_secs_f64(),
        );
        say(&mut io::stdout().lock(), &summary)?;
        match ended {
            Ok(()) => self.state.finish(),
            Err(err) => {
                let err = err.context("the same command goes on from here");
                drop(io::stdout().flush());
                Err(Failure::Failed(err))
            }
        }
    }

    /// All of a step, or an error; then the step is done again, which is harmless.
    async fn deliver(&mut self, step: Step) -> anyhow::Result<()> {
        self.nodes.delete(&step).await?;
        self.state.keys += step.keys.len() as u64;
        if let Some(mark) = step.mark {
            self.state.mark = Some(mark);
            self.state.keep()?;
        }
        Ok(())
    }
}
