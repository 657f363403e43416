//! Processors of their own for those whose times are measured: else the times are mostly those in which one waits for another's processor,
//! which they would not on machines of their own.

use std::{process::Command, thread};

use anyhow::{Context, Result, ensure};

/// With fewer, everybody stays where he is.
const PROCESSORS: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Clients,
    Router,
    Nodes,
}

impl Role {
    /// In the words of `taskset`.
    fn processors(self) -> &'static str {
        match self {
            Role::Clients => "0",
            Role::Router => "1",
            Role::Nodes => "2,3",
        }
    }
}

/// All threads of a process that there are.
pub(super) fn process(pid: u32, role: Role) -> Result<()> {
    taskset(&["-a", "-c", "-p", role.processors(), &pid.to_string()])
}

/// The thread that calls.
pub(super) fn this_thread(role: Role) -> Result<()> {
    let own = std::fs::read_link("/proc/thread-self").context("read /proc/thread-self")?;
    let number = own.file_name().and_then(|name| name.to_str()).context("a thread's number")?;
    taskset(&["-c", "-p", role.processors(), number])
}

fn taskset(words: &[&str]) -> Result<()> {
    if thread::available_parallelism().is_ok_and(|count| count.get() < PROCESSORS) {
        return Ok(());
    }
    let ran = Command::new("taskset").args(words).output().context("run taskset")?;
    ensure!(ran.status.success(), "taskset: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}
