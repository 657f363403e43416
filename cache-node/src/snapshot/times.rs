//! How long ago a snapshot was taken, and what that means for entries that end: pure, but for [`Times::read`].
//!
//! While the machine has not restarted, the clock that counts from its start says how long; then it shows too when the wall clock was set
//! back, and entries end by as much earlier on it. Otherwise the wall clock must do; if it shows an earlier time than then, nothing is
//! known.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Refused, Times};

/// The wall clock may be slewed by so much without counting as set back.
const SLEWED_MAX: Duration = Duration::from_millis(500);

/// What passed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) age: Duration,
    /// The wall clock was set back by so many seconds.
    pub(super) back_seconds: u32,
}

impl Times {
    /// What this machine's clocks show.
    pub fn read() -> Times {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let uptime = uptime(&text("/proc/uptime"));
        // Without both there is no telling which start it counts from.
        let boot = uptime.map(|_| text("/proc/sys/kernel/random/boot_id").trim().to_owned());
        Times {
            wall: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            uptime: uptime.unwrap_or_default(),
            boot: boot.unwrap_or_default(),
        }
    }

    /// What passed from `self` to `now`.
    pub(super) fn until(&self, now: &Times) -> Result<Passed, Refused> {
        let same_start = !self.boot.is_empty() && self.boot == now.boot;
        if same_start && let Some(age) = now.uptime.checked_sub(self.uptime) {
            let due = self.wall.saturating_add(age);
            let back = Duration::from_micros(due.saturating_sub(now.wall));
            let back = if back > SLEWED_MAX { back } else { Duration::ZERO };
            let seconds = back.as_millis().div_ceil(1000);
            let back_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            return Ok(Passed { age: Duration::from_micros(age), back_seconds });
        }
        let age = now.wall.checked_sub(self.wall).ok_or(Refused::AgeUnknown)?;
        Ok(Passed { age: Duration::from_micros(age), back_seconds: 0 })
    }
}

/// Microseconds of `seconds.hundredths idle`.
fn uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split(' ').next()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let hundredths: u64 = hundredths.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(hundredths.checked_mul(10_000)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(wall_s: u64, uptime_s: u64, boot: &str) -> Times {
        Times { wall: wall_s * 1_000_000, uptime: uptime_s * 1_000_000, boot: boot.to_owned() }
    }

    #[test]
    fn the_age_is_known_or_nothing_is() {
        let taken = times(1000, 50, "a");
        for (now, expected) in [
            (times(1007, 57, "a"), Some((7, 0))),
            // The wall clock was set forward, or back, while the machine ran.
            (times(2007, 57, "a"), Some((7, 0))),
            (times(990, 57, "a"), Some((7, 17))),
            (times(1000, 50, "a"), Some((0, 0))),
            // Another start of the machine, or of the container that shows its own time.
            (times(1100, 3, "b"), Some((100, 0))),
            (times(1100, 3, "a"), Some((100, 0))),
            (times(999, 3, "b"), None),
            (times(999, 3, "a"), None),
        ] {
            let passed = taken.until(&now).ok().map(|it| (it.age.as_secs(), it.back_seconds));
            assert_eq!(passed, expected, "{now:?}");
        }
        let nameless = times(1000, 50, "");
        assert_eq!(nameless.until(&times(990, 57, "")).ok(), None);
        let slewed = Times { wall: 1_006_600_000, ..times(0, 57, "a") };
        assert_eq!(taken.until(&slewed).ok().map(|it| it.back_seconds), Some(0));
    }

    #[test]
    fn the_clocks_of_this_machine_are_read() {
        let (before, after) = (Times::read(), Times::read());
        assert!(before.until(&after).is_ok_and(|passed| passed.age < Duration::from_secs(60)));
        assert_eq!(uptime("17.05 3.1\n"), Some(17_050_000));
        assert_eq!((uptime(""), uptime("x.y")), (None, None));
    }
}
