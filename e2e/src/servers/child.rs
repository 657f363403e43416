//! Child processes that cannot outlive us.
//!
//! Each runs in a process group of its own (a Ctrl-C at our terminal is ours to handle), is killed by
//! the kernel when we die, and is written down in the run directory, so that a later run can end what
//! even that did not reach. Dropping a [`Child`] kills it and waits for it.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::container::Container;

/// How often a child that was asked to stop is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How much of a log a failure shows.
const LOG_TAIL_LINES: usize = 25;

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// For messages.
    pub name: String,
    /// The program and its arguments; never empty.
    pub argv: Vec<OsString>,
    /// Added to our environment.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// Its standard input; empty if there is none.
    pub input: Option<PathBuf>,
    /// The file that lists what we started, if there is one.
    pub pids: Option<PathBuf>,
}

/// How long something is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub deadline: Duration,
    /// How often it is looked at.
    pub poll: Duration,
}

/// A running (or ended) child.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    process: std::process::Child,
    /// If it runs in one; the process is then the engine's client, which lasts as long.
    container: Option<Container>,
}

/// A signal that a test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ask it to end.
    Terminate,
    /// What Ctrl-C sends.
    Interrupt,
    /// Look at its files again.
    Hangup,
    /// Freeze it: it answers nothing, and its sockets stay open.
    Stop,
    /// Let it go on.
    Continue,
}

impl Child {
    /// Starts `launch`.
    pub fn start(launch: &Launch) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&launch.log);
        let log = log.with_context(|| format!("open {}", launch.log.display()))?;
        let (container, argv) = match Container::wrap(launch) {
            Some((container, argv)) => (Some(container), argv),
            None => (None, launch.argv.clone()),
        };
        let mut command = command(&argv);
        command.current_dir(&launch.directory).envs(launch.env.iter().cloned());
        command.stdout(log.try_clone().context("share the log")?).stderr(log);
        command.stdin(match &launch.input {
            Some(path) => File::open(path).context("open the input")?.into(),
            None => Stdio::null(),
        });
        let process = spawn(command).with_context(|| format!("start {}", launch.name))?;
        let (name, log) = (launch.name.clone(), launch.log.clone());
        let child = Child { name, log, process, container };
        if let Some(pids) = &launch.pids {
            record(pids, child.pid()).context("record the process")?;
        }
        Ok(child)
    }

    /// Starts `launch`, and waits until it is ready; see [`Child::until_ready`].
    pub async fn start_ready(
        launch: &Launch,
        patience: Patience,
        probe: impl AsyncFnMut() -> Result<()>,
    ) -> Result<Child> {
        let mut child = Child::start(launch)?;
        child.until_ready(patience, probe).await?;
        Ok(child)
    }

    /// Asks `probe` again and again, until it finds that the child is ready. Fails if the child ends, or takes too long.
    pub async fn until_ready(
        &mut self,
        patience: Patience,
        mut probe: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let late = Instant::now() + patience.deadline;
        loop {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}\n{}", self.name, self.log_tail());
            }
            let Err(err) = probe().await else { return Ok(()) };
            if Instant::now() >= late {
                let tail = self.log_tail();
                return Err(err.context(format!("{} is not ready in time\n{tail}", self.name)));
            }
            sleep(patience.poll).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().with_context(|| format!("look at {}", self.name))
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(container) = &self.container {
            return container.tell(match signal {
                Signal::Terminate => &["kill", "--signal", "TERM"],
                Signal::Interrupt => &["kill", "--signal", "INT"],
                Signal::Hangup => &["kill", "--signal", "HUP"],
                Signal::Stop => &["pause"],
                Signal::Continue => &["unpause"],
            });
        }
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Hangup => "HUP",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        // The shell's own `kill`: there is no signal call without `unsafe` or another dependency.
        let script = format!("kill -s {name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).status().context("run sh")?;
        if !status.success() {
            bail!("send {name} to {}", self.name);
        }
        if signal == Signal::Stop { self.stands_still() } else { Ok(()) }
    }

    /// A thread that runs on another processor goes on for a moment after the signal was sent.
    fn stands_still(&self) -> Result<()> {
        let tasks = format!("/proc/{}/task", self.pid());
        let late = Instant::now() + Duration::from_secs(5);
        while Instant::now() < late {
            let stopped = |task: std::fs::DirEntry| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            };
            let listed = std::fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))?;
            if listed.flatten().all(stopped) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("{} does not stop", self.name)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        match &self.container {
            Some(container) => container.tell(&["rm", "--force"])?,
            None => self.process.kill().with_context(|| format!("kill {}", self.name))?,
        }
        self.process.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Waits until it ends by itself; kills it and fails after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let late = Instant::now() + deadline;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= late {
                self.kill9()?;
                bail!("{} did not end within {deadline:?}\n{}", self.name, self.log_tail());
            }
            sleep(POLL).await;
        }
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let (Some(container), Ok(None)) = (&self.container, self.process.try_wait()) {
            drop(container.tell(&["rm", "--force"]));
        }
        // Both fail only if it has ended already, which is what we want.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The end of a log file, indented, for messages.
pub fn log_tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(LOG_TAIL_LINES);
    let mut tail = format!("the end of {}:", path.display());
    for line in lines.iter().skip(skip) {
        tail.push_str("\n  | ");
        tail.push_str(line);
    }
    tail
}

/// `argv` as a command in its own process group, killed by the kernel when our spawning thread ends.
fn command(argv: &[OsString]) -> Command {
    let (program, arguments) = argv.split_first().expect("a launch names its program");
    let mut command = if has_setpriv() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).process_group(0);
    command
}

fn has_setpriv() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut probe = Command::new("setpriv");
        probe.args(["--pdeathsig", "KILL", "--", "true"]);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    })
}

type Spawned = io::Result<std::process::Child>;

/// Spawns on a thread that lives as long as we do: the parent-death signal comes when the *thread*
/// that spawned ends, and a test's thread ends before its servers should.
fn spawn(command: Command) -> Spawned {
    static SPAWNER: OnceLock<mpsc::SyncSender<(Command, mpsc::SyncSender<Spawned>)>> =
        OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::sync_channel::<(Command, mpsc::SyncSender<Spawned>)>(16);
        thread::spawn(move || {
            for (mut command, answer) in queue {
                // Nobody waits for the answer only if the asking thread was torn down.
                drop(answer.send(command.spawn()));
            }
        });
        jobs
    });
    let (answer, spawned) = mpsc::sync_channel(1);
    let gone = |_| io::Error::other("the spawning thread is gone");
    spawner.send((command, answer)).map_err(|err| gone(err.to_string()))?;
    spawned.recv().map_err(|err| gone(err.to_string()))?
}

/// Appends `pid starttime`; the start time tells the process from a later one with the same id.
fn record(pids: &Path, pid: u32) -> io::Result<()> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces and parentheses; field 3 begins after the last one.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let started = after_name.split_whitespace().nth(19).unwrap_or("0");
    let mut file = OpenOptions::new().create(true).append(true).open(pids)?;
    file.write_all(format!("{pid} {started}\n").as_bytes())
}
