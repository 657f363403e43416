//! Tests: whatever stands in a topic, in headers, records and notes, nothing panics.

use proptest::{collection::vec, option, prelude::*};
use schemas::record::{FORMAT_VERSION, UnixMicros};

use super::{
    cursors::Table,
    follower::Fold as _,
    state::{Note, State},
    wire,
};
use crate::raw;

/// Takes a record with such headers, as far as it is one.
fn record(headers: &[(&str, Option<&[u8]>)], payload: &[u8]) {
    let Some(raw) = wire::parse(headers.iter().copied(), UnixMicros(0), payload) else { return };
    let previous = raw::previous(&raw);
    if let Ok(entry) = raw::entry(&raw) {
        assert_eq!(entry.place, raw.place, "a record is where its headers say");
    } else {
        assert_eq!(previous, None, "what cannot be decoded names no predecessor");
    }
}

/// A note: its format, its key, where the partitions ended (a header), its value.
type Noted<'a> = (u16, &'a str, Option<&'a str>, Option<&'a [u8]>);

/// Folds notes into what a writer and a consumer make of them.
fn notes(notes: &[Noted<'_>]) {
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

/// Keys as writers make them, and such as nobody makes.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("log".to_owned()),
        "(term|begun|request|board)/[0-9]{0,11}",
        "checkpoint/[a-c]{0,2}/[0-9]{0,11}",
        "epoch/[a-c]{0,2}/[0-9]{0,6}/[0-9]{0,11}",
        "[a-z/]{0,8}/[0-9]{0,6}",
        ".{0,12}",
    ]
}

/// Values as writers make them, and such as nobody makes.
fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let text = "[0-9a-f]{0,17} ([0-9]{0,6}|[0-9]{0,11}:[0-9]{0,21})".prop_map(String::into_bytes);
    option::of(prop_oneof![text, vec(any::<u8>(), 0..40)])
}

proptest! {
    #[test]
    fn any_headers_and_records(
        place in option::of(prop_oneof!["[0-9]{0,11}:[0-9]{0,21}".prop_map(String::into_bytes), vec(any::<u8>(), 0..12)]),
        format in option::of(prop_oneof![Just(FORMAT_VERSION.to_string().into_bytes()), vec(any::<u8>(), 0..4)]),
        payload in vec(any::<u8>(), 0..60),
    ) {
        record(&[("place", place.as_deref()), ("format", format.as_deref()), ("else", None)], &payload);
    }

    #[test]
    fn any_notes(
        all in vec((0..3_u16, key(), option::of("[0-9: ]{0,20}"), value()), 0..20),
    ) {
        let all: Vec<Noted<'_>> = all
            .iter()
            .map(|(format, key, ends, value)| (*format, key.as_str(), ends.as_deref(), value.as_deref()))
            .collect();
        notes(&all);
    }
}
