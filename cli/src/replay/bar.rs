//! [`Bar`]: how far a replay is, on a terminal; elsewhere a line now and then.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::Instant;

/// Between two pictures on a terminal, and between two lines elsewhere.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const WIDTH: u64 = 30;

/// See the module.
pub(crate) struct Bar {
    total: u64,
    resumed: u64,
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(crate) fn new(total: u64, resumed: u64) -> Bar {
        let terminal = io::stderr().is_terminal();
        Bar { total, resumed, begun: Instant::now(), shown: None, terminal }
    }

    pub(crate) fn show(&mut self, done: u64) {
        let now = Instant::now();
        let interval = if self.terminal { REDRAW_INTERVAL } else { LINE_INTERVAL };
        if self.shown.is_some_and(|shown| now < shown + interval) {
            return;
        }
        self.shown = Some(now);
        let text = picture(done, self.resumed, self.total, now - self.begun);
        let (before, after) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let mut err = io::stderr().lock();
        // A closed standard error is no reason to stop.
        drop(write!(err, "{before}{text}{after}").and_then(|()| err.flush()));
    }

    pub(crate) fn end(&self) {
        if self.terminal && self.shown.is_some() {
            drop(writeln!(io::stderr()));
        }
    }
}

fn picture(done: u64, resumed: u64, total: u64, took: Duration) -> String {
    let total = total.max(done).max(1);
    let filled = usize::try_from(done * WIDTH / total).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(filled);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_sub(resumed).saturating_mul(1000) / took_ms;
    let left = (total - done).checked_div(rate).unwrap_or(0);
    format!(
        "[{}{}] {:3}% {done} of {total} keys, {rate}/s, {left} s left",
        "#".repeat(filled),
        "-".repeat(empty),
        done * 100 / total
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures() {
        let at = |done, resumed| picture(done, resumed, 1000, Duration::from_secs(2));
        expect_test::expect![[r"
            [------------------------------]   0% 0 of 1000 keys, 0/s, 0 s left
            [#######-----------------------]  25% 250 of 1000 keys, 100/s, 7 s left
            [##############################] 100% 1000 of 1000 keys, 500/s, 0 s left
            [##############################] 100% 1100 of 1100 keys, 550/s, 0 s left
        "]]
        .assert_eq(
            &[at(0, 0), at(250, 50), at(1000, 0), at(1100, 0)].map(|line| line + "\n").concat(),
        );
    }
}
