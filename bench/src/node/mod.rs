//! How much a cache node does for its processor time and its memory: the engine alone, and the whole beside memcached.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes and times of a benchmark are small and positive"
)]

mod engine;
mod floor;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use e2e::servers::Servers;

use crate::{
    args,
    figures::{Figures, median},
    load::{self, CONNECTIONS, Plan, Shape},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    engine: engine::Scale,
    runs: usize,
    /// Of each kind of load, each time.
    load: Duration,
    /// Of the servers that are filled.
    megabytes: u32,
}

const FULL: Scale = Scale {
    engine: engine::Scale { items: 1_000_000, lookups: 8_000_000, runs: 5 },
    runs: 15,
    load: Duration::from_secs(1),
    megabytes: 512,
};
const QUICK: Scale = Scale {
    engine: engine::Scale { items: 1_000_000, lookups: 2_000_000, runs: 1 },
    runs: 1,
    load: Duration::from_secs(1),
    megabytes: 256,
};
/// Who has the machine's cores. A server that waits for its clients sleeps between requests, and whoever is faster sleeps more, which
/// costs processor time; so there are enough clients that no server ever waits.
#[derive(Clone, Copy, Debug)]
struct Cores {
    server: usize,
    clients: usize,
}

impl Cores {
    fn of_this_machine() -> Cores {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let server = (all / 4).max(1);
        Cores { server, clients: all.saturating_sub(server).max(1) }
    }
}

/// The program.
pub fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|first| first == floor::ARGUMENT).is_some() {
        let threads = args.next().and_then(|word| word.parse().ok()).context("how many threads?");
        return args::exit("node", threads.and_then(floor::serve));
    }
    args::program("node", args, (FULL, &[("--quick", QUICK)]), run)
}

fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    engine_alone(scale, figures)?;
    let runtime = args::runtime()?;
    runtime.block_on(beside_memcached(scale, figures))?;
    runtime.block_on(more_threads(scale, figures))
}

fn engine_alone(scale: Scale, figures: &mut Figures) -> Result<()> {
    let runs: Vec<engine::Measured> =
        (0..scale.engine.runs).map(|_| engine::measure(scale.engine)).collect::<Result<_>>()?;
    let middle = |of: fn(&engine::Measured) -> f64| median(runs.iter().map(of).collect());
    for (name, value, unit) in [
        ("node_engine_gets_per_s", middle(|run| run.gets_per_s), "1/s"),
        ("node_engine_batched_gets_per_s", middle(|run| run.batched_gets_per_s), "1/s"),
        ("node_engine_sets_per_s", middle(|run| run.sets_per_s), "1/s"),
        ("node_engine_walk_keys_per_s", middle(|run| run.walk_keys_per_s), "1/s"),
        ("node_overhead_bytes_per_item", middle(|run| run.overhead_bytes), "B"),
        ("node_overhead_marked_bytes_per_item", middle(|run| run.overhead_marked_bytes), "B"),
        ("node_expiry_s", middle(|run| run.expiry_s), "s"),
    ] {
        figures.say(name, value, unit);
    }
    Ok(())
}

/// Both servers with the same threads and memory, and one that does nothing, in turns.
#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
async fn beside_memcached(scale: Scale, figures: &mut Figures) -> Result<()> {
    let servers = Servers::from_env()?;
    let cores = Cores::of_this_machine();
    let (threads, memory) = (cores.server.to_string(), scale.megabytes.to_string());
    let flags = ["-t", &threads, "-m", &memory];
    let (ours, theirs) = (servers.cache_node(&flags).await?, servers.memcached_with(&flags).await?);
    let ours_target = load::Target { address: ours.address(), pid: ours.pid()? };
    let theirs_target = load::Target { address: theirs.address(), pid: theirs.pid()? };
    let floor = floor::Floor::start(&threads)?;
    println!(
        "{threads} threads and {memory} MB each; clients are {} threads with {CONNECTIONS} connections each",
        cores.clients
    );
    for target in [&ours_target, &theirs_target] {
        load::fill(target)?;
    }
    for shape in Shape::ALL {
        let plan = Plan { shape, threads: cores.clients, length: scale.load };
        let (mut ratios, mut rates, mut ceilings) = (Vec::new(), Vec::new(), Vec::new());
        let (mut busy, mut theirs_busy) = (Vec::new(), Vec::new());
        for _ in 0..scale.runs {
            let ours = load::load(&ours_target, plan)?;
            let theirs = load::load(&theirs_target, plan)?;
            let nothing = load::load_floor(&floor.target(), plan)?;
            ceilings.push(nothing.keys_per_cpu_s / theirs.keys_per_cpu_s);
            ratios.push(ours.keys_per_cpu_s / theirs.keys_per_cpu_s);
            rates.push(ours.keys_per_cpu_s);
            busy.push(ours.busy);
            theirs_busy.push(theirs.busy);
        }
        let name = shape.name();
        figures.say(&format!("node_{name}_ratio"), median(ratios), "");
        figures.say(&format!("node_{name}_ceiling_ratio"), median(ceilings), "");
        figures.say(&format!("node_{name}_keys_per_cpu_s"), median(rates), "1/s");
        figures.say(&format!("node_{name}_busy_cores"), median(busy), "");
        figures.say(&format!("memcached_{name}_busy_cores"), median(theirs_busy), "");
    }
    let (mut ratios, mut ours_us) = (Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        let ours = load::latency_p99_us(&ours_target, scale.load)?;
        ratios.push(ours / load::latency_p99_us(&theirs_target, scale.load)?);
        ours_us.push(ours);
    }
    figures.say("node_get_p99_ratio", median(ratios), "");
    figures.say("node_get_p99_us", median(ours_us), "us");
    for (name, target) in [("", &ours_target), ("memcached_", &theirs_target)] {
        let bytes = load::overhead_bytes(target, scale.megabytes)?;
        figures.say(&format!("node_resident_{name}bytes_per_item"), bytes, "B");
    }
    Ok(())
}

/// Two threads beside one, in turns, of our node and of memcached: how much more they do, and what a key then costs. Clients send
/// sixteen requests at a time, from two threads: on four cores, two threads of a server wait for them now and then, and a key
/// costs more for that alone.
async fn more_threads(scale: Scale, figures: &mut Figures) -> Result<()> {
    let servers = Servers::from_env()?;
    let memory = scale.megabytes.to_string();
    let flags = |threads| ["-t", threads, "-m", memory.as_str()];
    let ours = [servers.cache_node(&flags("1")).await?, servers.cache_node(&flags("2")).await?];
    let theirs =
        [servers.memcached_with(&flags("1")).await?, servers.memcached_with(&flags("2")).await?];
    let mut targets = Vec::new();
    for node in &ours {
        targets.push(load::Target { address: node.address(), pid: node.pid()? });
    }
    for node in &theirs {
        targets.push(load::Target { address: node.address(), pid: node.pid()? });
    }
    for target in &targets {
        load::fill(target)?;
    }
    let plan = Plan { shape: Shape::Pipelined, threads: 2, length: scale.load };
    let (mut rates, mut costs) = (vec![Vec::new(); 2], vec![Vec::new(); 2]);
    for _ in 0..scale.runs {
        for (at, pair) in targets.chunks(2).enumerate() {
            let [one, two] = pair else { continue };
            let (one, two) = (load::load(one, plan)?, load::load(two, plan)?);
            rates[at].push(two.keys_per_s / one.keys_per_s);
            costs[at].push(two.keys_per_cpu_s / one.keys_per_cpu_s);
        }
    }
    for (name, (rate, cost)) in ["node", "memcached"].into_iter().zip(rates.into_iter().zip(costs))
    {
        figures.say(&format!("{name}_two_threads_rate_ratio"), median(rate), "");
        figures.say(&format!("{name}_two_threads_keys_per_cpu_s_ratio"), median(cost), "");
    }
    Ok(())
}
