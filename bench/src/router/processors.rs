//! Processors of their own for those whose times are measured: else the times are mostly those in which one waits for another's processor,
//! which they would not on machines of their own.
//!
//! A virtual machine's host takes processors away for milliseconds, some of them more often than others. Who is measured gets the one that
//! is taken away least.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

/// With fewer, everybody stays where he is.
const PROCESSORS: usize = 4;
const WATCHED: Duration = Duration::from_secs(2);
/// Whoever only looks at the clock and does not see it for so long has lost his processor.
const GAP: Duration = Duration::from_micros(100);

#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Clients,
    Router,
    Nodes,
}

/// Who runs where.
#[derive(Clone, Debug)]
pub(super) struct Processors {
    /// The calmest first; none on a machine that has too few.
    order: Vec<usize>,
    /// The share of time for which the calmest was taken away.
    pub(super) lost: f64,
}

impl Processors {
    /// Watches them for some seconds; nothing else should run.
    pub(super) fn watch() -> Result<Processors> {
        let count = thread::available_parallelism().context("count processors")?.get();
        if count < PROCESSORS {
            return Ok(Processors { order: Vec::new(), lost: 0.0 });
        }
        let watched: Vec<_> = (0..count).map(|at| thread::spawn(move || lost(at))).collect();
        let mut all = Vec::new();
        for (at, thread) in watched.into_iter().enumerate() {
            let lost = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            all.push((lost, at));
        }
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        Ok(Processors { order: all.iter().map(|it| it.1).collect(), lost: all[0].0 })
    }

    /// Moves all threads of a process that there are.
    pub(super) fn process(&self, pid: u32, role: Role) -> Result<()> {
        self.place(role, &["-a"], &pid.to_string())
    }

    /// Moves the thread that calls.
    pub(super) fn this_thread(&self, role: Role) -> Result<()> {
        self.place(role, &[], &this_thread()?)
    }

    fn place(&self, role: Role, options: &[&str], who: &str) -> Result<()> {
        let its = match (role, &self.order[..]) {
            (_, []) => return Ok(()),
            (Role::Router, order) => &order[..1],
            (Role::Clients, order) => &order[1..2],
            (Role::Nodes, order) => &order[2..],
        };
        taskset(options, its, who)
    }
}

/// The share of time in which a processor did nothing for who spins on it.
fn lost(processor: usize) -> Result<f64> {
    taskset(&[], &[processor], &this_thread()?)?;
    let begin = Instant::now();
    let (mut last, mut lost) = (begin, Duration::ZERO);
    while last.duration_since(begin) < WATCHED {
        let now = Instant::now();
        let gap = now.duration_since(last);
        if gap > GAP {
            lost += gap;
        }
        last = now;
    }
    Ok(lost.as_secs_f64() / WATCHED.as_secs_f64())
}

fn this_thread() -> Result<String> {
    let own = std::fs::read_link("/proc/thread-self").context("read /proc/thread-self")?;
    let number = own.file_name().and_then(|name| name.to_str()).context("a thread's number")?;
    Ok(number.to_owned())
}

fn taskset(options: &[&str], processors: &[usize], who: &str) -> Result<()> {
    let list: Vec<String> = processors.iter().map(usize::to_string).collect();
    let mut command = Command::new("taskset");
    let ran = command.args(options).args(["-c", "-p", &list.join(","), who]).output();
    let ran = ran.context("run taskset")?;
    ensure!(ran.status.success(), "taskset: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}
