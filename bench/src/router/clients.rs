//! Clients that ask through many connections, each as soon as it has its answer or at a fixed rate. They never sleep, as if they were on
//! other machines: to wake somebody costs whoever answers him more than a router does for a request, and would hide what is compared.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::processors::{Processors, Role};
use crate::load::{self, Round, Shape, Target};

/// Of each thread of clients.
pub(super) const CONNECTIONS: usize = 100;
/// Answers are read in parts of this size at most.
const PART_BYTES: usize = 64 << 10;

/// What is asked, where, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Connections are spread over them.
    pub(super) addresses: Vec<String>,
    pub(super) shape: Shape,
    pub(super) threads: usize,
    pub(super) pace: Pace,
    pub(super) length: Duration,
    /// Where clients run, if that matters.
    pub(super) processors: Option<Processors>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// On each connection again as soon as it was answered.
    AtOnce,
    /// So many a second in all, whether or not those before were answered.
    PerSecond(f64),
}

/// Requests a second, and those for each second of the target's processor time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_s: f64,
    pub(super) per_cpu_s: f64,
}

/// How much a router answers.
pub(super) fn rate(target: &Target, shape: Shape, length: Duration) -> Result<Rate> {
    let addresses = vec![target.address.clone()];
    let plan = Plan { addresses, shape, threads: 2, pace: Pace::AtOnce, length, processors: None };
    let done = drive(&plan, Some(target.pid))?;
    let answers = done.times.len() as f64;
    Ok(Rate { per_s: answers / done.seconds, per_cpu_s: answers / done.cpu })
}

/// Single gets at a steady rate, from a processor of their own.
#[derive(Clone, Debug)]
pub(super) struct Steady {
    pub(super) per_second: f64,
    pub(super) length: Duration,
    pub(super) processors: Processors,
}

impl Steady {
    /// The share of the time for which they keep a router busy.
    pub(super) fn busy(&self, target: &Target) -> Result<f64> {
        let done = drive(&self.to(vec![target.address.clone()]), Some(target.pid))?;
        Ok(done.cpu / done.seconds)
    }

    /// Milliseconds from when one is due until it is answered: the 99th percentile.
    pub(super) fn p99_ms(&self, addresses: &[String]) -> Result<f64> {
        let done = drive(&self.to(addresses.to_vec()), None)?;
        Ok(done.times.value_at_quantile(0.99) as f64 / 1e6)
    }

    fn to(&self, addresses: Vec<String>) -> Plan {
        let Steady { per_second, length, processors } = self.clone();
        let (pace, processors) = (Pace::PerSecond(per_second), Some(processors));
        Plan { addresses, shape: Shape::Get, threads: 1, pace, length, processors }
    }
}

/// What one or more threads of clients have seen.
struct Done {
    /// Nanoseconds, from when each was due.
    times: Histogram<u64>,
    /// Processor time of the target.
    cpu: f64,
    seconds: f64,
}

fn drive(plan: &Plan, pid: Option<u32>) -> Result<Done> {
    let clients: Vec<_> = (0..plan.threads)
        .map(|number| {
            let plan = plan.clone();
            thread::spawn(move || {
                if let Some(processors) = &plan.processors {
                    processors.this_thread(Role::Clients)?;
                }
                Client::new(&plan, number)?.run(&plan, pid)
            })
        })
        .collect();
    let times = Histogram::<u64>::new(3).context("a histogram")?;
    let mut all = Done { times, cpu: 0.0, seconds: 0.0 };
    for client in clients {
        let done = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        all.times.add(done.times).context("add up times")?;
        // They begin at about the same time.
        all.cpu = f64::max(all.cpu, done.cpu);
        all.seconds = f64::max(all.seconds, done.seconds);
    }
    Ok(all)
}

/// One thread.
struct Client {
    streams: Vec<TcpStream>,
    rounds: Vec<Round>,
    part: Vec<u8>,
}

/// What was sent and not answered yet.
struct Waiting {
    connection: usize,
    due: Instant,
    missing_bytes: usize,
}

impl Client {
    fn new(plan: &Plan, number: usize) -> Result<Client> {
        let mut streams = Vec::new();
        for at in 0..CONNECTIONS {
            let stream = load::connect(&plan.addresses[at % plan.addresses.len()])?;
            stream.set_nonblocking(true).context("connect to a server")?;
            streams.push(stream);
        }
        let rounds = load::rounds(plan.shape, number as u64);
        Ok(Client { streams, rounds, part: vec![0; PART_BYTES] })
    }

    fn run(mut self, plan: &Plan, pid: Option<u32>) -> Result<Done> {
        let cpu = || pid.map_or(Ok(0.0), load::cpu_seconds);
        let mut times = Histogram::<u64>::new(3).context("a histogram")?;
        let mut free: VecDeque<usize> = (0..self.streams.len()).collect();
        let mut waiting: Vec<Waiting> = Vec::new();
        let (begin, cpu_before, mut sent) = (Instant::now(), cpu()?, 0);
        let mut next_due = begin;
        while begin.elapsed() < plan.length {
            // Where none is free it is sent late, and its time counts from when it was due.
            while next_due <= Instant::now()
                && let Some(connection) = free.pop_front()
            {
                let Round { request, answer_bytes } = &self.rounds[sent % self.rounds.len()];
                let due = match plan.pace {
                    Pace::AtOnce => Instant::now(),
                    Pace::PerSecond(rate) => {
                        let step = Duration::from_secs_f64(plan.threads as f64 / rate);
                        let due = next_due;
                        next_due += step;
                        due
                    }
                };
                self.streams[connection].write_all(request).context("send")?;
                waiting.push(Waiting { connection, due, missing_bytes: *answer_bytes });
                sent += 1;
            }
            let before = waiting.len();
            self.take_answers(&mut waiting, &mut free, &mut times)?;
            if waiting.len() == before {
                // Servers may need the processor.
                thread::yield_now();
            }
        }
        Ok(Done { times, cpu: cpu()? - cpu_before, seconds: begin.elapsed().as_secs_f64() })
    }

    fn take_answers(
        &mut self,
        waiting: &mut Vec<Waiting>,
        free: &mut VecDeque<usize>,
        times: &mut Histogram<u64>,
    ) -> Result<()> {
        let mut at = 0;
        while let Some(it) = waiting.get_mut(at) {
            let most = it.missing_bytes.min(self.part.len());
            match self.streams[it.connection].read(&mut self.part[..most]) {
                Ok(read) => {
                    ensure!(read > 0, "a server hung up");
                    it.missing_bytes -= read;
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                Err(err) => return Err(err).context("read an answer"),
            }
            if it.missing_bytes == 0 {
                times.record(it.due.elapsed().as_nanos() as u64).context("note a time")?;
                free.push_back(it.connection);
                waiting.remove(at);
            } else {
                at += 1;
            }
        }
        Ok(())
    }
}
