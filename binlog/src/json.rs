//! MySQL's binary JSON as text, in the server's own form: `{"a": [1, 2.0, "x"]}`.
//!
//! ```text
//! document  = type value
//! object    = count size key_entry* value_entry* key* value*      ; offsets are from the start of the object
//! array     = count size value_entry* value*
//! key_entry = offset length:2
//! value_entry = type (inlined value / offset)                     ; small ones: 2 bytes, large ones: 4
//! opaque    = field_type:1 length:varlen bytes
//! ```
//!
//! Source: MySQL `sql-common/json_binary.h`. Nesting is bounded as the server bounds it, and so is the text.

use std::fmt::Write as _;

use crate::{number, read::Bytes, table_map::kind, text};

/// The server's own bound.
const DEPTH_MAX: usize = 100;
/// Overlapping offsets could make a short document print as a long one.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// `None` if the bytes are no document. No bytes at all are `null`, as the server has it.
pub(crate) fn text(raw: &[u8]) -> Option<String> {
    let mut out = String::new();
    match raw.split_first() {
        None => out.push_str("null"),
        Some((&kind, rest)) => value(&mut out, kind, rest, 0)?,
    }
    Some(out)
}

/// Small documents have offsets of two bytes, large ones of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Size::Small => 2,
            Size::Large => 4,
        }
    }
}

fn value(out: &mut String, type_of: u8, bytes: &[u8], depth: usize) -> Option<()> {
    if depth > DEPTH_MAX || out.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut rest = Bytes(bytes);
    match type_of {
        0x00 => object(out, Size::Small, bytes, depth),
        0x01 => object(out, Size::Large, bytes, depth),
        0x02 => array(out, Size::Small, bytes, depth),
        0x03 => array(out, Size::Large, bytes, depth),
        0x04 => {
            out.push_str(match rest.u8()? {
                0 => "null",
                1 => "true",
                2 => "false",
                _ => return None,
            });
            Some(())
        }
        0x05 => say(out, i16::from_le_bytes(*rest.array()?)),
        0x06 => say(out, rest.u16()?),
        0x07 => say(out, i32::from_le_bytes(*rest.array()?)),
        0x08 => say(out, rest.u32()?),
        0x09 => say(out, i64::from_le_bytes(*rest.array()?)),
        0x0a => say(out, rest.u64()?),
        0x0b => {
            let text = number::double(f64::from_le_bytes(*rest.array()?))?;
            // A whole one keeps what tells it from an integer.
            let whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            out.push_str(&text);
            if whole {
                out.push_str(".0");
            }
            Some(())
        }
        0x0c => {
            let length = varlen(&mut rest)?;
            string(out, rest.take(length)?)
        }
        0x0f => opaque(out, rest),
        _ => None,
    }
}

fn say(out: &mut String, number: impl std::fmt::Display) -> Option<()> {
    write!(out, "{number}").ok()
}

fn object(out: &mut String, size: Size, bytes: &[u8], depth: usize) -> Option<()> {
    let mut entries = Bytes(bytes);
    let count = count(&mut entries, size)?;
    let mut keys = Bytes(entries.take(count.checked_mul(size.bytes().checked_add(2)?)?)?);
    out.push('{');
    for at in 0..count {
        if at > 0 {
            out.push_str(", ");
        }
        let offset = offset(&mut keys, size)?;
        let length = usize::from(keys.u16()?);
        let key = bytes.get(offset..)?.get(..length)?;
        string(out, key)?;
        out.push_str(": ");
        entry(out, size, bytes, &mut entries, depth)?;
    }
    out.push('}');
    Some(())
}

fn array(out: &mut String, size: Size, bytes: &[u8], depth: usize) -> Option<()> {
    let mut entries = Bytes(bytes);
    let count = count(&mut entries, size)?;
    out.push('[');
    for at in 0..count {
        if at > 0 {
            out.push_str(", ");
        }
        entry(out, size, bytes, &mut entries, depth)?;
    }
    out.push(']');
    Some(())
}

/// How many members; their bytes together follow, and are not needed.
fn count(entries: &mut Bytes<'_>, size: Size) -> Option<usize> {
    let count = offset(entries, size)?;
    offset(entries, size)?;
    Some(count)
}

fn offset(entries: &mut Bytes<'_>, size: Size) -> Option<usize> {
    usize::try_from(entries.uint(size.bytes())?).ok()
}

fn entry(
    out: &mut String,
    size: Size,
    bytes: &[u8],
    entries: &mut Bytes<'_>,
    depth: usize,
) -> Option<()> {
    let type_of = entries.u8()?;
    let field = entries.take(size.bytes())?;
    let depth = depth.checked_add(1)?;
    let inlined = match type_of {
        0x04..=0x06 => true,
        0x07 | 0x08 => size == Size::Large,
        _ => false,
    };
    if inlined {
        return value(out, type_of, field, depth);
    }
    let at = usize::try_from(Bytes(field).uint(size.bytes())?).ok()?;
    value(out, type_of, bytes.get(at..)?, depth)
}

/// Seven bits in each byte, the lowest first; the highest bit says that more follow.
fn varlen(bytes: &mut Bytes<'_>) -> Option<usize> {
    let mut length = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.u8()?;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(length).ok();
        }
    }
    None
}

fn string(out: &mut String, bytes: &[u8]) -> Option<()> {
    if out.len().saturating_add(bytes.len()) > TEXT_BYTES_MAX {
        return None;
    }
    out.push('"');
    for char in str::from_utf8(bytes).ok()?.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control)).ok()?,
            other => out.push(other),
        }
    }
    out.push('"');
    Some(())
}

/// What SQL has and JSON has not.
fn opaque(out: &mut String, mut bytes: Bytes<'_>) -> Option<()> {
    let type_of = bytes.u8()?;
    let length = varlen(&mut bytes)?;
    let body = bytes.take(length)?;
    match type_of {
        kind::NEWDECIMAL => {
            let (precision, rest) = body.split_first()?;
            let (scale, digits) = rest.split_first()?;
            out.push_str(&text::decimal((u16::from(*precision) << 8) | u16::from(*scale), digits)?);
        }
        kind::DATE | kind::DATETIME | kind::TIMESTAMP | kind::TIME => {
            out.push('"');
            out.push_str(&moment(type_of, i64::from_le_bytes(*Bytes(body).array()?))?);
            out.push('"');
        }
        _ => {
            write!(out, "\"base64:type{type_of}:").ok()?;
            base64(out, body);
            out.push('"');
        }
    }
    Some(())
}

/// 24 bits of microseconds, below them in time: seconds, minutes, hours, then day, and month and year together.
fn moment(type_of: u8, packed: i64) -> Option<String> {
    let sign = if packed < 0 { "-" } else { "" };
    let packed = packed.unsigned_abs();
    let (micros, whole) = (packed & 0xff_ffff, packed >> 24);
    let (second, minute) = (whole & 63, (whole >> 6) & 63);
    if type_of == kind::TIME {
        let hour = (whole >> 12) & 0x3ff;
        return Some(format!("{sign}{hour:02}:{minute:02}:{second:02}.{micros:06}"));
    }
    let (hour, days) = ((whole >> 12) & 31, whole >> 17);
    let (day, months) = (days & 31, days >> 5);
    let (year, month) = (months.checked_div(13)?, months.checked_rem(13)?);
    let date = format!("{year:04}-{month:02}-{day:02}");
    Some(match type_of {
        kind::DATE => date,
        _ => format!("{date} {hour:02}:{minute:02}:{second:02}.{micros:06}"),
    })
}

fn base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for part in bytes.chunks(3) {
        let all = part.iter().fold(0_u32, |all, &byte| (all << 8) | u32::from(byte));
        let missing = 3_usize.saturating_sub(part.len());
        let all = if missing == 2 {
            all << 16
        } else if missing == 1 {
            all << 8
        } else {
            all
        };
        for (nth, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from((all >> shift) & 63).unwrap_or_default();
            let digit = DIGITS.get(digit).copied().unwrap_or(b'=');
            out.push(char::from(if nth > part.len() { b'=' } else { digit }));
        }
    }
}
