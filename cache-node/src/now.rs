//! [`Now`]: what time it is, told to everything that asks; and [`Expiry`], when an entry ends. Whole seconds, as in memcached.

use schemas::moment::Moment;

/// Expiry times above this are unix times, not seconds from now: 30 days.
const RELATIVE_SECONDS_MAX: i32 = 60 * 60 * 24 * 30;

/// A reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For everything that is measured.
    pub moment: Moment,
    /// For everything that a client dates: seconds since 1970.
    pub unix: u64,
}

/// When an entry ends, in seconds since 1970. Ordered: what never ends comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(u64);

impl Expiry {
    pub const NEVER: Expiry = Expiry(u64::MAX);

    /// As clients say it: 0 never, up to 30 days from now, above that unix time; negative: over already.
    pub fn from_client(exptime: i32, now: Now) -> Expiry {
        match u64::try_from(exptime) {
            Ok(0) => Expiry::NEVER,
            Ok(seconds) if exptime <= RELATIVE_SECONDS_MAX => {
                Expiry(now.unix.saturating_add(seconds))
            }
            Ok(unix) => Expiry(unix),
            Err(_) => Expiry(0),
        }
    }

    /// This unix time; 0 for never.
    pub fn at(unix: u32) -> Expiry {
        if unix == 0 { Expiry::NEVER } else { Expiry(unix.into()) }
    }

    /// So many seconds from now.
    pub fn after(seconds: u64, now: Now) -> Expiry {
        Expiry(now.unix.saturating_add(seconds))
    }

    pub fn is_over(self, now: Now) -> bool {
        self.0 <= now.unix
    }

    /// Seconds that are left; `None` for ever.
    pub fn seconds_left(self, now: Now) -> Option<u64> {
        (self != Expiry::NEVER).then(|| self.0.saturating_sub(now.unix))
    }

    /// Unix time; `None` for never.
    pub fn unix(self) -> Option<u64> {
        (self != Expiry::NEVER).then_some(self.0)
    }
}
