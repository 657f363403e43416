//! The relay's frames: a pure codec, both sides, without I/O.
//!
//! ```text
//! frame    = length (u32) kind (u8) body          ; the length is that of kind and body
//! record   = place appended_at (u64, µs) format (u16) length (u32) bytes
//! place    = term (u32) sequence (u64)
//! ```
//!
//! All numbers are big-endian. A frame has at most [`FRAME_BYTES_MAX`] bytes, and nothing behind its last field. Before a reader has
//! shown who it is, only a [`ToRelay::Hello`] of at most [`HELLO_BYTES_MAX`] is understood.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use schemas::{
    cursor::{Partition, Place, StreamId, Term},
    record::UnixMicros,
};

use crate::control::wire::{Nonce, Proof};

/// The version of this protocol. Both sides say theirs first.
pub const VERSION: u16 = 1;
/// Most bytes of a frame. A record has far fewer.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// Most bytes of the first frame of a reader.
pub const HELLO_BYTES_MAX: usize = 32 << 10;
/// Most partitions of a log that is relayed.
pub const PARTITIONS_MAX: u16 = 1024;
/// Most bytes of a text for people.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of a record beside its own.
const RECORD_BYTES: usize = 12 + 8 + 2 + 4;
const LENGTH_BYTES: usize = 4;

const _: () = assert!(HELLO_BYTES_MAX > PARTITIONS_MAX as usize * 12 + 128);

/// A record as it is kept and sent: its place, and its bytes, not decoded yet. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Where it stands in its partition.
    pub place: Place,
    /// When it was appended, by the writer's clock.
    pub appended_at: UnixMicros,
    /// The number of the format that the bytes are in.
    pub format: u16,
    /// What it says.
    pub payload: Arc<[u8]>,
}

/// What a relay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToReader {
    /// At once.
    Challenge { version: u16, nonce: Nonce },
    /// Then it closes.
    Refused(String),
    /// The hello was good.
    Welcome { stream: StreamId, partitions: u16 },
    /// What is pushed next in the partition comes right behind `at`. If the reader stands before that, what lies between is not pushed.
    Base { partition: Partition, at: Place },
    /// The next records of a partition, oldest first.
    Pushed { partition: Partition, records: Vec<Raw> },
    /// To the question of this number.
    Answer { number: u64, answer: Answer },
    /// Nothing else is to be said.
    Alive,
}

/// What a relay answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What follows the place; empty at the head.
    Records(Vec<Raw>),
    /// What follows is gone.
    Gap { resume: Place },
    /// Of the head, or of a time.
    Place(Place),
    /// Announcements, oldest first, as records without a place.
    Epochs(Vec<Raw>),
    /// It could not be read. Try again.
    Failed(String),
    /// The log is damaged.
    Damaged(String),
}

/// What a reader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRelay {
    Hello(Hello),
    /// Answers may come in another order than questions.
    Ask {
        number: u64,
        question: Question,
    },
    /// Nothing else is to be said.
    Alive,
}

/// Who reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub version: u16,
    /// Where the relay shares a secret with its readers.
    pub proof: Option<Proof>,
    /// The log that the reader knows; `None`: whichever it is.
    pub stream: Option<StreamId>,
    /// For each partition the last record that the reader has; [`Place::START`]: none. Empty: none at all.
    pub have: Vec<Place>,
}

/// What a reader asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Read { partition: Partition, after: Place, records_max: u32, bytes_max: u32 },
    Head { partition: Partition },
    Seek { partition: Partition, at: UnixMicros },
    Epochs,
}

/// The other side does not speak as it must; the connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("a frame of an unknown kind, {0}")]
    Kind(u8),
    #[error("a frame that ends too early, or too late")]
    Length,
    #[error("a frame with a value that makes no sense")]
    Value,
}

/// Takes the next frame of a relay off `input`; `None`: it is not all there.
pub fn next_of_relay(input: &mut BytesMut) -> Result<Option<ToReader>, FrameError> {
    let Some((kind, mut body)) = next(input, FRAME_BYTES_MAX)? else { return Ok(None) };
    let message = match kind {
        1 => ToReader::Challenge { version: u16(&mut body)?, nonce: array(&mut body)? },
        2 => ToReader::Refused(text(&mut body)?),
        3 => ToReader::Welcome { stream: stream(&mut body)?, partitions: partitions(&mut body)? },
        4 => ToReader::Base { partition: partition(&mut body)?, at: place(&mut body)? },
        5 => ToReader::Pushed { partition: partition(&mut body)?, records: records(&mut body)? },
        6 => ToReader::Answer { number: u64(&mut body)?, answer: answer(&mut body)? },
        7 => ToReader::Alive,
        kind => return Err(FrameError::Kind(kind)),
    };
    end(&body).map(|()| Some(message))
}

/// Takes the next frame of a reader off `input`, which has at most `bytes_max`; `None`: it is not all there.
pub fn next_of_reader(
    input: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<ToRelay>, FrameError> {
    let Some((kind, mut body)) = next(input, bytes_max)? else { return Ok(None) };
    let message = match kind {
        1 => ToRelay::Hello(hello(&mut body)?),
        2 => ToRelay::Ask { number: u64(&mut body)?, question: question(&mut body)? },
        3 => ToRelay::Alive,
        kind => return Err(FrameError::Kind(kind)),
    };
    end(&body).map(|()| Some(message))
}

/// Appends a frame of a relay. Texts that are too long are cut.
pub fn put_of_relay(message: &ToReader, out: &mut BytesMut) {
    put(out, |out| match message {
        ToReader::Challenge { version, nonce } => {
            out.put_u8(1);
            out.put_u16(*version);
            out.put_slice(nonce);
        }
        ToReader::Refused(why) => {
            out.put_u8(2);
            put_text(out, why);
        }
        ToReader::Welcome { stream, partitions } => {
            out.put_u8(3);
            out.put_u64(stream.0);
            out.put_u16(*partitions);
        }
        ToReader::Base { partition, at } => {
            out.put_u8(4);
            out.put_u16(partition.0);
            put_place(out, *at);
        }
        ToReader::Pushed { partition, records } => {
            out.put_u8(5);
            out.put_u16(partition.0);
            put_records(out, records);
        }
        ToReader::Answer { number, answer } => {
            out.put_u8(6);
            out.put_u64(*number);
            put_answer(out, answer);
        }
        ToReader::Alive => out.put_u8(7),
    });
}

/// Appends a frame of a reader.
pub fn put_of_reader(message: &ToRelay, out: &mut BytesMut) {
    put(out, |out| match message {
        ToRelay::Hello(hello) => {
            out.put_u8(1);
            put_hello(out, hello);
        }
        ToRelay::Ask { number, question } => {
            out.put_u8(2);
            out.put_u64(*number);
            put_question(out, *question);
        }
        ToRelay::Alive => out.put_u8(3),
    });
}

/// Kind and body of the next frame.
fn next(input: &mut BytesMut, bytes_max: usize) -> Result<Option<(u8, Bytes)>, FrameError> {
    let Some(length) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(FrameError::TooLong(length));
    }
    if length == 0 {
        return Err(FrameError::Length);
    }
    if input.len() - LENGTH_BYTES < length {
        return Ok(None);
    }
    input.advance(LENGTH_BYTES);
    let mut body = input.split_to(length).freeze();
    let kind = u8(&mut body)?;
    Ok(Some((kind, body)))
}

fn put(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at - LENGTH_BYTES).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn end(body: &Bytes) -> Result<(), FrameError> {
    if body.is_empty() { Ok(()) } else { Err(FrameError::Length) }
}

fn u8(body: &mut Bytes) -> Result<u8, FrameError> {
    body.try_get_u8().map_err(|_| FrameError::Length)
}

fn u16(body: &mut Bytes) -> Result<u16, FrameError> {
    body.try_get_u16().map_err(|_| FrameError::Length)
}

fn u32(body: &mut Bytes) -> Result<u32, FrameError> {
    body.try_get_u32().map_err(|_| FrameError::Length)
}

fn u64(body: &mut Bytes) -> Result<u64, FrameError> {
    body.try_get_u64().map_err(|_| FrameError::Length)
}

fn array<const N: usize>(body: &mut Bytes) -> Result<[u8; N], FrameError> {
    let mut out = [0; N];
    body.try_copy_to_slice(&mut out).map_err(|_| FrameError::Length)?;
    Ok(out)
}

/// So many bytes behind their number.
fn counted(body: &mut Bytes, bytes_max: usize) -> Result<Bytes, FrameError> {
    let length = usize::try_from(u32(body)?).unwrap_or(usize::MAX);
    if length > bytes_max || length > body.len() {
        return Err(FrameError::Length);
    }
    Ok(body.split_to(length))
}

fn text(body: &mut Bytes) -> Result<String, FrameError> {
    let bytes = counted(body, TEXT_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| FrameError::Value)
}

fn put_text(out: &mut BytesMut, text: &str) {
    let cut: String = text.chars().take(TEXT_BYTES_MAX / 4).collect();
    put_counted(out, cut.as_bytes());
}

fn put_counted(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn stream(body: &mut Bytes) -> Result<StreamId, FrameError> {
    u64(body).map(StreamId)
}

fn partitions(body: &mut Bytes) -> Result<u16, FrameError> {
    let partitions = u16(body)?;
    let some = (1..=PARTITIONS_MAX).contains(&partitions);
    some.then_some(partitions).ok_or(FrameError::Value)
}

fn partition(body: &mut Bytes) -> Result<Partition, FrameError> {
    let number = u16(body)?;
    (number < PARTITIONS_MAX).then_some(Partition(number)).ok_or(FrameError::Value)
}

fn place(body: &mut Bytes) -> Result<Place, FrameError> {
    Ok(Place { term: Term(u32(body)?), sequence: u64(body)? })
}

fn put_place(out: &mut BytesMut, place: Place) {
    out.put_u32(place.term.0);
    out.put_u64(place.sequence);
}

fn records(body: &mut Bytes) -> Result<Vec<Raw>, FrameError> {
    let count = usize::try_from(u32(body)?).unwrap_or(usize::MAX);
    // No more memory than came bytes.
    if count > body.len() / RECORD_BYTES {
        return Err(FrameError::Length);
    }
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let (place, appended_at, format) = (place(body)?, UnixMicros(u64(body)?), u16(body)?);
        let payload: Arc<[u8]> = counted(body, FRAME_BYTES_MAX)?.as_ref().into();
        out.push(Raw { place, appended_at, format, payload });
    }
    Ok(out)
}

fn put_records(out: &mut BytesMut, records: &[Raw]) {
    out.put_u32(u32::try_from(records.len()).unwrap_or(u32::MAX));
    for Raw { place, appended_at, format, payload } in records {
        put_place(out, *place);
        out.put_u64(appended_at.0);
        out.put_u16(*format);
        put_counted(out, payload);
    }
}

fn answer(body: &mut Bytes) -> Result<Answer, FrameError> {
    match u8(body)? {
        1 => records(body).map(Answer::Records),
        2 => Ok(Answer::Gap { resume: place(body)? }),
        3 => place(body).map(Answer::Place),
        4 => records(body).map(Answer::Epochs),
        5 => text(body).map(Answer::Failed),
        6 => text(body).map(Answer::Damaged),
        kind => Err(FrameError::Kind(kind)),
    }
}

fn put_answer(out: &mut BytesMut, answer: &Answer) {
    match answer {
        Answer::Records(records) => {
            out.put_u8(1);
            put_records(out, records);
        }
        Answer::Gap { resume } => {
            out.put_u8(2);
            put_place(out, *resume);
        }
        Answer::Place(place) => {
            out.put_u8(3);
            put_place(out, *place);
        }
        Answer::Epochs(records) => {
            out.put_u8(4);
            put_records(out, records);
        }
        Answer::Failed(what) => {
            out.put_u8(5);
            put_text(out, what);
        }
        Answer::Damaged(what) => {
            out.put_u8(6);
            put_text(out, what);
        }
    }
}

fn question(body: &mut Bytes) -> Result<Question, FrameError> {
    Ok(match u8(body)? {
        1 => Question::Read {
            partition: partition(body)?,
            after: place(body)?,
            records_max: u32(body)?,
            bytes_max: u32(body)?,
        },
        2 => Question::Head { partition: partition(body)? },
        3 => Question::Seek { partition: partition(body)?, at: UnixMicros(u64(body)?) },
        4 => Question::Epochs,
        kind => return Err(FrameError::Kind(kind)),
    })
}

fn put_question(out: &mut BytesMut, question: Question) {
    match question {
        Question::Read { partition, after, records_max, bytes_max } => {
            out.put_u8(1);
            out.put_u16(partition.0);
            put_place(out, after);
            out.put_u32(records_max);
            out.put_u32(bytes_max);
        }
        Question::Head { partition } => {
            out.put_u8(2);
            out.put_u16(partition.0);
        }
        Question::Seek { partition, at } => {
            out.put_u8(3);
            out.put_u16(partition.0);
            out.put_u64(at.0);
        }
        Question::Epochs => out.put_u8(4),
    }
}

/// What may be absent has a byte before it.
fn optional<T>(
    body: &mut Bytes,
    read: impl FnOnce(&mut Bytes) -> Result<T, FrameError>,
) -> Result<Option<T>, FrameError> {
    match u8(body)? {
        0 => Ok(None),
        1 => read(body).map(Some),
        _ => Err(FrameError::Value),
    }
}

fn hello(body: &mut Bytes) -> Result<Hello, FrameError> {
    let version = u16(body)?;
    let (proof, stream) = (optional(body, array)?, optional(body, stream)?);
    let count = u16(body)?;
    if count > PARTITIONS_MAX {
        return Err(FrameError::Value);
    }
    let have = (0..count).map(|_| place(body)).collect::<Result<_, _>>()?;
    Ok(Hello { version, proof, stream, have })
}

fn put_hello(out: &mut BytesMut, hello: &Hello) {
    out.put_u16(hello.version);
    match &hello.proof {
        None => out.put_u8(0),
        Some(proof) => {
            out.put_u8(1);
            out.put_slice(proof);
        }
    }
    match hello.stream {
        None => out.put_u8(0),
        Some(stream) => {
            out.put_u8(1);
            out.put_u64(stream.0);
        }
    }
    out.put_u16(u16::try_from(hello.have.len()).unwrap_or(u16::MAX));
    for place in &hello.have {
        put_place(out, *place);
    }
}

#[cfg(test)]
mod tests;
