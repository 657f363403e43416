//! Tests of the state: what counts, and what a writer that was replaced cannot do.

use proptest::{collection::vec, option, prelude::*};
use schemas::{
    gtid::{Dialect, GtidSet},
    record::{FORMAT_VERSION, Origin},
    version::Version,
};

use super::*;

fn saved(term: u32, version: u64) -> Saved {
    Saved {
        term: Term(term),
        checkpoint: Checkpoint {
            source: "s".into(),
            executed: GtidSet::empty(Dialect::Mysql),
            position: None,
            epoch: None,
            version: Version::from_bits(version),
            recent: Vec::new(),
        },
        ends: vec![Place { term: Term(term), sequence: version }, Place::START],
    }
}

fn epoch(epoch: u16, first: u64) -> EpochStart {
    EpochStart {
        source: "s".into(),
        epoch,
        origin: Origin::Positions { server_id: 1 },
        first,
        before: GtidSet::empty(Dialect::Mysql),
        lossless: true,
    }
}

fn claim(term: u32, holder: &str) -> Note {
    Note::claim(Term(term), holder)
}

fn state(notes: &[Note]) -> State {
    let mut state = State::default();
    for note in notes {
        state.apply(FORMAT_VERSION, note).unwrap();
    }
    state
}

/// The version of the checkpoint that counts, and the first numbers of the epochs.
fn counts(notes: &[Note]) -> (Option<u64>, Vec<u64>) {
    let state = state(notes);
    let checkpoint = state.checkpoints.get("s").map(|saved| saved.checkpoint.version.bits());
    (checkpoint, state.epochs.iter().map(|start| start.first).collect())
}

#[test]
fn notes_come_back() {
    let state = state(&[
        Note::log(StreamId(0xabc), 16),
        Note::log(StreamId(0xdef), 7),
        claim(3, "me"),
        Note::checkpoint(&saved(3, 9)),
        Note::epoch(&epoch(1, 5), Term(3)),
        Note::begun(Term(3)),
        Note::board("config:eu", b"1".to_vec()),
        Note::board("config:eu", b"2".to_vec()),
        Note::board("process:eu:a", b"x".to_vec()),
        Note::board("process:eu:a", Vec::new()),
    ]);
    let expected = State {
        log: Some((StreamId(0xabc), 16)),
        term: Claim { number: 3, holder: "me".into() },
        begun: 3,
        checkpoints: BTreeMap::from([("s".into(), saved(3, 9))]),
        epochs: vec![epoch(1, 5)],
        replaced: Vec::new(),
        board: BTreeMap::from([("config:eu".into(), Arc::from(&b"2"[..]))]),
        requests: BTreeMap::new(),
    };
    assert_eq!(state, expected);
    assert_eq!(state.resume()[0].epoch, Some(epoch(1, 5)));
}

#[test]
fn the_first_claim_of_a_term_stands() {
    let state = state(&[claim(1, "a"), claim(1, "b"), claim(2, "c"), claim(1, "d")]);
    assert_eq!(state.term, Claim { number: 2, holder: "c".into() });
}

#[test]
fn a_writer_that_was_replaced_changes_nothing() {
    let before =
        [claim(1, "a"), Note::checkpoint(&saved(1, 5)), Note::epoch(&epoch(1, 1), Term(1))];
    let late = [Note::checkpoint(&saved(1, 8)), Note::epoch(&epoch(2, 70), Term(1))];
    let notes = [&before[..], &[claim(2, "b")], &late].concat();
    assert_eq!(counts(&notes), (Some(5), vec![1]));
    // Its successor says what counts.
    let notes =
        [&notes[..], &[Note::epoch(&epoch(2, 30), Term(2)), Note::checkpoint(&saved(2, 6))]];
    assert_eq!(counts(&notes.concat()), (Some(6), vec![1, 30]));
}

#[test]
fn the_first_announcement_of_an_epoch_stands() {
    let notes = [
        claim(1, "a"),
        Note::epoch(&epoch(1, 1), Term(1)),
        claim(2, "b"),
        Note::epoch(&epoch(1, 9), Term(2)),
    ];
    assert_eq!(counts(&notes).1, [1]);
}

#[test]
fn checkpoints_of_older_terms_are_named_to_be_removed() {
    let mut notes = vec![claim(1, "a"), Note::checkpoint(&saved(1, 5)), claim(2, "b")];
    notes.push(Note::checkpoint(&saved(2, 5)));
    assert_eq!(state(&notes).replaced, [("s".into(), Term(1))]);
    notes.push(Note::removed_checkpoint("s", Term(1)));
    assert_eq!(state(&notes).replaced, []);
    assert_eq!(counts(&notes).0, Some(5));
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_new_is_passed_over() {
    let mut state = State::default();
    let note = |key: &str, value: &[u8]| Note {
        key: key.to_owned(),
        ends: None,
        value: Some(value.to_vec()),
    };
    assert!(state.apply(1, &note("log", b"x")).is_err());
    assert!(state.apply(1, &note("term/x", b"")).is_err());
    assert!(state.apply(1, &note("epoch/s/1/0", b"?")).is_err());
    assert!(state.apply(1, &note("checkpoint/s/0", b"\xff")).is_err());
    assert!(state.apply(9, &note("checkpoint/s/0", b"")).is_err());
    assert_eq!(state.apply(1, &note("weather/today", b"rain")), Ok(()));
    assert_eq!(state, State::default());
}

proptest! {
    /// Whatever anybody writes into the topic, nothing panics, and what counts is not forgotten.
    #[test]
    fn no_note_panics(notes in vec((key(), option::of(vec(any::<u8>(), 0..40)), 0..3_u16), 0..20)) {
        let mut state = state(&[claim(1, "a"), Note::checkpoint(&saved(1, 5)), Note::epoch(&epoch(1, 1), Term(1))]);
        for (key, value, format) in notes {
            drop(state.apply(format, &Note { key, ends: Some("1:1 x".to_owned()), value }));
        }
        prop_assert_eq!(state.epochs.first(), Some(&epoch(1, 1)));
        prop_assert!(state.checkpoints.contains_key("s"));
    }
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["(log|term|begun|checkpoint|epoch)(/[a-z0-9]{0,3}){0,4}", "[ -~]{0,12}"]
}
