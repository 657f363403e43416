//! How much a router does for its processor time, beside the routers of others; how much later answers come through it; and what clients
//! cost that ask nothing.

#![expect(clippy::cast_possible_truncation, reason = "sizes and times of a benchmark are small")]

mod clients;
mod processors;

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use e2e::servers::{Memcached, Servers};

use self::{
    clients::Steady,
    processors::{Processors, Role},
};
use crate::{
    args,
    figures::{Figures, median},
    load::{self, Plan, Shape, Target},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    runs: usize,
    /// Of each kind of load, each time.
    load: Duration,
    idle_clients: usize,
}

const FULL: Scale = Scale { runs: 7, load: Duration::from_secs(3), idle_clients: 10_000 };
const QUICK: Scale = Scale { runs: 1, load: Duration::from_secs(1), idle_clients: 2000 };
const NODES: usize = 4;
/// To find out how much is half load.
const HALF_LOAD_STEPS: u32 = 6;
const HALF_LOAD_STEP: Duration = Duration::from_millis(500);

/// The program.
pub fn main() -> ExitCode {
    let scales = (FULL, &[("--quick", QUICK)][..]);
    args::program("router", std::env::args().skip(1), scales, |scale, figures| {
        args::runtime()?.block_on(run(scale, figures))
    })
}

/// What stands between clients and nodes.
struct Router {
    name: &'static str,
    target: Target,
}

/// All routers have one thread, because twemproxy has no more, and the same nodes, each of which has all keys: so it does not matter
/// which of them a router takes for a key.
#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
async fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    let servers = Servers::from_env()?;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(servers.memcached_with(&["-t", "1", "-m", "256"]).await?);
    }
    for node in &nodes {
        load::fill(&Target { address: node.address(), pid: node.pid()? })?;
    }
    let addresses: Vec<String> = nodes.iter().map(Memcached::address).collect();
    let ours = servers.router(&file(&addresses)).await?;
    let twemproxy = servers.twemproxy(&addresses).await?;
    let memcached = servers.memcached_proxy(&addresses).await?;
    let ours = Router { name: "", target: Target { address: ours.address(), pid: ours.pid()? } };
    let mut peers = Vec::new();
    if let Some(it) = &twemproxy {
        let target = Target { address: it.address(), pid: it.pid() };
        peers.push(Router { name: "twemproxy_", target });
    } else {
        println!("there is no twemproxy (nutcracker)");
    }
    if let Some(it) = &memcached {
        let target = Target { address: it.address(), pid: it.pid()? };
        peers.push(Router { name: "memcached_", target });
    } else {
        println!("the memcached here has no proxy built in");
    }
    ensure!(!peers.is_empty(), "there is no other router to measure ours beside");
    println!(
        "routers with one thread, {NODES} memcached; clients are 2 threads with {} connections each",
        clients::CONNECTIONS
    );
    let per_second = beside_others(scale, &ours, &peers, figures)?;
    let routers: Vec<Router> = std::iter::once(ours).chain(peers).collect();
    let processors = Processors::watch()?;
    for router in &routers {
        processors.process(router.target.pid, Role::Router)?;
    }
    for node in &nodes {
        processors.process(node.pid()?, Role::Nodes)?;
    }
    figures.say("router_processor_lost_share", processors.lost, "");
    let half_load = half_load(&routers[0], per_second, &processors)?;
    figures.say("router_half_load_per_s", half_load, "1/s");
    for (name, per_second) in [("", half_load), ("half_rate_", per_second / 2.0)] {
        let processors = processors.clone();
        let gets = Steady { per_second, length: scale.load, processors };
        let (direct, added) = latency(scale.runs, &gets, &addresses, &routers)?;
        for (router, added) in routers.iter().zip(added) {
            figures.say(&format!("router_{}{name}added_p99_ms", router.name), added, "ms");
        }
        figures.say(&format!("router_direct_{name}p99_ms"), direct, "ms");
    }
    idle_clients(scale, &servers, &addresses, figures).await
}

/// One pool of these nodes, and whatever a router has by default.
fn file(nodes: &[String]) -> String {
    let mut text = "threads = 1\n[routes]\nstart = \"main\"\n[routes.pool.main]\n".to_owned();
    writeln!(text, "servers = {nodes:?}").expect("a text takes everything");
    text
}

/// In turns; returns how many single gets a second ours has answered.
fn beside_others(
    scale: Scale,
    ours: &Router,
    peers: &[Router],
    figures: &mut Figures,
) -> Result<f64> {
    let mut gets_per_s = 0.0;
    for shape in [Shape::Get, Shape::Multiget] {
        let (mut costs, mut rates) = (vec![Vec::new(); peers.len() + 1], Vec::new());
        for _ in 0..scale.runs {
            for (peer, costs) in peers.iter().zip(costs.iter_mut().skip(1)) {
                costs.push(clients::rate(&peer.target, shape, scale.load)?.per_cpu_s);
            }
            let rate = clients::rate(&ours.target, shape, scale.load)?;
            costs[0].push(rate.per_cpu_s);
            rates.push(rate.per_s);
        }
        let name = shape.name();
        let middle: Vec<f64> = costs.into_iter().map(median).collect();
        let best = middle.iter().skip(1).copied().fold(0.0, f64::max);
        figures.say(&format!("router_{name}_ratio"), middle[0] / best, "");
        for (router, per_cpu_s) in std::iter::once(ours).chain(peers).zip(middle) {
            figures.say(&format!("router_{}{name}_per_cpu_s", router.name), per_cpu_s, "1/s");
        }
        let rate = median(rates);
        figures.say(&format!("router_{name}_per_s"), rate, "1/s");
        if shape == Shape::Get {
            gets_per_s = rate;
        }
    }
    Ok(gets_per_s)
}

/// Single gets a second that keep our router's thread busy half of the time. Half of the most that it can do is more, and keeps it busy all
/// of the time: the more it has to do, the more it does at once, and the less each request costs.
fn half_load(ours: &Router, most: f64, processors: &Processors) -> Result<f64> {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..HALF_LOAD_STEPS {
        let (per_second, processors) = (f64::midpoint(low, high), processors.clone());
        let gets = Steady { per_second, length: HALF_LOAD_STEP, processors };
        if gets.busy(&ours.target)? > 0.5 {
            high = per_second;
        } else {
            low = per_second;
        }
    }
    Ok(f64::midpoint(low, high))
}

/// In turns: milliseconds to the nodes themselves, and what each router adds; 99th percentiles.
fn latency(
    runs: usize,
    gets: &Steady,
    nodes: &[String],
    routers: &[Router],
) -> Result<(f64, Vec<f64>)> {
    let (mut direct, mut added) = (Vec::new(), vec![Vec::new(); routers.len()]);
    for _ in 0..runs {
        let to_node = gets.p99_ms(nodes)?;
        direct.push(to_node);
        for (router, added) in routers.iter().zip(&mut added) {
            added.push(gets.p99_ms(std::slice::from_ref(&router.target.address))? - to_node);
        }
    }
    Ok((median(direct), added.into_iter().map(median).collect()))
}

/// Of a router of its own, whose clients have asked once, and then ask nothing.
async fn idle_clients(
    scale: Scale,
    servers: &Servers,
    nodes: &[String],
    figures: &mut Figures,
) -> Result<()> {
    let router = servers.router(&file(nodes)).await?;
    let target = Target { address: router.address(), pid: router.pid()? };
    let plan = Plan { shape: Shape::Get, threads: 2, length: Duration::from_millis(200) };
    load::load(&target, plan)?;
    let before = load::resident_bytes(target.pid)?;
    let clients = load::idle(&target, scale.idle_clients)?;
    let after = load::resident_bytes(target.pid)?;
    let bytes = after.saturating_sub(before) as f64 / clients.len() as f64;
    figures.say("router_idle_memory_mib", bytes * 10_000.0 / f64::from(1 << 20), "MiB");
    Ok(())
}
