//! [`Spool`]: changes that stock nodes have missed, kept on disk until the nodes were told.
//!
//! While anything is kept for a node, nobody reads from it: what it holds may be what was true before. A change counts as kept only when
//! it is on disk. A node that has missed more than fits is emptied when it returns. The log has one writer, a thread; changes that come
//! together are written with one sync.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    log::{Record, Records, What},
    settings::SpoolSettings,
    shared::{AllFacts, NodeFacts},
};

const FILE: &str = "deletes.log";
/// Records that wait for the writer.
const WAITING_MAX: usize = 16_384;
/// Records that are written with one sync.
const BATCH_MAX: usize = 4096;
/// A log of this size that nobody needs is emptied.
const EMPTIED_BYTES: u64 = 1 << 20;
/// What a key takes beside itself, about.
const KEY_OVERHEAD_BYTES: u64 = 64;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk.
    Durably,
    /// It may be lost with this process.
    Not,
}

/// See the module.
#[derive(Debug)]
pub struct Spool {
    owed: Mutex<HashMap<Arc<str>, Owed>>,
    number: AtomicU64,
    bytes_max: u64,
    jobs: SyncSender<Job>,
    writer: thread::JoinHandle<()>,
    /// Something is owed to a node.
    pub(crate) news: Notify,
}

/// What one node has missed.
#[derive(Debug)]
struct Owed {
    facts: Arc<NodeFacts>,
    keys: VecDeque<(u64, Box<[u8]>)>,
    bytes: u64,
    /// It is to be emptied: it had missed too much as of this number.
    everything: Option<u64>,
}

struct Job {
    record: Vec<u8>,
    written: Option<oneshot::Sender<Kept>>,
    /// Nobody is owed anything as of this record.
    last: Last,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

/// What to tell a node next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// These keys are to be deleted; the number of the last.
    Keys(Vec<Box<[u8]>>, u64),
    /// Everything is, as of this number.
    Everything(u64),
}

impl Spool {
    /// Opens the log, and reads what is owed.
    pub fn open(settings: &SpoolSettings, all: &AllFacts) -> io::Result<Arc<Spool>> {
        std::fs::create_dir_all(&settings.directory)?;
        let path = settings.directory.join(FILE);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        lock(&file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut records = Records(&bytes);
        let known: Vec<Record<'_>> = records.by_ref().collect();
        let good = bytes.len().saturating_sub(records.0.len());
        if good < bytes.len() {
            let lost = bytes.len().saturating_sub(good);
            tracing::warn!(path = %path.display(), lost, "the log of deletes ends with bytes that are no record");
        }
        let good = u64::try_from(good).unwrap_or(u64::MAX);
        file.set_len(good)?;
        file.seek(io::SeekFrom::End(0))?;
        File::open(&settings.directory)?.sync_all()?;
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let writer = Writer { file, path, bytes: good };
        let thread = thread::Builder::new().name("deletes".to_owned());
        let spool = Spool {
            owed: Mutex::default(),
            number: AtomicU64::new(0),
            bytes_max: settings.bytes_max,
            jobs,
            writer: thread.spawn(move || writer.run(&waiting))?,
            news: Notify::new(),
        };
        for record in &known {
            spool.read(record, all);
        }
        Ok(Arc::new(spool))
    }

    /// Writes what waits, and leaves the log to others. Nobody else may have the spool any more.
    pub(crate) fn close(self: Arc<Spool>) {
        let Some(Spool { jobs, writer, .. }) = Arc::into_inner(self) else {
            tracing::error!("somebody still has the log of deletes");
            return;
        };
        drop(jobs);
        if writer.join().is_err() {
            tracing::error!("the thread that keeps deletes has panicked");
        }
    }

    fn read(&self, record: &Record<'_>, all: &AllFacts) {
        self.number.fetch_max(record.number, Ordering::AcqRel);
        let facts = all.of(record.address);
        match record.what {
            What::Key(key) => self.note(&facts, record.number, key),
            What::Everything => self.note_everything(&facts, record.number),
            What::Told => self.forget(record.address, record.number),
        }
    }

    /// Keeps the delete of a key for a node; the receiver says when it is on disk. From now on nobody reads from the node.
    pub(crate) fn keep(&self, facts: &Arc<NodeFacts>, key: &[u8]) -> oneshot::Receiver<Kept> {
        let number = self.number.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        let what = if self.is_full(&facts.address) {
            self.note_everything(facts, number);
            What::Everything
        } else {
            self.note(facts, number, key);
            What::Key(key)
        };
        let (sender, receiver) = oneshot::channel();
        let mut record = Vec::new();
        let encoded = Record { number, address: &facts.address, what }.encode(&mut record);
        let job = Job { record, written: Some(sender), last: Last::No };
        // Whoever is not written is not kept: the job is dropped, and its sender with it.
        if encoded.is_some() && self.jobs.try_send(job).is_err() {
            tracing::error!(node = &*facts.address, "the log of deletes cannot keep up");
        }
        self.news.notify_one();
        receiver
    }

    fn is_full(&self, address: &str) -> bool {
        let owed = self.all();
        let Some(node) = owed.get(address) else { return false };
        node.everything.is_some() || node.bytes >= self.bytes_max
    }

    fn note(&self, facts: &Arc<NodeFacts>, number: u64, key: &[u8]) {
        self.with(facts, |owed| {
            owed.keys.push_back((number, key.into()));
            owed.bytes = owed.bytes.saturating_add(size(key));
        });
    }

    fn note_everything(&self, facts: &Arc<NodeFacts>, number: u64) {
        self.with(facts, |owed| {
            owed.keys.clear();
            (owed.bytes, owed.everything) = (0, Some(number));
        });
    }

    fn with(&self, facts: &Arc<NodeFacts>, change: impl FnOnce(&mut Owed)) {
        let mut all = self.all();
        let owed = all.entry(Arc::clone(&facts.address)).or_insert_with(|| Owed {
            facts: Arc::clone(facts),
            keys: VecDeque::new(),
            bytes: 0,
            everything: None,
        });
        change(owed);
        owed.publish();
    }

    /// To whom something is owed.
    pub(crate) fn debtors(&self) -> Vec<Arc<str>> {
        let all = self.all();
        let owing = all.iter().filter(|(_, owed)| owed.count() > 0);
        owing.map(|(address, _)| Arc::clone(address)).collect()
    }

    /// What to tell a node next; `None` if it knows everything.
    pub(crate) fn debt(&self, address: &str, keys_max: usize) -> Option<Debt> {
        let all = self.all();
        let owed = all.get(address)?;
        if let Some(number) = owed.everything {
            return Some(Debt::Everything(number));
        }
        let keys: Vec<_> = owed.keys.iter().take(keys_max).collect();
        let last = keys.last()?.0;
        Some(Debt::Keys(keys.iter().map(|(_, key)| key.clone()).collect(), last))
    }

    /// The node was told all up to this number.
    pub(crate) fn told(&self, address: &str, number: u64) {
        let mut record = Vec::new();
        let encoded = Record { number, address, what: What::Told }.encode(&mut record);
        self.forget(address, number);
        let last = if self.debtors().is_empty() { Last::Yes } else { Last::No };
        if encoded.is_some() {
            // If it is not written, the node is told again, which does no harm.
            drop(self.jobs.try_send(Job { record, written: None, last }));
        }
    }

    fn forget(&self, address: &str, number: u64) {
        let mut all = self.all();
        let Some(owed) = all.get_mut(address) else { return };
        while owed.keys.front().is_some_and(|(of, _)| *of <= number)
            && let Some((_, key)) = owed.keys.pop_front()
        {
            owed.bytes = owed.bytes.saturating_sub(size(&key));
        }
        owed.everything = owed.everything.filter(|of| *of > number);
        owed.publish();
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Owed>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owed {
    fn count(&self) -> u64 {
        let keys = u64::try_from(self.keys.len()).unwrap_or(u64::MAX);
        keys.saturating_add(u64::from(self.everything.is_some()))
    }

    fn publish(&self) {
        self.facts.owed.store(self.count(), Ordering::Release);
    }
}

fn size(key: &[u8]) -> u64 {
    u64::try_from(key.len()).unwrap_or(u64::MAX).saturating_add(KEY_OVERHEAD_BYTES)
}

/// One process has the log, until it closes it or ends.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|err| match err {
        std::fs::TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::WouldBlock, "another router has the log of deletes")
        }
        std::fs::TryLockError::Error(err) => err,
    })
}

/// The thread that writes.
struct Writer {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Job>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = waiting.try_recv()
            {
                batch.push(job);
            }
            let kept = match self.write(&batch) {
                Ok(()) => Kept::Durably,
                Err(err) => {
                    let path = self.path.display();
                    tracing::error!(%path, error = %err, "deletes are not kept on disk");
                    Kept::Not
                }
            };
            for written in batch.into_iter().filter_map(|job| job.written) {
                if written.send(kept).is_err() {
                    tracing::debug!("whoever has asked is gone");
                }
            }
        }
    }

    fn write(&mut self, batch: &[Job]) -> io::Result<()> {
        let is_last = batch.last().is_some_and(|job| job.last == Last::Yes);
        if is_last && self.bytes > EMPTIED_BYTES && batch.iter().all(|job| job.written.is_none()) {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.bytes = 0;
            return self.file.sync_data();
        }
        let bytes: Vec<u8> = batch.iter().flat_map(|job| &job.record).copied().collect();
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a record would hide those behind it.
            self.file.set_len(self.bytes)?;
            self.file.seek(io::SeekFrom::Start(self.bytes))?;
        } else {
            self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(directory: &std::path::Path, bytes_max: u64) -> SpoolSettings {
        SpoolSettings {
            directory: directory.to_owned(),
            bytes_max,
            retry: std::time::Duration::ZERO,
        }
    }

    fn keep(spool: &Spool, facts: &Arc<NodeFacts>, key: &[u8]) {
        assert_eq!(spool.keep(facts, key).blocking_recv(), Ok(Kept::Durably));
    }

    /// The log again, as the next process finds it.
    fn again(directory: &std::path::Path, before: Arc<Spool>) -> (Arc<Spool>, AllFacts) {
        before.close();
        let all = AllFacts::default();
        let spool = Spool::open(&settings(directory, 1000), &all).expect("nobody has the log");
        (spool, all)
    }

    #[test]
    fn what_is_kept_survives_and_what_was_told_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let all = AllFacts::default();
        let spool = Spool::open(&settings(directory.path(), 1000), &all).expect("a log");
        let (a, b) = (all.of("a:1"), all.of("b:1"));
        keep(&spool, &a, b"one");
        keep(&spool, &b, b"two");
        keep(&spool, &a, b"three");
        assert_eq!((a.owed.load(Ordering::Acquire), b.owed.load(Ordering::Acquire)), (2, 1));

        let (spool, all) = again(directory.path(), spool);
        assert_eq!(all.of("a:1").owed.load(Ordering::Acquire), 2);
        let Some(Debt::Keys(keys, last)) = spool.debt("a:1", 10) else { panic!("keys") };
        assert_eq!(keys, [Box::from(&b"one"[..]), Box::from(&b"three"[..])]);
        spool.told("a:1", last);
        assert_eq!(spool.debt("a:1", 10), None);
        keep(&spool, &all.of("b:1"), b"four");

        let (spool, all) = again(directory.path(), spool);
        assert_eq!(all.of("a:1").owed.load(Ordering::Acquire), 0);
        assert_eq!(all.of("b:1").owed.load(Ordering::Acquire), 2);
        assert_eq!(spool.debtors(), [Arc::from("b:1")]);
    }

    #[test]
    fn a_node_that_has_missed_too_much_is_emptied() {
        let directory = tempfile::tempdir().expect("a directory");
        let all = AllFacts::default();
        let spool = Spool::open(&settings(directory.path(), 200), &all).expect("a log");
        let facts = all.of("a:1");
        for key in 0..100_u32 {
            keep(&spool, &facts, &key.to_be_bytes());
        }
        let Some(Debt::Everything(number)) = spool.debt("a:1", 10) else { panic!("everything") };
        spool.told("a:1", number.wrapping_sub(1));
        assert!(spool.debt("a:1", 10).is_some(), "it has missed more since");
        spool.told("a:1", number);
        assert_eq!(spool.debt("a:1", 10), None);
    }

    #[test]
    fn one_process_has_the_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let all = AllFacts::default();
        let _first = Spool::open(&settings(directory.path(), 200), &all).expect("a log");
        assert!(Spool::open(&settings(directory.path(), 200), &all).is_err());
    }
}
