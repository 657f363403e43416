//! For how long a client gets no value of a node with versions: while a newer process takes over, and while it stops and starts. Stream
//! and invalidator run in this process, the node in its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::servers::Servers;
use schemas::{cursor::Partition, defaults, version::Version};
use stream::{Batch, Writer, embedded::Embedded};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::VALUE_BYTES;
use crate::lane;

const NODE: &str = "[snapshot]\nfile = \"node.snapshot\"\nnode = \"bench\"\nhandover = \"take\"";
const VERSION: u64 = 1;
const PATIENCE: Duration = Duration::from_secs(10);
/// Filled well after the node was last flushed: entries' times are whole seconds, rounded towards older.
const PROBED: &[u8] = b"get user:00099999\r\n";
/// Before and after each restart.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time without a value.
pub(super) struct Gaps {
    pub(super) upgrade_ms: f64,
    pub(super) restart_ms: f64,
}

pub(super) async fn measure(entries: u32) -> Result<Gaps> {
    let servers = Servers::from_env()?;
    let mut node = servers.controlled_node_with(&["-m", "1024"], NODE).await?;
    let shutdown = CancellationToken::new();
    let folder = tempfile::tempdir().context("make a folder")?;
    let log = lane::log(folder.path())?;
    let control = node.control().context("a control port")?;
    let lanes = lane::start(&log, node.address(), control, &shutdown)?;
    let progress = tokio::spawn(progress(log, shutdown.clone()));
    let address = node.address();
    tokio::task::spawn_blocking(move || fill(&address, entries)).await.context("fill")??;
    let begin = Prober::start(node.address());
    sleep(PAUSE).await;
    node.upgrade().await?;
    sleep(PAUSE).await;
    let upgrade_ms = begin.longest_gap_ms()?;
    let begin = Prober::start(node.address());
    sleep(PAUSE).await;
    node.terminate()?;
    ensure!(node.ended().await?, "the node did not end well");
    node.restart().await?;
    sleep(PAUSE).await;
    let restart_ms = begin.longest_gap_ms()?;
    shutdown.cancel();
    progress.await.context("say progress")??;
    drop(lanes);
    Ok(Gaps { upgrade_ms, restart_ms })
}

/// What a tailer says while nothing changes.
async fn progress(log: Embedded, shutdown: CancellationToken) -> Result<()> {
    let mut ticks = interval(defaults::PROGRESS_INTERVAL);
    while !shutdown.is_cancelled() {
        ticks.tick().await;
        let progress = lane::progress(Version::new(0, VERSION).unwrap_or_default());
        let records = vec![(Partition(0), progress)];
        let appended = log.append(Batch { records, checkpoint: None }).await?;
        appended.await.context("append to the stream")?;
    }
    Ok(())
}

/// With versions that no floor refuses. Until the node has heard of the stream it takes nothing for long.
fn fill(address: &str, entries: u32) -> Result<()> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let late = Instant::now() + PATIENCE;
    loop {
        stream.write_all(format!("ms first 1 V{VERSION}\r\nx\r\nmg first v\r\n").as_bytes())?;
        let mut answers = BufReader::new(&stream);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let stored = line.starts_with("HD");
        line.clear();
        answers.read_line(&mut line)?;
        if line.starts_with("VA") {
            let mut value = [0; 3];
            answers.read_exact(&mut value)?;
        }
        if stored && line.trim_end() == "VA 1" {
            break;
        }
        ensure!(Instant::now() < late, "the node is not fresh: {line}");
        thread::sleep(Duration::from_millis(50));
    }
    let value = "x".repeat(VALUE_BYTES);
    let mut text = String::new();
    for number in 0..entries {
        text.push_str(&format!("ms user:{number:08} {VALUE_BYTES} V{VERSION} q\r\n{value}\r\n"));
        if text.len() > 1 << 20 {
            stream.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    stream.write_all(format!("{text}mn\r\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    ensure!(line == "MN\r\n", "the node says {line:?}");
    Ok(())
}

/// Reads one key again and again, until it is told to stop and has a value once more; connects anew as soon as it must.
struct Prober {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Duration>>,
}

impl Prober {
    fn start(address: String) -> Prober {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || probe(&address, &until));
        Prober { stop, thread }
    }

    fn longest_gap_ms(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let gap = self.thread.join().ok().context("the prober has panicked")??;
        Ok(gap.as_secs_f64() * 1000.0)
    }
}

fn probe(address: &str, stop: &AtomicBool) -> Result<Duration> {
    let (mut last, mut longest, mut hits) = (Instant::now(), Duration::ZERO, 0_u64);
    let mut open = None;
    loop {
        let stops = stop.load(Ordering::Relaxed);
        let hit = get(address, &mut open).unwrap_or_else(|_| {
            open = None;
            false
        });
        if hit {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            hits += 1;
            if stops {
                break;
            }
        }
        ensure!(last.elapsed() < PATIENCE, "the node serves nothing any more: {hits} hits");
        thread::sleep(Duration::from_micros(500));
    }
    ensure!(hits > 100, "{hits} hits");
    Ok(longest)
}

fn get(address: &str, open: &mut Option<BufReader<TcpStream>>) -> Result<bool> {
    if open.is_none() {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        *open = Some(BufReader::new(stream));
    }
    let connection = open.as_mut().context("a connection")?;
    connection.get_mut().write_all(PROBED)?;
    let mut line = String::new();
    ensure!(connection.read_line(&mut line)? > 0, "closed");
    if line == "END\r\n" {
        return Ok(false);
    }
    let mut rest = vec![0; VALUE_BYTES + 2 + 5];
    connection.read_exact(&mut rest)?;
    Ok(line.starts_with("VALUE "))
}
