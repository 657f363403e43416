//! The live view: redrawn in place on a terminal, one line per second anywhere else.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use crate::shop::Quantiles;

/// Cells of the progress bar.
const BAR: u32 = 30;

/// What the view shows at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// What is going on.
    pub(super) phase: String,
    /// How much of the whole demo is over, from 0 to 1.
    pub(super) progress: f64,
    /// Transactions per second, since the frame before.
    pub(super) commits_per_s: f64,
    /// Transactions in this phase.
    pub(super) commits: u64,
    /// Lookups per second, since the frame before.
    pub(super) reads_per_s: f64,
    /// Lookups in this phase.
    pub(super) reads: u64,
    /// Lookups that the cache answered, since the frame before, from 0 to 1.
    pub(super) hit_rate: f64,
    /// Keys that mcsqueal has deleted; `None` where it does not run.
    pub(super) invalidations: Option<u64>,
    /// Measured by canaries.
    pub(super) commit_to_delete: Quantiles,
    /// Reads of superseded values, by age.
    pub(super) superseded: Quantiles,
}

/// Draws frames on standard output.
#[derive(Debug)]
pub(super) struct View {
    title: String,
    style: Style,
    /// Lines that stand on the terminal and will be overwritten.
    drawn: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Redraw,
    Lines,
}

impl View {
    /// A view under `title`.
    pub(super) fn new(title: String) -> View {
        let style = if io::stdout().is_terminal() { Style::Redraw } else { Style::Lines };
        View { title, style, drawn: 0 }
    }

    /// Shows `frame` in place of the one before.
    pub(super) fn draw(&mut self, frame: &Frame) -> io::Result<()> {
        match self.style {
            Style::Lines => self.print(&format!("{}\n", line(frame))),
            Style::Redraw => {
                let mut text = String::new();
                if self.drawn > 0 {
                    // Up to the first line of the frame before, and clear from there.
                    write!(text, "\x1b[{}A\x1b[J", self.drawn)
                        .expect("writing to text cannot fail");
                }
                let picture = picture(&self.title, frame);
                text.push_str(&picture);
                self.drawn = picture.lines().count();
                write_out(&text)
            }
        }
    }

    /// Prints `text` below everything, to stay.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.drawn = 0;
        write_out(text)
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn line(frame: &Frame) -> String {
    let Quantiles { p50_ms, p99_ms, max_ms, .. } = frame.commit_to_delete;
    let mut text = format!(
        "{:3.0}% {:<22} {:6.0} commits/s {:7.0} reads/s  hit rate {:5.1}%",
        frame.progress * 100.0,
        frame.phase,
        frame.commits_per_s,
        frame.reads_per_s,
        frame.hit_rate * 100.0,
    );
    if let Some(keys) = frame.invalidations {
        write!(text, "  deleted {keys} keys").expect("writing to text cannot fail");
    }
    if frame.commit_to_delete.count > 0 {
        write!(text, "  commit to delete p50 {p50_ms:.1} p99 {p99_ms:.1} max {max_ms:.1} ms")
            .expect("writing to text cannot fail");
    }
    if frame.superseded.count > 0 {
        let age = age(frame.superseded.max_ms);
        write!(text, "  oldest value read {age}").expect("writing to text cannot fail");
    }
    text
}

fn picture(title: &str, frame: &Frame) -> String {
    let full = (0..BAR).filter(|&cell| f64::from(cell) < frame.progress * f64::from(BAR)).count();
    let bar: String = (0..BAR as usize).map(|cell| if cell < full { '█' } else { '░' }).collect();
    let Quantiles { count, p50_ms, p99_ms, max_ms } = frame.commit_to_delete;
    let deletes = frame.invalidations.map_or_else(
        || "the writers themselves, once, after COMMIT".to_owned(),
        |keys| format!("{:>9} keys, by mcsqueal", grouped(keys)),
    );
    let latency = if count == 0 {
        "        -".to_owned()
    } else {
        format!("p50 {p50_ms:.1} ms   p99 {p99_ms:.1} ms   max {max_ms:.1} ms")
    };
    let superseded = format!(
        "{:>9} reads of superseded values, the oldest by {}",
        grouped(frame.superseded.count),
        age(frame.superseded.max_ms)
    );
    format!(
        "\n  \x1b[1m{title}\x1b[0m\n\n  {bar} {:3.0} %  {}\n\n\
         \x20 commits           {:>9.0} /s   {:>11} in all\n\
         \x20 reads             {:>9.0} /s   {:>11} in all   hit rate {:.1} %\n\
         \x20 deletes           {deletes}\n\
         \x20 commit to delete  {latency}\n\
         \x20 staleness         {superseded}\n",
        frame.progress * 100.0,
        frame.phase,
        frame.commits_per_s,
        grouped(frame.commits),
        frame.reads_per_s,
        grouped(frame.reads),
        frame.hit_rate * 100.0,
    )
}

/// An age in the unit that suits it.
pub(super) fn age(ms: f64) -> String {
    let age = Duration::from_secs_f64(ms / 1000.0);
    if age < Duration::from_secs(1) {
        format!("{ms:.1} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(age(12.34), "12.3 ms");
        assert_eq!(age(2345.0), "2.3 s");
    }

    #[test]
    fn a_line_leaves_out_what_is_not_known() {
        let frame = Frame { phase: "drain".into(), progress: 0.5, ..Frame::default() };
        let line = line(&frame);
        assert!(line.starts_with(" 50% drain"), "{line}");
        assert!(!line.contains("commit to delete") && !line.contains("deleted"), "{line}");
    }
}
