//! [`each`]: work on several threads, and a line that says how far it is.

use std::{
    io::IsTerminal as _,
    ops::Range,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// How often progress is shown where it cannot be drawn over.
const LINE_EVERY: Duration = Duration::from_secs(15);
const DRAW_EVERY: Duration = Duration::from_millis(200);
const BAR: usize = 30;

/// The time, for progress and speed; histories have a time of their own.
#[expect(clippy::disallowed_methods, reason = "how long a run takes is not simulated")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What to do after a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    /// Take the next.
    On,
    /// Begin nothing more.
    Stop,
}

/// Runs `work` for every number of `range` on `threads` threads; `take` gets the results in the order in which they
/// are finished. `say` describes the state for the progress line.
pub(crate) fn each<T: Send>(
    range: Range<u64>,
    threads: usize,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T) -> Go,
    say: impl Fn(u64) -> String,
) {
    let (next, stop) = (AtomicU64::new(range.start), AtomicBool::new(false));
    let (results, finished) = mpsc::sync_channel(threads.saturating_mul(4).max(1));
    let mut progress = Progress::new(range.end.saturating_sub(range.start));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (results, range, work, next, stop) = (results.clone(), &range, &work, &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= range.end || results.send((number, work(number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        for (number, result) in finished {
            if take(number, result) == Go::Stop {
                stop.store(true, Ordering::Relaxed);
            }
            progress.step(&say);
        }
    });
    progress.end();
}

/// A bar on a terminal; elsewhere a line now and then.
struct Progress {
    whole: u64,
    done: u64,
    began: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    fn new(whole: u64) -> Progress {
        let began = now();
        Progress { whole, done: 0, began, shown: began, terminal: std::io::stderr().is_terminal() }
    }

    fn step(&mut self, say: impl Fn(u64) -> String) {
        self.done += 1;
        let every = if self.terminal { DRAW_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = now();
        let seconds = self.began.elapsed().as_secs_f64();
        let left = seconds / self.done as f64 * self.whole.saturating_sub(self.done) as f64;
        let line =
            format!("{}/{} {} about {left:.0} s left", self.done, self.whole, say(self.done));
        if self.terminal {
            let filled = usize::try_from(self.done * BAR as u64 / self.whole.max(1)).unwrap_or(BAR);
            eprint!("\r\x1b[K[{}{}] {line}", "#".repeat(filled), "-".repeat(BAR - filled.min(BAR)));
        } else {
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
