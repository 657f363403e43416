//! The text form of each column type in keys.
//!
//! | type | text |
//! |---|---|
//! | TINYINT to BIGINT, BOOL | decimal; ZEROFILL is not applied |
//! | DECIMAL | all its decimals: `12.50` |
//! | YEAR | four digits, `0000` |
//! | DATE, DATETIME, TIMESTAMP (UTC), TIME | as the server prints them, with the fraction digits of the column |
//! | FLOAT, DOUBLE | as `SELECT` prints them; with their own decimals, `FLOAT(7,3)`, only preflight can tell, and refuses them |
//! | CHAR, VARCHAR, TEXT | UTF-8, from every character set of both servers (`charset.rs`) |
//! | BINARY, VARBINARY, BLOB | the bytes; BINARY padded with zeros to its length |
//! | ENUM, SET | the label; labels with commas between them |
//! | BIT | as an unsigned decimal number |
//! | UUID, INET4, INET6 (MariaDB) | as the server prints them, if the caller says which columns these are: a binlog does not tell them from BINARY |
//! | JSON (MySQL) | as the server prints it; MariaDB's is LONGTEXT |
//!
//! Geometries, vectors, compressed columns, and text in character sets that are newer than this have none: a rule that needs one is
//! refused. So is a JSON column without a path filter, since JSON has many texts for one value.

use std::{
    borrow::Cow,
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::{
    charset::{BINARY, is_known, utf8},
    json, number,
    read::Bytes,
    table_map::{Column, Disguise, kind},
};

/// Decimal digits in four bytes.
const GROUP_DIGITS: usize = 9;
/// Bytes that 0 to 8 left-over digits take.
const LEFT_OVER_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Whether the column has a text form; else why not.
pub(crate) fn check(column: &Column) -> Result<(), &'static str> {
    match column.kind {
        kind::GEOMETRY => Err("geometries have no text of their own"),
        kind::VECTOR => Err("vectors have no text of their own"),
        kind::BLOB_COMPRESSED | kind::VARCHAR_COMPRESSED => Err("the column is compressed"),
        kind::TIMESTAMP | kind::DATETIME | kind::TIME => {
            Err("a temporal type from before MySQL 5.6; ALTER TABLE ... FORCE makes it a new one")
        }
        _ if is_text(column.kind) && !is_known(column.collation) => {
            Err("its character set has no conversion to UTF-8")
        }
        _ => Ok(()),
    }
}

/// Writes the text of a value to `out`, piece by piece; `None` if the bytes do not fit the type. What most keys are made of
/// takes no allocation.
pub(crate) fn write(column: &Column, raw: &[u8], out: &mut impl FnMut(&[u8])) -> Option<()> {
    match column.kind {
        kind::TINY | kind::SHORT | kind::INT24 | kind::LONG | kind::LONGLONG => {
            let mut digits = itoa::Buffer::new();
            out(match integer(column, raw)? {
                Integer::Unsigned(value) => digits.format(value).as_bytes(),
                Integer::Signed(value) => digits.format(value).as_bytes(),
            });
        }
        _ => out(&text(column, raw)?),
    }
    Some(())
}

/// The text of a value; `None` if the bytes do not fit the type.
pub(crate) fn text<'a>(column: &Column, raw: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let mut bytes = Bytes(raw);
    let digits = column.meta;
    let text = match column.kind {
        kind::TINY | kind::SHORT | kind::INT24 | kind::LONG | kind::LONGLONG => {
            match integer(column, raw)? {
                Integer::Unsigned(value) => value.to_string(),
                Integer::Signed(value) => value.to_string(),
            }
        }
        kind::YEAR => match bytes.u8()? {
            0 => "0000".to_owned(),
            year => u16::from(year).checked_add(1900)?.to_string(),
        },
        kind::FLOAT => number::float(f32::from_le_bytes(*bytes.array()?))?,
        kind::DOUBLE => number::double(f64::from_le_bytes(*bytes.array()?))?,
        kind::JSON => json::text(raw)?,
        kind::NEWDECIMAL => decimal(column.meta, raw)?,
        kind::DATE => {
            let packed = bytes.uint(3)?;
            date(packed >> 9, (packed >> 5) & 15, packed & 31)
        }
        kind::DATETIME2 => datetime(big_endian(bytes.take(5)?), fraction(digits, raw.get(5..)?)?),
        kind::TIMESTAMP2 => {
            timestamp(big_endian(bytes.take(4)?), fraction(digits, raw.get(4..)?)?)?
        }
        kind::TIME2 => time(digits, raw)?,
        kind::BIT => big_endian(raw).to_string(),
        kind::ENUM => {
            let at = bytes.uint(raw.len())?;
            let label = match at.checked_sub(1) {
                None => return Some(Cow::Borrowed(b"")),
                Some(at) => column.labels.get(usize::try_from(at).ok()?)?,
            };
            return Some(Cow::Owned(utf8(column.collation, label)?.into_owned()));
        }
        kind::SET => return set(column, bytes.uint(raw.len())?).map(Cow::Owned),
        kind::STRING if column.disguise != Disguise::None => disguised(column, raw)?,
        kind::STRING if column.collation == BINARY => {
            let mut padded = raw.to_vec();
            padded.resize(usize::from(column.meta).max(raw.len()), 0);
            return Some(Cow::Owned(padded));
        }
        _ if is_text(column.kind) => return utf8(column.collation, raw),
        _ => return None,
    };
    Some(Cow::Owned(text.into_bytes()))
}

/// Bytes of a DECIMAL with precision `meta >> 8` and scale `meta & 255`.
pub(crate) fn decimal_bytes(meta: u16) -> usize {
    let (precision, scale) = (usize::from(meta >> 8), usize::from(meta & 0xff));
    part_bytes(precision.saturating_sub(scale)).saturating_add(part_bytes(scale))
}

fn part_bytes(digits: usize) -> usize {
    let (groups, left) = (digits.wrapping_div(GROUP_DIGITS), digits.wrapping_rem(GROUP_DIGITS));
    groups.saturating_mul(4).saturating_add(LEFT_OVER_BYTES.get(left).copied().unwrap_or(0))
}

/// Source: MySQL `decimal2bin`: nine digits in four bytes big-endian, the sign bit inverted, negative ones inverted.
pub(crate) fn decimal(meta: u16, raw: &[u8]) -> Option<String> {
    let (precision, scale) = (usize::from(meta >> 8), usize::from(meta & 0xff));
    let whole = precision.checked_sub(scale)?;
    let mut bytes = raw.to_vec();
    let first = bytes.first_mut()?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        for byte in &mut bytes {
            *byte = !*byte;
        }
    }
    let mut bytes = Bytes(&bytes);
    let mut digits = String::new();
    let mut group = |count: usize, digits: &mut String| {
        let value = big_endian(bytes.take(*LEFT_OVER_BYTES.get(count)?)?);
        write!(digits, "{value:0count$}").ok()
    };
    let (left, groups) = (whole.wrapping_rem(GROUP_DIGITS), whole.wrapping_div(GROUP_DIGITS));
    if left > 0 {
        group(left, &mut digits)?;
    }
    for _ in 0..groups {
        group(GROUP_DIGITS, &mut digits)?;
    }
    let trimmed = digits.trim_start_matches('0');
    let mut out = String::from(if negative { "-" } else { "" });
    out.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let mut decimals = String::new();
        for _ in 0..scale.wrapping_div(GROUP_DIGITS) {
            group(GROUP_DIGITS, &mut decimals)?;
        }
        if scale.wrapping_rem(GROUP_DIGITS) > 0 {
            group(scale.wrapping_rem(GROUP_DIGITS), &mut decimals)?;
        }
        out.push('.');
        out.push_str(&decimals);
    }
    Some(out)
}

enum Integer {
    Unsigned(u64),
    Signed(i64),
}

fn integer(column: &Column, raw: &[u8]) -> Option<Integer> {
    let value = Bytes(raw).uint(raw.len())?;
    if column.unsigned {
        return Some(Integer::Unsigned(value));
    }
    // Sign-extended from its own width.
    let unused = 64_usize.checked_sub(raw.len().checked_mul(8)?)?;
    Some(Integer::Signed((value << unused).cast_signed() >> unused))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

fn date(year: u64, month: u64, day: u64) -> String {
    format!("{year:04}-{month:02}-{day:02}")
}

/// `.` and the digits of a fraction that is stored in pairs of digits.
fn fraction(digits: u16, raw: &[u8]) -> Option<String> {
    let digits = usize::from(digits);
    if digits == 0 {
        return Some(String::new());
    }
    let width = raw.len().checked_mul(2)?;
    let text = format!("{:0width$}", big_endian(raw));
    Some(format!(".{}", text.get(..digits)?))
}

fn datetime(packed: u64, fraction: String) -> String {
    // The highest bit says that it is not negative; no DATETIME is.
    let packed = packed & 0x7f_ffff_ffff;
    let (months, day) = (packed >> 22, (packed >> 17) & 31);
    let date = date(months.wrapping_div(13), months.wrapping_rem(13), day);
    let (hour, minute, second) = ((packed >> 12) & 31, (packed >> 6) & 63, packed & 63);
    format!("{date} {hour:02}:{minute:02}:{second:02}{fraction}")
}

fn timestamp(seconds: u64, fraction: String) -> Option<String> {
    // MariaDB before 11.5 keeps the fraction of what is out of range.
    if seconds == 0 && fraction.bytes().all(|digit| matches!(digit, b'.' | b'0')) {
        return Some(format!("0000-00-00 00:00:00{fraction}"));
    }
    let (days, rest) = (seconds.wrapping_div(86_400), seconds.wrapping_rem(86_400));
    let (year, month, day) = civil(days)?;
    let (hour, minute, second) =
        (rest.wrapping_div(3600), rest.wrapping_rem(3600).wrapping_div(60), rest.wrapping_rem(60));
    Some(format!("{} {hour:02}:{minute:02}:{second:02}{fraction}", date(year, month, day)))
}

/// Days since 1970-01-01 as year, month and day. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: u64) -> Option<(u64, u64, u64)> {
    let days = days.checked_add(719_468)?;
    let (era, day_of_era) = (days.wrapping_div(146_097), days.wrapping_rem(146_097));
    let leap = day_of_era.wrapping_div(1460);
    let century = day_of_era.wrapping_div(36_524);
    let last = day_of_era.wrapping_div(146_096);
    let year_of_era =
        day_of_era.checked_sub(leap)?.checked_add(century)?.checked_sub(last)?.wrapping_div(365);
    let before = year_of_era.checked_mul(365)?.checked_add(year_of_era >> 2)?;
    let day_of_year = day_of_era.checked_sub(before.checked_sub(year_of_era.wrapping_div(100))?)?;
    let shifted = day_of_year.checked_mul(5)?.checked_add(2)?.wrapping_div(153);
    let day = day_of_year
        .checked_sub(shifted.checked_mul(153)?.checked_add(2)?.wrapping_div(5))?
        .checked_add(1)?;
    let month = if shifted < 10 { shifted.checked_add(3)? } else { shifted.checked_sub(9)? };
    let year =
        year_of_era.checked_add(era.checked_mul(400)?)?.checked_add(u64::from(month <= 2))?;
    Some((year, month, day))
}

/// Source: MySQL `my_time_packed_from_binary`: offset binary, so that the bytes sort; the fraction of a
/// negative time counts upwards from the next lower second.
fn time(digits: u16, raw: &[u8]) -> Option<String> {
    let bits = raw.len().checked_mul(8).filter(|bits| (24..=48).contains(bits))?;
    let offset = 1_i64 << bits.checked_sub(1)?;
    let value = i64::try_from(big_endian(raw)).ok()?.checked_sub(offset)?;
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    let fraction_bits = bits.checked_sub(24)?;
    let whole = value >> fraction_bits;
    let (hour, minute, second) = ((whole >> 12) & 0x3ff, (whole >> 6) & 63, whole & 63);
    let part = value & ((1_u64 << fraction_bits).checked_sub(1)?);
    let part = part.to_be_bytes();
    let part = part.get(8_usize.checked_sub(fraction_bits.wrapping_div(8))?..)?;
    Some(format!("{sign}{hour:02}:{minute:02}:{second:02}{}", fraction(digits, part)?))
}

fn set(column: &Column, bits: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for at in (0..64_u32).filter(|&at| bits & (1_u64 << at) != 0) {
        let label = column.labels.get(usize::try_from(at).ok()?)?;
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(&utf8(column.collation, label)?);
    }
    Some(out)
}

fn is_text(kind: u8) -> bool {
    matches!(
        kind,
        kind::STRING
            | kind::VARCHAR
            | kind::VAR_STRING
            | kind::TINY_BLOB
            | kind::BLOB
            | kind::MEDIUM_BLOB
            | kind::LONG_BLOB
            | kind::ENUM
            | kind::SET
    )
}

/// What MariaDB keeps as bytes of fixed length.
fn disguised(column: &Column, raw: &[u8]) -> Option<String> {
    // Trailing zeros are left out.
    let mut bytes = [0; 16];
    bytes.get_mut(..raw.len())?.copy_from_slice(raw);
    let [a, b, c, d, ..] = bytes;
    Some(match column.disguise {
        Disguise::None => return None,
        Disguise::Inet4 => Ipv4Addr::new(a, b, c, d).to_string(),
        Disguise::Inet6 => inet6(bytes),
        Disguise::Uuid => uuid(bytes),
    })
}

/// As MariaDB prints it: the longest run of zeros is left out, also a single one, and the first of equal ones; addresses that
/// embed one of IPv4 say it so.
fn inet6(bytes: [u8; 16]) -> String {
    let groups = Ipv6Addr::from(bytes).segments();
    let run = |at: &usize| groups.iter().skip(*at).take_while(|&&group| group == 0).count();
    let runs = (0..groups.len()).map(|at| (at, run(&at)));
    let longest = runs.fold((0, 0), |best, next| if next.1 > best.1 { next } else { best });
    let (gap, length) = longest;
    let mapped = length == 5 && groups.get(5) == Some(&0xffff);
    if gap == 0 && (length == 6 || mapped) {
        let [.., a, b, c, d] = bytes;
        let prefix = if mapped { "::ffff:" } else { "::" };
        return format!("{prefix}{}", Ipv4Addr::new(a, b, c, d));
    }
    let say = |groups: &[u16]| {
        let groups: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
        groups.join(":")
    };
    if length == 0 {
        return say(&groups);
    }
    let (before, rest) = groups.split_at_checked(gap).unwrap_or_default();
    format!("{}::{}", say(before), say(rest.get(length..).unwrap_or_default()))
}

/// In the order of its text.
fn uuid(bytes: [u8; 16]) -> String {
    let hex = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let mut text = String::new();
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}
