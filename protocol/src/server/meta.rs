//! The words of a meta command behind its key.
//!
//! A flag is one letter, some with an argument: at most [`WORDS_MAX`] words on a line, no letter twice. Every letter that any meta
//! command knows is accepted by all of them; what a command has no use for it ignores.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    KEY_BYTES_MAX, Versions, error,
    words::{Words, number},
};

/// Most words on a line, verb and key included.
const WORDS_MAX: usize = 20;
/// Longest opaque flag, in bytes, with its letter.
const OPAQUE_BYTES_MAX: usize = 32;

pub(super) const OPAQUE: &[u8] = b"CLIENT_ERROR opaque token too long\r\n";
pub(super) const INVALID: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";
const TOO_MANY: &[u8] = b"CLIENT_ERROR options flags are too long\r\n";
const TWICE: &[u8] = b"CLIENT_ERROR duplicate flag\r\n";
const UNKNOWN: &[u8] = b"CLIENT_ERROR invalid flag\r\n";
const TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";
const INITIAL: &[u8] = b"CLIENT_ERROR invalid numeric initial value\r\n";
const DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta value\r\n";
const BASE64: &[u8] = b"CLIENT_ERROR error decoding key\r\n";

/// Key and flags of a meta command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// The key itself: what is behind the base64, if it was sent so.
    pub key: Cow<'a, [u8]>,
    pub flags: MetaFlags,
    /// The key as it was sent, for the flag `k`.
    pub sent_key: &'a [u8],
    /// The flags as they were sent: replies repeat them in this order.
    pub words: Words<'a>,
}

/// Flags with their arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFlags {
    letters: u64,
    /// `N`: create on a miss, with this expiry time.
    pub vivify: Option<i32>,
    /// `T`: new expiry time.
    pub exptime: Option<i32>,
    /// `R`: recache below this time to live.
    pub recache: Option<i32>,
    /// `C`: the CAS that the entry must have.
    pub cas: Option<u64>,
    /// `E`: the CAS that it gets.
    pub cas_new: Option<u64>,
    /// `F`: client flags.
    pub client_flags: u32,
    /// `M`, the byte behind it; 0 where there is none.
    pub mode: Option<u8>,
    /// `J`: what `ma` creates.
    pub initial: u64,
    /// `D`: by how much `ma` counts.
    pub delta: Option<u64>,
    /// `V`: of `ms`, the fill version; of `mg`, the version that the value must contain; of `md` with `m`, that of a write.
    pub version: Option<u64>,
    /// `m`, of `md`: the writer's own name for the mark that he sets or lifts.
    pub mark: Option<u64>,
}

impl<'a> Meta<'a> {
    /// What `mg key N<seconds>` says.
    pub fn lease(key: &'a [u8], seconds: i32) -> Meta<'a> {
        let flags = MetaFlags { vivify: Some(seconds), ..MetaFlags::default() };
        Meta { key: Cow::Borrowed(key), flags, sent_key: key, words: Words::default() }
    }
}

impl MetaFlags {
    /// Whether the flag `letter` was sent.
    pub fn has(&self, letter: u8) -> bool {
        self.letters & bit(letter) != 0
    }

    /// `b`: the key was sent as base64.
    pub fn is_base64(&self) -> bool {
        self.has(b'b')
    }

    /// `q`.
    pub fn is_quiet(&self) -> bool {
        self.has(b'q')
    }
}

fn bit(letter: u8) -> u64 {
    1_u64.checked_shl(u32::from(letter.wrapping_sub(b'A'))).unwrap_or(0)
}

/// Key and flags; else the error line. Every flag begins with an ASCII letter.
pub(super) fn parse<'a>(
    sent_key: &'a [u8],
    words: Words<'a>,
    versions: Versions,
) -> Result<Meta<'a>, &'static [u8]> {
    if sent_key.len() > KEY_BYTES_MAX {
        return Err(error::FORMAT);
    }
    // The verb and the key count too.
    if words.clone().count() > WORDS_MAX.saturating_sub(2) {
        return Err(TOO_MANY);
    }
    let mut flags = MetaFlags::default();
    let mut decoded = None;
    // An unknown flag ends the search; of other errors, the last one is told.
    let mut wrong = None;
    for word in words.clone() {
        let (&letter, argument) = word.split_first().ok_or(error::FORMAT)?;
        if flags.has(letter) {
            return Err(TWICE);
        }
        flags.letters |= bit(letter);
        if letter == b'b' {
            decoded = decode(sent_key);
            wrong = if decoded.is_none() { Some(BASE64) } else { wrong };
        } else if let Err(line) = flags.take(letter, argument, versions) {
            if line == UNKNOWN {
                return Err(line);
            }
            // That a number of `F` is none is told only where nothing else is wrong.
            wrong = if letter == b'F' { wrong.or(Some(line)) } else { Some(line) };
        }
    }
    let mut opaques = words.clone().filter(|word| word.starts_with(b"O"));
    if wrong.is_none() && opaques.any(|opaque| opaque.len() > OPAQUE_BYTES_MAX) {
        return Err(OPAQUE);
    }
    let key = decoded.map_or(Cow::Borrowed(sent_key), Cow::Owned);
    wrong.map_or(Ok(Meta { key, flags, sent_key, words }), Err)
}

impl MetaFlags {
    fn take(
        &mut self,
        letter: u8,
        argument: &[u8],
        versions: Versions,
    ) -> Result<(), &'static [u8]> {
        match letter {
            b'N' => self.vivify = Some(number(argument).ok_or(TOKEN)?),
            b'T' => self.exptime = Some(number(argument).ok_or(TOKEN)?),
            b'R' => self.recache = Some(number(argument).ok_or(TOKEN)?),
            b'C' => self.cas = Some(number(argument).ok_or(TOKEN)?),
            b'E' => self.cas_new = Some(number(argument).ok_or(TOKEN)?),
            b'F' => self.client_flags = number(argument).ok_or(error::FORMAT)?,
            b'J' => self.initial = number(argument).ok_or(INITIAL)?,
            b'D' => self.delta = Some(number(argument).ok_or(DELTA)?),
            b'M' => self.mode = Some(argument.first().copied().unwrap_or(0)),
            b'V' if versions == Versions::Accept && !argument.is_empty() => {
                self.version = Some(number(argument).ok_or(TOKEN)?);
            }
            b'V' | b'G' if versions == Versions::Accept => {}
            b'm' if versions == Versions::Accept => {
                self.mark = Some(number(argument).ok_or(TOKEN)?);
            }
            b'I' | b'L' | b'O' | b'P' | b'c' | b'f' | b'h' | b'k' | b'l' | b'q' | b's' | b't'
            | b'u' | b'v' | b'x' => {}
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }
}

/// Decodes base64 with its padding; `None` also for nothing at all.
pub(super) fn decode(sent: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(sent).ok().filter(|key| !key.is_empty())
}
