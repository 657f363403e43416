//! Every kind of frame, whole and cut at every byte; and whatever else may come.

use expect_test::expect;
use proptest::{collection::vec, prelude::*};

use super::*;

fn at(term: u32, sequence: u64) -> Place {
    Place { term: Term(term), sequence }
}

fn raw(sequence: u64) -> Raw {
    Raw {
        place: at(1, sequence),
        appended_at: UnixMicros(7),
        format: 1,
        payload: [1, 2, 3].as_slice().into(),
    }
}

fn of_relay() -> Vec<ToReader> {
    let partition = Partition(3);
    let answers = [
        Answer::Records(vec![raw(1)]),
        Answer::Records(Vec::new()),
        Answer::Gap { resume: at(2, 9) },
        Answer::Place(Place::START),
        Answer::Epochs(vec![raw(0)]),
        Answer::Failed("later".to_owned()),
        Answer::Damaged("never".to_owned()),
    ];
    let mut all = vec![
        ToReader::Challenge { version: VERSION, nonce: [5; 16] },
        ToReader::Refused("no".to_owned()),
        ToReader::Welcome { stream: StreamId(7), partitions: 4 },
        ToReader::Base { partition, at: at(1, 2) },
        ToReader::Pushed { partition, records: vec![raw(1), raw(2)] },
        ToReader::Alive,
    ];
    all.extend((1..).zip(answers).map(|(number, answer)| ToReader::Answer { number, answer }));
    all
}

fn of_reader() -> Vec<ToRelay> {
    let partition = Partition(3);
    let questions = [
        Question::Read { partition, after: at(1, 2), records_max: 3, bytes_max: 4 },
        Question::Head { partition },
        Question::Seek { partition, at: UnixMicros(9) },
        Question::Epochs,
    ];
    let hello = Hello {
        version: VERSION,
        proof: Some([9; 32]),
        stream: Some(StreamId(7)),
        have: vec![Place::START, at(1, 2)],
    };
    let bare = Hello { version: 2, proof: None, stream: None, have: Vec::new() };
    let mut all = vec![ToRelay::Hello(hello), ToRelay::Hello(bare), ToRelay::Alive];
    all.extend((1..).zip(questions).map(|(number, question)| ToRelay::Ask { number, question }));
    all
}

/// Reads what comes in two pieces.
fn read<T>(
    bytes: &[u8],
    cut: usize,
    next: impl Fn(&mut BytesMut) -> Result<Option<T>, FrameError>,
) -> Vec<T> {
    let (one, two) = bytes.split_at(cut);
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    for part in [one, two] {
        input.extend_from_slice(part);
        while let Some(message) = next(&mut input).unwrap() {
            out.push(message);
        }
    }
    assert!(input.is_empty(), "something is left");
    out
}

#[test]
fn whole_and_cut_at_every_byte() {
    let (mut relay, mut reader) = (BytesMut::new(), BytesMut::new());
    for message in of_relay() {
        put_of_relay(&message, &mut relay);
    }
    for message in of_reader() {
        put_of_reader(&message, &mut reader);
    }
    for cut in 0..=relay.len() {
        assert_eq!(read(&relay, cut, next_of_relay), of_relay(), "cut at {cut}");
    }
    for cut in 0..=reader.len() {
        let next = |input: &mut BytesMut| next_of_reader(input, HELLO_BYTES_MAX);
        assert_eq!(read(&reader, cut, next), of_reader(), "cut at {cut}");
    }
}

#[test]
fn bytes_of_version_1() {
    let mut out = BytesMut::new();
    put_of_relay(&ToReader::Pushed { partition: Partition(3), records: vec![raw(2)] }, &mut out);
    put_of_reader(&of_reader()[3], &mut out);
    expect!["[0, 0, 0, 36, 5, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 32, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]"]
    .assert_eq(&format!("{:?}", out.to_vec()));
}

#[test]
fn refuses_what_makes_no_sense() {
    let relay = |bytes: &[u8]| next_of_relay(&mut BytesMut::from(bytes));
    let reader = |bytes: &[u8]| next_of_reader(&mut BytesMut::from(bytes), HELLO_BYTES_MAX);
    assert_eq!(relay(&[0, 0, 0, 0]), Err(FrameError::Length));
    assert_eq!(relay(&[255, 255, 255, 255]), Err(FrameError::TooLong(0xffff_ffff)));
    assert_eq!(relay(&[0, 0, 0, 1, 99]), Err(FrameError::Kind(99)));
    assert_eq!(relay(&[0, 0, 0, 2, 7, 0]), Err(FrameError::Length), "something is behind it");
    // More records than there are bytes.
    assert_eq!(relay(&[0, 0, 0, 7, 5, 0, 0, 255, 0, 0, 0]), Err(FrameError::Length));
    assert_eq!(reader(&[0, 1, 0, 0]), Err(FrameError::TooLong(65_536)), "before it is known");
    assert_eq!(reader(&[0, 0, 0, 4, 1, 0, 1, 2]), Err(FrameError::Value));
    assert_eq!(reader(&[0, 0, 0, 9]), Ok(None));
}

proptest! {
    #[test]
    fn never_panics(bytes in vec(any::<u8>(), 0..80), kind in 0..9_u8) {
        let length = u8::try_from(bytes.len() + 1).unwrap();
        let framed = [&[0, 0, 0, length, kind], &bytes[..]].concat();
        for input in [&framed, &bytes] {
            drop(next_of_relay(&mut BytesMut::from(&input[..])));
            drop(next_of_reader(&mut BytesMut::from(&input[..]), FRAME_BYTES_MAX));
        }
    }
}
