//! `lru_crawler metadump` and `mgdump`: every key, a page at a time, so that nobody waits and nothing piles up.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{REPLY_BYTES_MAX, Turn, number};
use crate::store::{Cursor, Entry, Traits, item_bytes};

/// Entries that are listed while a shard is held.
const PAGE: usize = 200;

/// How far a dump has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    pub form: DumpForm,
    shard: usize,
    /// Where in the shard; `None` at its beginning.
    at: Option<Cursor>,
}

/// What is written of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// All facts, the key percent-encoded.
    Facts,
    /// An `mg` command.
    Commands,
}

impl Dump {
    pub(super) fn new(form: DumpForm) -> Dump {
        Dump { form, shard: 0, at: None }
    }
}

impl Turn<'_> {
    /// Writes more of a dump; `None` at its end.
    pub fn dump(&mut self, mut dump: Dump, out: &mut Vec<u8>) -> Option<Dump> {
        while let Some(mut shard) = self.node.shard_at(dump.shard) {
            if out.len() >= REPLY_BYTES_MAX {
                return Some(dump);
            }
            let at = dump.at.unwrap_or_else(|| shard.walk(self.now));
            let next = shard.page(at, PAGE, self.now, |key, entry, value| match dump.form {
                DumpForm::Facts => self.facts(key, entry, value.len(), out),
                DumpForm::Commands => command(key, entry, out),
            });
            if next.is_none() {
                dump.shard = dump.shard.saturating_add(1);
            }
            dump.at = next;
        }
        out.extend_from_slice(match dump.form {
            DumpForm::Facts => b"END\r\n",
            DumpForm::Commands => b"EN\r\n",
        });
        None
    }

    fn facts(&self, key: &[u8], entry: &Entry, value_bytes: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"key=");
        percent_encode(key, out);
        out.extend_from_slice(b" exp=");
        match entry.expiry.unix() {
            Some(unix) => number(unix, out),
            None => out.extend_from_slice(b"-1"),
        }
        let fetched = if entry.traits.has(Traits::FETCHED) { "yes" } else { "no" };
        let bytes = item_bytes(key.len(), value_bytes, entry.flags);
        let (used, cas, flags) = (entry.used, entry.cas, entry.flags);
        let facts =
            format!(" la={used} cas={cas} fetch={fetched} cls=1 size={bytes} flags={flags}");
        out.extend_from_slice(facts.as_bytes());
        if self.gate.has_source() {
            out.extend_from_slice(format!(" ver={}", entry.mark.filled.bits()).as_bytes());
        }
        out.extend_from_slice(b" \n");
    }
}

fn command(key: &[u8], entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(b"mg ");
    if entry.traits.has(Traits::BASE64) {
        out.extend_from_slice(STANDARD.encode(key).as_bytes());
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(key);
    }
    out.extend_from_slice(b"\r\n");
}

/// As in a URL; what is neither letter nor digit nor one of `-_.~` becomes two hexadecimal digits.
pub(super) fn percent_encode(key: &[u8], out: &mut Vec<u8>) {
    for &byte in key {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}
