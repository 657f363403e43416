//! [`From`]: where in the stream to begin, as people write it.

use std::{str::FromStr, time::Duration};

use schemas::{
    cursor::{Place, Term},
    record::UnixMicros,
    version::Version,
};

use crate::clock;

/// A beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest record that is kept.
    Start,
    /// What comes from now on.
    End,
    /// Records appended at or after this.
    Time(UnixMicros),
    /// Records that name this version or a later one.
    Version(Version),
    /// After this place, in each partition.
    Place(Place),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        match text {
            "start" => return Ok(From::Start),
            "end" => return Ok(From::End),
            _ => {}
        }
        let parsed = ago(text, clock::now())
            .or_else(|| timestamp(text))
            .map(From::Time)
            .or_else(|| version(text).map(From::Version))
            .or_else(|| place(text).map(From::Place));
        parsed.ok_or_else(|| {
            format!(
                "{text:?} is none of: start, end, 15m (ago), 2026-01-31T12:00:00Z, a version as 3.1234, a place as 7:4711"
            )
        })
    }
}

/// `90s`, `15m`, `2h`, `1d`: so long before now.
fn ago(text: &str, now: UnixMicros) -> Option<UnixMicros> {
    let ago = length(text)?;
    Some(UnixMicros(now.0.saturating_sub(u64::try_from(ago.as_micros()).ok()?)))
}

/// `90s`, `15m`, `2h`, `1d`.
pub(crate) fn length(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "s") => (number, 1),
        (number, "m") => (number, 60),
        (number, "h") => (number, 3600),
        (number, "d") => (number, 86_400),
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

/// `2026-01-31T12:00:00Z`, or without the `Z`: always UTC.
fn timestamp(text: &str) -> Option<UnixMicros> {
    let (date, time) = text.trim_end_matches('Z').split_once('T')?;
    let numbers = |text: &str, mark: char| -> Option<[u64; 3]> {
        let numbers: Option<Vec<u64>> = text.split(mark).map(|part| part.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let day_number = (0..=366 * 200).find(|number| civil(*number) == (year, month, day))?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = day_number * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UnixMicros(seconds.checked_mul(1_000_000)?))
}

fn version(text: &str) -> Option<Version> {
    let (epoch, sequence) = text.split_once('.')?;
    Version::new(epoch.parse().ok()?, sequence.parse().ok()?)
}

fn place(text: &str) -> Option<Place> {
    let (term, sequence) = text.split_once(':')?;
    Some(Place { term: Term(term.parse().ok()?), sequence: sequence.parse().ok()? })
}

/// Year, month and day of the day with this number, counted from 1970-01-01.
pub(super) fn civil(day_number: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, day_number);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn beginnings() {
        let mut table = String::new();
        for text in [
            "start",
            "end",
            "2026-11-21T08:00:01Z",
            "1970-01-01T00:00:00",
            "2024-02-29T23:59:59Z",
            "2026-02-30T00:00:00Z",
            "3.1234",
            "7:4711",
            "yesterday",
            "",
        ] {
            table.push_str(&format!("{text:22} {:?}\n", text.parse::<From>()));
        }
        expect![[r#"
            start                  Ok(Start)
            end                    Ok(End)
            2026-11-21T08:00:01Z   Ok(Time(UnixMicros(1795248001000000)))
            1970-01-01T00:00:00    Ok(Time(UnixMicros(0)))
            2024-02-29T23:59:59Z   Ok(Time(UnixMicros(1709251199000000)))
            2026-02-30T00:00:00Z   Err("\"2026-02-30T00:00:00Z\" is none of: start, end, 15m (ago), 2026-01-31T12:00:00Z, a version as 3.1234, a place as 7:4711")
            3.1234                 Ok(Version(Version(844424930133202)))
            7:4711                 Ok(Place(Place { term: Term(7), sequence: 4711 }))
            yesterday              Err("\"yesterday\" is none of: start, end, 15m (ago), 2026-01-31T12:00:00Z, a version as 3.1234, a place as 7:4711")
                                   Err("\"\" is none of: start, end, 15m (ago), 2026-01-31T12:00:00Z, a version as 3.1234, a place as 7:4711")
        "#]].assert_eq(&table);
        assert_eq!(ago("2h", UnixMicros(7_200_000_001)), Some(UnixMicros(1)));
        assert_eq!(ago("9999999999999999999d", UnixMicros(1)), None);
    }
}
