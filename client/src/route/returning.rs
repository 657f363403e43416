//! [`Returning`]: whether a node of ours that answers again may be asked.
//!
//! While it was away others have answered for it, with values that are newer than what it has: so it must know everything that had
//! happened by when it was reached again. It may have stood still and not know that it was away; then it is neither in quarantine
//! nor, by its own clock, out of date, until its invalidators have reached it, too.

use std::time::Duration;

use schemas::cure::Cure;
use tokio::time::Instant;

/// How long a node is waited for that hears nothing of the stream. What it had is older then than any node serves without the stream
/// (`degraded_ttl_ms`, by default), and what the stream's absence means for the others, it means for this one.
pub const STREAM_WAIT: Duration = Duration::from_secs(10);

/// How old the newest thing may be that it knows: it may have stood still once more since it was probed last.
pub const NEWS_AGE_MAX: Duration = Duration::from_secs(1);

/// What a node of ours says of itself: `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    /// It has no source.
    NoSource,
    /// It serves nothing until it has caught up: `quarantined 1`.
    CatchingUp,
    /// It has applied all that was published so long ago: `stream_age_ms`. `None`: it does not know.
    Published(Option<Duration>),
}

impl Knows {
    /// Reads it from an answer to `stats`.
    pub fn parse(stats: &[u8]) -> Knows {
        let lines = || stats.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
        let value = |name: &[u8]| {
            lines().find_map(|line| {
                line.strip_prefix(b"STAT ")?.strip_prefix(name)?.strip_prefix(b" ")
            })
        };
        match value(b"quarantined") {
            None => Knows::NoSource,
            Some(b"0") => {
                let age = value(b"stream_age_ms").and_then(|age| std::str::from_utf8(age).ok());
                Knows::Published(age.and_then(|age| age.parse().ok()).map(Duration::from_millis))
            }
            Some(_) => Knows::CatchingUp,
        }
    }
}

/// One node that is out of use.
#[derive(Clone, Debug, Default)]
pub struct Returning {
    /// When it was reached again.
    reached: Option<Instant>,
}

impl Returning {
    /// A probe failed.
    pub fn unreachable(&mut self) {
        self.reached = None;
    }

    /// A probe that was sent at `asked` was answered; whether the node may be asked again.
    pub fn reached(&mut self, asked: Instant, now: Instant, knows: Knows) -> bool {
        let since = now.saturating_duration_since(*self.reached.get_or_insert(now));
        // What it said was true at some time since it was asked.
        let shown = since.saturating_sub(now.saturating_duration_since(asked));
        let ready = match knows {
            Knows::NoSource => true,
            Knows::CatchingUp => !Cure::ReturnAsksQuarantine.works(),
            Knows::Published(age) => {
                age.is_some_and(|age| age <= shown.min(NEWS_AGE_MAX))
                    || since >= STREAM_WAIT
                    || !Cure::ReturnAsksNews.works()
            }
        };
        if ready {
            self.reached = None;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_a_node_says_of_itself() {
        for (stats, knows) in [
            ("STAT pid 1\r\nEND\r\n", Knows::NoSource),
            (
                "STAT pid 1\r\nSTAT quarantined 1\r\nSTAT stream_age_ms 5\r\nEND\r\n",
                Knows::CatchingUp,
            ),
            ("STAT quarantined 0\r\nEND\r\n", Knows::Published(None)),
            (
                "STAT quarantined 0\r\nSTAT stream_age_ms 150\r\nEND\r\n",
                Knows::Published(Some(150 * MS)),
            ),
            ("STAT quarantined 0\r\nSTAT stream_age_ms x\r\nEND\r\n", Knows::Published(None)),
            ("STAT quarantined maybe\r\nEND\r\n", Knows::CatchingUp),
        ] {
            assert_eq!(Knows::parse(stats.as_bytes()), knows, "{stats}");
        }
    }

    /// Each probe: when it is answered, in milliseconds, what the node says, and whether it is used then.
    #[track_caller]
    fn check(probes: &[(u32, Option<Knows>, bool)]) {
        let (start, mut returning) = (Instant::now(), Returning::default());
        for &(at, knows, used) in probes {
            let now = start + at * MS;
            let ready = match knows {
                None => {
                    returning.unreachable();
                    false
                }
                Some(knows) => returning.reached(now, now, knows),
            };
            assert_eq!(ready, used, "at {at} ms");
        }
    }

    #[test]
    fn a_node_must_have_heard_of_the_stream_since_it_was_reached() {
        let age = |ms: u32| Some(Knows::Published(Some(ms * MS)));
        check(&[(0, Some(Knows::NoSource), true)]);
        check(&[(0, age(0), true)]);
        check(&[(0, age(150), false), (100, age(150), false), (200, age(150), true)]);
        // It stood still for two seconds, and still hears nothing.
        check(&[(0, age(2000), false), (1000, age(3000), false), (2000, age(100), true)]);
        // It stood still once more, and no probe came in between.
        check(&[(0, age(150), false), (5000, age(1500), false), (6500, age(150), true)]);
        // It was away once more.
        check(&[(0, age(150), false), (900, None, false), (1000, age(150), false)]);
        let catching_up = Some(Knows::CatchingUp);
        check(&[(0, catching_up, false), (60_000, catching_up, false), (60_200, age(150), true)]);
    }

    #[test]
    fn without_a_stream_it_is_waited_for_so_long() {
        let unknown = Some(Knows::Published(None));
        check(&[(0, unknown, false), (9_999, unknown, false), (10_000, unknown, true)]);
    }

    /// A slow answer says less: what was true when it was asked for counts.
    #[test]
    fn an_answer_is_as_old_as_its_question() {
        let (start, mut returning) = (Instant::now(), Returning::default());
        let said = Knows::Published(Some(100 * MS));
        assert!(!returning.reached(start, start, said));
        assert!(!returning.reached(start + 50 * MS, start + 300 * MS, said));
        assert!(returning.reached(start + 150 * MS, start + 300 * MS, said));
    }
}
