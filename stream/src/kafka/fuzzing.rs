//! For fuzzers alone: what foreign bytes in a topic reach first.

use schemas::record::UnixMicros;

use super::{
    cursors::Table,
    follower::Fold as _,
    state::{Note, State},
    wire::Raw,
};

/// Takes a record with such headers, as far as it is one.
pub fn record(headers: &[(&str, Option<&[u8]>)], payload: &[u8]) {
    let Some(raw) = Raw::parse(headers.iter().copied(), UnixMicros(0), payload) else { return };
    let previous = raw.previous();
    if let Ok(entry) = raw.entry() {
        assert_eq!(entry.place, raw.place, "a record is where its headers say");
    } else {
        assert_eq!(previous, None, "what cannot be decoded names no predecessor");
    }
}

/// A note: its format, its key, where the partitions ended (a header), its value.
pub type Noted<'a> = (u16, &'a str, Option<&'a str>, Option<&'a [u8]>);

/// Folds notes into what a writer and a consumer make of them.
pub fn notes(notes: &[Noted<'_>]) {
    let (mut state, mut table) = (State::default(), Table::default());
    for (format, key, ends, value) in notes {
        let note = Note {
            key: (*key).to_owned(),
            ends: ends.map(str::to_owned),
            value: value.map(<[u8]>::to_vec),
        };
        let before = state.term.number;
        // What makes no sense is said, and changes nothing that was there.
        drop(state.apply(*format, &note));
        drop(table.apply(*format, &note));
        assert!(state.term.number >= before, "terms never fall");
        assert_eq!(state.resume().len(), state.checkpoints.len(), "each can be resumed from");
    }
    let mut epochs: Vec<_> = state.epochs.iter().map(|it| (&it.source, it.epoch)).collect();
    epochs.sort_unstable();
    assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]), "the first of a number stands");
}
