//! Notes of writers and consumers (terms, checkpoints, epochs, cursors) in any order: never a panic. A note is
//! `KEY LF ENDS LF LENGTH VALUE`, with one byte for the length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schemas::record::FORMAT_VERSION;
use stream::kafka::fuzzing::{Noted, notes};

fuzz_target!(|bytes: &[u8]| {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some((note, behind)) = next(rest) {
        all.push(note);
        rest = behind;
    }
    notes(&all);
});

fn next(bytes: &[u8]) -> Option<(Noted<'_>, &[u8])> {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let key = std::str::from_utf8(parts.next()?).ok()?;
    let ends = std::str::from_utf8(parts.next()?).ok()?;
    let (length, rest) = parts.next()?.split_first()?;
    let (value, rest) = rest.split_at(rest.len().min(usize::from(*length)));
    let ends = (!ends.is_empty()).then_some(ends);
    Some(((FORMAT_VERSION, key, ends, (*length > 0).then_some(value)), rest))
}
