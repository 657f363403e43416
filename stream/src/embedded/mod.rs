//! The embedded backend: one SQLite file (WAL, `synchronous=FULL`) on one machine.
//!
//! One process at a time writes, guarded by a lock on `FILE.lock`; any number may read, also while it
//! writes. What is new, readers in the writer's process find in memory. Acknowledged is on disk.
//! Bounds: [`QUEUE_MAX`] batches wait, then appending waits.
//!
//! Retention removes the oldest records, by bytes of payload and by age; a consumer that is overtaken
//! sees [`crate::Read::Gap`]. SQLite uses the freed pages again, so the file stays about as large as
//! it once had to be.

mod file;
mod heads;
mod reader;
mod requests;
mod writer;

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use schemas::{
    cursor::{Cursor, StreamId, Term},
    record::{Checkpoint, UnixMicros},
};
use tokio::sync::{mpsc, oneshot, watch};

pub use reader::EmbeddedReader;
use writer::{Command, Core, Encoded, Trouble};

use crate::{Batch, Desk, Pending, StreamError, Writer};

/// Batches that wait for the disk before appending waits too.
pub const QUEUE_MAX: usize = 256;

/// How often, and after which wait each time, a lock that is held is tried again.
const LOCK_TRIES: u32 = 50;
const LOCK_DELAY: Duration = Duration::from_millis(10);

/// How a file is made and kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Partitions of a new file; a file that is there keeps its own.
    pub partitions: u16,
    /// Most bytes of records that are kept.
    pub retention_bytes: u64,
    /// How long records are kept.
    pub retention_age: Duration,
    /// The clock.
    pub now: fn() -> UnixMicros,
}

/// An open stream, in the process that writes it. Clones share it; the last one closes it.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: file::Log,
    term: Term,
    checkpoints: Vec<Checkpoint>,
    reader: EmbeddedReader,
    trouble: watch::Receiver<Trouble>,
    commands: Option<mpsc::Sender<Command>>,
    /// Guards the handle for the one who joins the thread.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Ends before `commands` is given up: it sends some.
    requests: Mutex<Option<requests::Clerk>>,
    desk: Desk,
    /// Held as long as we write; closing it unlocks.
    _lock: File,
}

impl Embedded {
    /// Opens the file at `path` for writing, makes it if it is not there, and begins a new term.
    pub fn open(path: &Path, options: Options) -> Result<Embedded, StreamError> {
        let lock = lock(path)?;
        let (connection, log) = file::open_writer(path, options.partitions)?;
        let core = Core::begin(connection, log, options)?;
        let (term, checkpoints) = (core.term(), core.checkpoints()?);
        let (commands, queue) = mpsc::channel(QUEUE_MAX);
        let heads = Arc::new(heads::Heads::new(core.heads()));
        let reader = EmbeddedReader::open(path.to_owned(), Some(&heads))?;
        let (trouble_tell, trouble) = watch::channel(None);
        let thread = std::thread::Builder::new()
            .name("stream-writer".to_owned())
            .spawn(move || core.run(queue, &heads, &trouble_tell))
            .map_err(|err| StreamError::Append { source: Box::new(err) })?;
        let clerk = requests::Clerk::start(path, commands.clone())?;
        let (commands, thread) = (Some(commands), Mutex::new(Some(thread)));
        let requests = Mutex::new(Some(clerk));
        let shared = Shared {
            log,
            term,
            checkpoints,
            reader,
            trouble,
            commands,
            thread,
            requests,
            desk: Desk::of_file(path),
            _lock: lock,
        };
        Ok(Embedded { shared: Arc::new(shared) })
    }

    /// Opens the file at `path` for reading only, whether or not some process writes it.
    pub fn read_only(path: &Path) -> Result<EmbeddedReader, StreamError> {
        EmbeddedReader::open(path.to_owned(), None)
    }

    /// A reader in the writer's process, which is woken by every append.
    pub fn reader(&self) -> EmbeddedReader {
        self.shared.reader.clone()
    }

    /// Why the disk takes nothing at the moment, if it does not. Appends wait meanwhile.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.shared.trouble.borrow().clone()
    }

    async fn send(
        &self,
        command: Command,
        ack: oneshot::Receiver<Result<(), StreamError>>,
    ) -> Result<Pending, StreamError> {
        let commands = self.shared.commands.as_ref().ok_or(StreamError::Closed)?;
        commands.send(command).await.map_err(|_| StreamError::Closed)?;
        Ok(Pending::new(ack))
    }

    async fn store_cursors(&self, consumer: &str, cursors: Vec<Cursor>) -> Result<(), StreamError> {
        let (ack, acked) = oneshot::channel();
        self.send(Command::StoreCursors { consumer: consumer.to_owned(), cursors, ack }, acked)
            .await?
            .await
    }
}

impl Writer for Embedded {
    fn stream_id(&self) -> StreamId {
        self.shared.log.stream_id
    }

    fn partitions(&self) -> u16 {
        self.shared.log.partitions
    }

    fn term(&self) -> Term {
        self.shared.term
    }

    fn checkpoint(&self, source: &str) -> Option<Checkpoint> {
        self.shared.checkpoints.iter().find(|checkpoint| *checkpoint.source == *source).cloned()
    }

    async fn append(&self, batch: Batch) -> Result<Pending, StreamError> {
        let (ack, acked) = oneshot::channel();
        let Batch { records, checkpoint } = batch;
        let records = records.iter().map(|(at, record)| Encoded::of(*at, record)).collect();
        self.send(Command::Append { records, checkpoint, ack }, acked).await
    }

    fn desk(&self) -> Option<Desk> {
        Some(self.shared.desk.clone())
    }
}

/// Whatever was queued is written before the file is closed.
impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.commands.take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the stream's writing thread panicked");
        }
    }
}

/// A writer that is just ending, or a child that it is just starting, holds the lock for a moment longer.
fn wait_for(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_DELAY),
            tried => return tried,
        }
    }
    lock.try_lock()
}

/// Takes the lock, and writes our process id into it for those who come second.
fn lock(path: &Path) -> Result<File, StreamError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let fail = |err: std::io::Error| {
        let what = format!("{}: {err}", name.display());
        StreamError::Append { source: what.into() }
    };
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(fail)?;
    match wait_for(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.take(20).read_to_string(&mut holder).map_err(fail)?;
            return Err(StreamError::Locked {
                path: path.display().to_string(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(err)) => return Err(fail(err)),
    }
    lock.set_len(0).map_err(fail)?;
    lock.rewind().map_err(fail)?;
    writeln!(lock, "{}", std::process::id()).map_err(fail)?;
    Ok(lock)
}
