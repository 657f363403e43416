//! Character sets: the text of a column as UTF-8.
//!
//! By collation id, as table maps name it. A byte that the set does not define makes the whole text unreadable, so that its
//! key is unknown, and never another one. `e2e` compares every character of every set with what real servers make of it.

use std::borrow::Cow;

mod old;
mod page;

use old::Old;
use page::Page;

/// The collation of binary strings.
pub(crate) const BINARY: u16 = 63;

/// How bytes of text become UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    /// Bytes as they are: UTF-8, its subsets, and binary.
    AsIs,
    /// Windows-1252, which MySQL calls latin1.
    Latin1,
    /// Two bytes per unit, surrogates included.
    Utf16 {
        little_endian: bool,
    },
    Utf32,
    /// One of the sets from before Unicode; ASCII is as it is in all of them.
    Old(&'static Old),
    /// Likewise, but for ASCII.
    Page(&'static Page),
}

/// The character sets whose text can be had, by name: all that MySQL 9.7 and MariaDB 11.8 have.
pub const KNOWN: [&str; 42] = [
    "armscii8", "ascii", "big5", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850",
    "cp852", "cp866", "cp932", "dec8", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "geostd8",
    "greek", "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7",
    "macce", "macroman", "sjis", "swe7", "tis620", "ucs2", "ujis", "utf16", "utf16le", "utf32",
    "utf8", "utf8mb3", "utf8mb4",
];

/// Whether text of this collation, by its id, can be had.
pub fn is_known(collation: u16) -> bool {
    charset(collation).is_some()
}

/// Source: `information_schema.COLLATIONS` of MySQL 9.7 and MariaDB 11.8. MariaDB's NOPAD collations are 1024 above their
/// like; its UCA 14.0.0 ones begin at 2048.
fn charset(collation: u16) -> Option<Charset> {
    let id = if (1024..2048).contains(&collation) { collation & 1023 } else { collation };
    match id {
        // 0: not known (metadata is not FULL); the bytes are taken as they are.
        0
        | BINARY
        | 11
        | 65
        | 33
        | 76
        | 83
        | 192..=215
        | 223
        | 45
        | 46
        | 224..=247
        | 255..=323
        | 576..=579
        | 608..=611
        | 2048..=2559 => Some(Charset::AsIs),
        5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Some(Charset::Latin1),
        35 | 54 | 55 | 90 | 101..=124 | 128..=151 | 159 | 640..=642 | 672..=674 | 2560..=3071 => {
            Some(Charset::Utf16 { little_endian: false })
        }
        56 | 62 => Some(Charset::Utf16 { little_endian: true }),
        60 | 61 | 160..=183 | 736..=738 | 3072..=3327 => Some(Charset::Utf32),
        _ => old::of(id).map(Charset::Old).or_else(|| page::of(id).map(Charset::Page)),
    }
}

/// The text; `None` if the bytes are none.
pub(crate) fn utf8(collation: u16, raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    let text: String = match charset(collation)? {
        Charset::AsIs => return Some(Cow::Borrowed(raw)),
        Charset::Latin1 | Charset::Old(_) if raw.is_ascii() => return Some(Cow::Borrowed(raw)),
        Charset::Latin1 => raw.iter().map(|&byte| latin1(byte)).collect(),
        Charset::Old(old) => old.text(raw)?,
        Charset::Page(page) => page.text(raw)?,
        Charset::Utf16 { little_endian } => {
            let unit = |pair: &[u8; 2]| {
                if little_endian { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) }
            };
            let (pairs, rest) = raw.as_chunks::<2>();
            if !rest.is_empty() {
                return None;
            }
            char::decode_utf16(pairs.iter().map(unit)).collect::<Result<_, _>>().ok()?
        }
        Charset::Utf32 => {
            let (quads, rest) = raw.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            quads
                .iter()
                .map(|quad| char::from_u32(u32::from_be_bytes(*quad)))
                .collect::<Option<_>>()?
        }
    };
    Some(Cow::Owned(text.into_bytes()))
}

/// Windows-1252, with its five holes as the control characters of ISO 8859-1, as MySQL has it.
fn latin1(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    byte.checked_sub(0x80)
        .and_then(|at| HIGH.get(usize::from(at)).copied())
        .unwrap_or(char::from(byte))
}
