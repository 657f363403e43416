//! What clients do to a cache server, and what that costs it: processor time of the server, not of the clients.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes and times of a benchmark are small and positive"
)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::random::{Random, Zipf};
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Keys that are read; all are there.
const KEYS: u32 = 100_000;
const SKEW: f64 = 0.99;
const VALUE_BYTES_MEAN: f64 = 350.0;
const VALUE_BYTES_MAX: usize = 8000;
/// Connections of a thread of clients.
pub(crate) const CONNECTIONS: usize = 32;
/// Rounds of requests that are made before the clock starts; they are sent again and again.
const ROUNDS: usize = 200;
/// A server that does not answer by then has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One `get`, then the answer.
    Get,
    /// Sixteen at a time.
    Pipelined,
    /// One `get` of 24 keys.
    Multiget,
    /// Nine `get` to one `set`, one at a time.
    Mixed,
}

impl Shape {
    pub(crate) const ALL: [Shape; 4] =
        [Shape::Get, Shape::Pipelined, Shape::Multiget, Shape::Mixed];

    /// In a figure's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Get => "get",
            Shape::Pipelined => "pipelined",
            Shape::Multiget => "multiget",
            Shape::Mixed => "mixed",
        }
    }

    fn depth(self) -> usize {
        if self == Shape::Pipelined { 16 } else { 1 }
    }

    fn keys(self) -> usize {
        if self == Shape::Multiget { 24 } else { 1 }
    }
}

/// A server under load.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) pid: u32,
}

/// What some seconds of load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Keys read or written for each second.
    pub(crate) keys_per_s: f64,
    /// The same for each second of the server's processor time.
    pub(crate) keys_per_cpu_s: f64,
    /// The server's processor seconds for each second.
    pub(crate) busy: f64,
}

/// Bytes of a key's value: log-normal, and the same each time.
fn value_bytes(key: u32) -> usize {
    let mut random = Random::new(u64::from(key), 5);
    (log_normal(&mut random, VALUE_BYTES_MEAN) as usize).clamp(1, VALUE_BYTES_MAX)
}

/// With a deviation of one in the logarithm.
pub(crate) fn log_normal(random: &mut Random, mean: f64) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * random.unit()).cos();
    (mean.ln() - 0.5 + normal).exp()
}

fn key(number: u32) -> String {
    format!("key:{number:020}")
}

fn set(key: &str, bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("set {key} 0 3600 {bytes}\r\n").as_bytes());
    out.resize(out.len() + bytes, b'v');
    out.extend_from_slice(b"\r\n");
}

/// Stores every key.
pub(crate) fn fill(target: &Target) -> Result<()> {
    let mut stream = connect(&target.address)?;
    let mut answers = vec![0; 8 * 100];
    for first in (0..KEYS).step_by(100) {
        let mut bytes = Vec::new();
        for number in first..first + 100 {
            set(&key(number), value_bytes(number), &mut bytes);
        }
        stream.write_all(&bytes).context("fill a server")?;
        stream.read_exact(&mut answers).context("fill a server")?;
        ensure!(answers == b"STORED\r\n".repeat(100), "a server does not store");
    }
    Ok(())
}

pub(crate) fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("connect to a server")?;
    stream.set_nodelay(true).context("connect to a server")?;
    stream.set_read_timeout(Some(PATIENCE)).context("connect to a server")?;
    Ok(stream)
}

/// What one connection sends at once, and how many bytes answer it.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) request: Vec<u8>,
    pub(crate) answer_bytes: usize,
}

fn round(shape: Shape, zipf: &Zipf, random: &mut Random) -> Round {
    let mut out = Round { request: Vec::new(), answer_bytes: 0 };
    for _ in 0..shape.depth() {
        let scatter = |rank: u32| rank.wrapping_mul(0x9e37_79b1) % KEYS;
        if shape == Shape::Mixed && random.one_in(10) {
            let number = scatter(zipf.rank(random));
            set(&key(number), value_bytes(number), &mut out.request);
            out.answer_bytes += b"STORED\r\n".len();
            continue;
        }
        out.request.extend_from_slice(b"get");
        for _ in 0..shape.keys() {
            let number = scatter(zipf.rank(random));
            let (name, bytes) = (key(number), value_bytes(number));
            out.request.extend_from_slice(format!(" {name}").as_bytes());
            out.answer_bytes += format!("VALUE {name} 0 {bytes}\r\n\r\n").len() + bytes;
        }
        out.request.extend_from_slice(b"\r\n");
        out.answer_bytes += b"END\r\n".len();
    }
    out
}

/// Everything that a thread of clients sends, again and again.
pub(crate) fn rounds(shape: Shape, number: u64) -> Vec<Round> {
    let (zipf, mut random) = (Zipf::with_skew(KEYS, SKEW), Random::new(21, number));
    (0..ROUNDS * CONNECTIONS).map(|_| round(shape, &zipf, &mut random)).collect()
}

/// Clients that have asked for one key, and ask for nothing more.
pub(crate) fn idle(target: &Target, count: usize) -> Result<Vec<TcpStream>> {
    let (mut clients, mut answer) = (Vec::new(), vec![0; 1 << 16]);
    let round = &rounds(Shape::Get, 0)[0];
    for _ in 0..count {
        let mut client = connect(&target.address)?;
        client.write_all(&round.request).context("send")?;
        client.read_exact(&mut answer[..round.answer_bytes]).context("read an answer")?;
        clients.push(client);
    }
    Ok(clients)
}

/// What clients do, how many threads of them, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) threads: usize,
    pub(crate) length: Duration,
}

/// Loads a server as much as the clients can.
pub(crate) fn load(target: &Target, plan: Plan) -> Result<Load> {
    load_with(target, plan, rounds)
}

/// The same for a server that only sends as many bytes as it is asked for.
pub(crate) fn load_floor(target: &Target, plan: Plan) -> Result<Load> {
    load_with(target, plan, |shape, number| {
        let mut rounds = rounds(shape, number);
        for Round { request, answer_bytes } in &mut rounds {
            request[..4].copy_from_slice(&(*answer_bytes as u32).to_le_bytes());
        }
        rounds
    })
}

/// What such a request asks for: its first four bytes say so.
pub(crate) fn floor_bytes(request: &[u8]) -> usize {
    u32::from_le_bytes([request[0], request[1], request[2], request[3]]) as usize
}

fn load_with(target: &Target, plan: Plan, rounds: fn(Shape, u64) -> Vec<Round>) -> Result<Load> {
    let clients: Vec<_> = (0..plan.threads)
        .map(|number| {
            let target = target.clone();
            thread::spawn(move || client(&target, plan, &rounds(plan.shape, number as u64)))
        })
        .collect();
    // The clients prepare for about as long.
    let mut keys = 0;
    let (mut cpu, mut seconds) = (0.0, 0.0);
    for client in clients {
        let done = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        keys += done.keys;
        cpu = f64::max(cpu, done.cpu);
        seconds = f64::max(seconds, done.seconds);
    }
    let keys = keys as f64;
    Ok(Load { keys_per_s: keys / seconds, keys_per_cpu_s: keys / cpu, busy: cpu / seconds })
}

struct Done {
    keys: usize,
    cpu: f64,
    seconds: f64,
}

fn client(target: &Target, plan: Plan, rounds: &[Round]) -> Result<Done> {
    let mut streams: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| connect(&target.address)).collect::<Result<_>>()?;
    let mut answer = vec![0; rounds.iter().map(|round| round.answer_bytes).max().unwrap_or(0)];
    let (begin, cpu, mut keys) = (Instant::now(), cpu_seconds(target.pid)?, 0);
    for group in rounds.chunks(CONNECTIONS).cycle() {
        if begin.elapsed() >= plan.length {
            break;
        }
        for (stream, round) in streams.iter_mut().zip(group) {
            stream.write_all(&round.request).context("send")?;
        }
        for (stream, round) in streams.iter_mut().zip(group) {
            stream.read_exact(&mut answer[..round.answer_bytes]).context("read an answer")?;
        }
        keys += CONNECTIONS * plan.shape.depth() * plan.shape.keys();
    }
    let cpu = cpu_seconds(target.pid)? - cpu;
    Ok(Done { keys, cpu, seconds: begin.elapsed().as_secs_f64() })
}

/// Microseconds of single gets, sent at a rate that both servers bear: the 99th percentile.
pub(crate) fn latency_p99_us(target: &Target, length: Duration) -> Result<f64> {
    const PER_SECOND: u32 = 10_000;
    let (zipf, mut random) = (Zipf::with_skew(KEYS, SKEW), Random::new(22, 0));
    let rounds: Vec<Round> =
        (0..ROUNDS * CONNECTIONS).map(|_| round(Shape::Get, &zipf, &mut random)).collect();
    let mut streams: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| connect(&target.address)).collect::<Result<_>>()?;
    let mut answer = vec![0; 1 << 16];
    let mut times = Histogram::<u64>::new(3).context("a histogram")?;
    let (begin, step) = (Instant::now(), Duration::from_secs(1) / PER_SECOND);
    let mut due = begin;
    for (at, round) in rounds.iter().cycle().enumerate() {
        if begin.elapsed() >= length {
            break;
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let sent = Instant::now();
        let stream = &mut streams[at % CONNECTIONS];
        stream.write_all(&round.request).context("send")?;
        stream.read_exact(&mut answer[..round.answer_bytes]).context("read an answer")?;
        times.record(sent.elapsed().as_nanos() as u64).context("note a time")?;
        // Late ones are not made up for: both servers get the same pauses.
        due = (due + step).max(sent);
    }
    Ok(times.value_at_quantile(0.99) as f64 / 1000.0)
}

/// Processor seconds of all threads of a process.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let path = thread.context("list threads")?.path().join("schedstat");
        // A thread may have ended in between.
        let Ok(stat) = std::fs::read_to_string(path) else { continue };
        nanos += stat.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0_u64);
    }
    Ok(nanos as f64 / 1e9)
}

/// Bytes of memory for each item above key and value: fills the server far beyond its limit with a realistic mix.
pub(crate) fn overhead_bytes(target: &Target, megabytes: u32) -> Result<f64> {
    let mut stream = connect(&target.address)?;
    let mut random = Random::new(31, 0);
    let wanted = u64::from(megabytes) * (1 << 20) * 3 / 2;
    let (mut sent, mut number, mut sizes) = (0, 0_u32, Vec::new());
    let mut answers = vec![0; 8 * 100];
    while sent < wanted {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let value = (log_normal(&mut random, VALUE_BYTES_MEAN) as usize).clamp(1, 100_000);
            set(&key(number), value, &mut bytes);
            sizes.push(value as u64 + 24);
            sent += value as u64 + 24;
            number += 1;
        }
        stream.write_all(&bytes).context("fill a server")?;
        stream.read_exact(&mut answers).context("fill a server")?;
    }
    let items: usize = stat(&mut stream, "curr_items")?;
    // Those that are left are about the last ones.
    let payload: u64 = sizes.iter().rev().take(items).sum();
    let resident = resident_bytes(target.pid)?;
    Ok((resident as f64 - payload as f64) / items as f64)
}

fn stat(stream: &mut TcpStream, name: &str) -> Result<usize> {
    stream.write_all(b"stats\r\n").context("ask for statistics")?;
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while !text.ends_with(b"END\r\n") {
        let read = stream.read(&mut part).context("read statistics")?;
        ensure!(read > 0, "the server hung up");
        text.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    line.and_then(|number| number.parse().ok()).with_context(|| format!("there is no {name}"))
}

pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("its status says nothing of memory")?;
    Ok(kilobytes << 10)
}
