//! Lines to messages. Incremental, and bounded: a line, and a batch, have a longest size. Never a panic.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memrchr};
use schemas::{
    cursor::{Partition, Place, StreamId, Term},
    key::Key,
    record::{Scope, UnixMicros},
    version::{SEQUENCE_MAX, Version},
};

use super::{
    super::{
        Agreement, Answer, Batch, Continuity, EpochNews, Finding, Greeting, Item, Push, Rewind,
    },
    BATCH_BYTES_MAX, BATCH_ITEMS_MAX, COPIES_MAX, COPY_BYTES_MAX, Copied, Copy, FLOOR_PREFIXES_MAX,
    GiverState, Hello, Introduction, LINE_BYTES_MAX, NodeState, PARTITIONS_MAX, PROTOCOL, Peer,
    ToLane, ToNode,
    rings::{OpenRings, Taken},
};

/// Bytes that are no message. The connection must be closed: nobody knows where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("a batch is larger than {BATCH_ITEMS_MAX} items or {BATCH_BYTES_MAX} bytes")]
    BatchTooLarge,
    #[error("the other side speaks another version of the protocol")]
    Protocol,
    #[error("not a message: {0}")]
    Unknown(String),
}

/// Takes a lane's messages out of bytes as they come.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Whole lines that were not looked at yet.
    lines: Bytes,
    open: Option<Open>,
    rings: Option<OpenRings>,
}

/// A batch of which items are missing.
#[derive(Debug)]
struct Open {
    batch: Batch,
    version: Version,
    items_left: usize,
    bytes: usize,
}

impl Decoder {
    /// The next message; `None` if it is not all there.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<ToNode>, Malformed> {
        loop {
            let Some(end) = memchr(b'\n', &self.lines) else {
                if !self.take_lines(input)? {
                    return Ok(None);
                }
                continue;
            };
            if end >= LINE_BYTES_MAX {
                return Err(Malformed::LineTooLong);
            }
            let line = self.lines.split_to(end);
            self.lines.advance(1);
            if let Some(open) = &mut self.open {
                open.take(line)?;
                if let Some(batch) = self.closed() {
                    return Ok(Some(ToNode::Apply(batch)));
                }
                continue;
            }
            if let Some(rings) = self.rings.take() {
                match rings.take(&line)? {
                    Taken::All(rings) => return Ok(Some(ToNode::Rings(rings))),
                    Taken::More(rings) => self.rings = Some(rings),
                }
                continue;
            }
            match opening(&line)? {
                Opening::Whole(message) => return Ok(Some(message)),
                Opening::Batch(open) => self.open = Some(open),
                Opening::Rings(rings) => self.rings = Some(rings),
            }
            if let Some(batch) = self.closed() {
                return Ok(Some(ToNode::Apply(batch)));
            }
        }
    }

    fn closed(&mut self) -> Option<Batch> {
        self.open.take_if(|open| open.items_left == 0).map(|open| open.batch)
    }

    /// Whether there were any.
    fn take_lines(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        match memrchr(b'\n', input) {
            Some(end) => {
                self.lines = input.split_to(end.saturating_add(1)).freeze();
                Ok(true)
            }
            None if input.len() < LINE_BYTES_MAX => Ok(false),
            None => Err(Malformed::LineTooLong),
        }
    }
}

impl Open {
    fn take(&mut self, line: Bytes) -> Result<(), Malformed> {
        self.bytes = self.bytes.saturating_add(line.len()).saturating_add(1);
        if self.bytes > BATCH_BYTES_MAX {
            return Err(Malformed::BatchTooLarge);
        }
        let version = self.version;
        let item = match line.split_first() {
            Some((b'd', [b' ', ..])) => {
                let key = Key::new(line.slice(2..)).map_err(|_| unknown(&line))?;
                Item::Delete { key, version }
            }
            Some((b'a', [])) => Item::Applied { version },
            Some((b'+', more)) => {
                let more = number(more).filter(|more| *more > 0).ok_or_else(|| unknown(&line))?;
                let raised = version.sequence().checked_add(more);
                let raised = raised.and_then(|sequence| Version::new(version.epoch(), sequence));
                self.version = raised.ok_or_else(|| unknown(&line))?;
                return Ok(());
            }
            Some((b'=', other)) => {
                self.version = parse_version(other).ok_or_else(|| unknown(&line))?;
                return Ok(());
            }
            Some((b'p', rest)) => {
                let at = rest.strip_prefix(b" ").and_then(number).ok_or_else(|| unknown(&line))?;
                Item::Progress { version, at: UnixMicros(at) }
            }
            Some((b'f', rest)) => {
                let scope = scope(rest).ok_or_else(|| unknown(&line))?;
                Item::Floor { scope, version }
            }
            _ => return Err(unknown(&line)),
        };
        self.batch.items.push(item);
        self.items_left = self.items_left.saturating_sub(1);
        Ok(())
    }
}

enum Opening {
    Whole(ToNode),
    Batch(Open),
    Rings(OpenRings),
}

fn opening(line: &Bytes) -> Result<Opening, Malformed> {
    let mut words = Words::new(line);
    let verb = words.next();
    if matches!(verb, Some(b"hello" | b"peer")) && words.number() != Some(PROTOCOL) {
        return Err(Malformed::Protocol);
    }
    let opening = match verb {
        Some(b"batch") => batch(&mut words)?.map(Opening::Batch),
        Some(b"rings") => OpenRings::begin(&mut words).map(Opening::Rings),
        Some(verb) => message(verb, &mut words).map(Opening::Whole),
        None => None,
    };
    opening.filter(|_| words.is_over()).ok_or_else(|| unknown(line))
}

fn message(verb: &[u8], words: &mut Words<'_>) -> Option<ToNode> {
    Some(match verb {
        b"hello" => ToNode::Hello(Hello {
            stream: StreamId(hexadecimal(words.next()?)?),
            partitions: words.small().filter(|it| (1..=PARTITIONS_MAX).contains(it))?,
            ring: words.number()?,
            proof: match words.next()? {
                b"-" => None,
                proof => Some(bytes(proof)?),
            },
        }),
        b"heads" => {
            let mut heads = Vec::new();
            while let Some(word) = words.next() {
                let at = memchr(b'=', word)?;
                let place = parse_place(word.get(at.saturating_add(1)..)?)?;
                heads.push((partition(word.get(..at)?)?, place));
            }
            ToNode::Heads(heads)
        }
        b"begin" => ToNode::Begin { partition: words.partition()?, at: words.place()? },
        b"epoch" => ToNode::Epoch(EpochNews {
            epoch: words.small()?,
            last: words.version()?,
            continuity: match words.next()? {
                b"lossless" => Continuity::Lossless,
                b"new-server" => Continuity::NewServer,
                b"same-server" => Continuity::SameServer,
                _ => return None,
            },
            resumed: words.version()?,
        }),
        b"push" => ToNode::Push(Push {
            region: words.version()?,
            primary: words.version()?,
            highest: words.version()?,
            echo: words.version()?,
            epoch: words.small()?,
        }),
        b"clocks" => ToNode::Clocks(Finding {
            agreement: match words.next()? {
                b"close" => Agreement::Close,
                b"apart" => Agreement::Apart,
                _ => return None,
            },
            steps: words.count()?,
        }),
        b"quarantine" => ToNode::Quarantine,
        b"stats" => ToNode::Statistics,
        b"peer" => ToNode::Peer(Peer {
            stream: StreamId(hexadecimal(words.next()?)?),
            partitions: words.small().filter(|it| (1..=PARTITIONS_MAX).contains(it))?,
            proof: match words.next()? {
                b"-" => None,
                proof => Some(bytes(proof)?),
            },
        }),
        b"copies" => {
            let mut keys = Vec::new();
            while let Some(word) = words.next() {
                keys.push(Key::new(word.to_vec()).ok()?);
            }
            ToNode::Copies(Some(keys).filter(|keys| (1..=COPIES_MAX).contains(&keys.len()))?)
        }
        b"walk" => ToNode::Walk { walk: words.walk()?, looks: words.count()? },
        _ => return None,
    })
}

/// An error if it is too large, `None` if it is no batch.
fn batch(words: &mut Words<'_>) -> Result<Option<Open>, Malformed> {
    let header = (|| {
        let (partition, from, to) = (words.partition()?, words.place()?, words.place()?);
        Some((partition, from, to, words.number()?, words.version()?))
    })();
    let Some((partition, from, to, items, version)) = header else { return Ok(None) };
    let items_left = usize::try_from(items).ok().filter(|items| *items <= BATCH_ITEMS_MAX);
    let items_left = items_left.ok_or(Malformed::BatchTooLarge)?;
    // Room for what was announced is made as it comes: a number alone must not cost memory.
    let batch = Batch { partition, from, to, items: Vec::with_capacity(items_left.min(1024)) };
    Ok(Some(Open { batch, version, items_left, bytes: 0 }))
}

fn scope(rest: &[u8]) -> Option<Scope> {
    if rest.is_empty() {
        return Some(Scope::All);
    }
    let mut prefixes = Vec::new();
    for prefix in rest.strip_prefix(b" ")?.split(|byte| *byte == b' ') {
        Key::new(prefix.to_vec()).ok()?;
        prefixes.push(std::str::from_utf8(prefix).ok()?.into());
    }
    (prefixes.len() <= FLOOR_PREFIXES_MAX).then_some(Scope::Prefixes(prefixes))
}

/// The next of a node's messages; `None` if it is not all there.
pub fn decode_answer(input: &mut BytesMut) -> Result<Option<ToLane>, Malformed> {
    let Some(end) = memchr(b'\n', input) else {
        return if input.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Malformed::LineTooLong) };
    };
    if end >= LINE_BYTES_MAX {
        return Err(Malformed::LineTooLong);
    }
    if input.starts_with(b"copy ") {
        return copy(input, end);
    }
    let line = input.split_to(end.saturating_add(1)).freeze();
    let line = line.slice(..end);
    let mut words = Words::new(&line);
    let verb = words.next().unwrap_or_default();
    if verb == b"error" {
        let why = String::from_utf8_lossy(words.rest()).into_owned();
        return Ok(Some(ToLane::Refused(why)));
    }
    if verb == b"mcsqueal" && words.number() != Some(PROTOCOL) {
        return Err(Malformed::Protocol);
    }
    let message = answer(verb, &mut words).filter(|_| words.is_over());
    message.map(Some).ok_or_else(|| unknown(&line))
}

/// A copy whose line ends at `end`; `None` if its value is not all there.
fn copy(input: &mut BytesMut, end: usize) -> Result<Option<ToLane>, Malformed> {
    let line = Bytes::copy_from_slice(input.get(..end).unwrap_or_default());
    let mut words = Words::new(&line);
    let head = (|| {
        words.next()?;
        let key = Key::new(words.next()?.to_vec()).ok()?;
        let (version, flags) = (words.version()?, u32::try_from(words.number()?).ok()?);
        let ttl_s = match words.next()? {
            b"-" => None,
            ttl => Some(number(ttl)?),
        };
        let bytes = usize::try_from(words.number()?).ok().filter(|it| *it <= COPY_BYTES_MAX)?;
        words.is_over().then_some((key, version, flags, ttl_s, bytes))
    })();
    let (key, version, flags, ttl_s, bytes) = head.ok_or_else(|| unknown(&line))?;
    let begin = end.saturating_add(1);
    let after = begin.saturating_add(bytes);
    match input.get(after) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(unknown(&line)),
    }
    input.advance(begin);
    let value = input.split_to(bytes).freeze();
    input.advance(1);
    Ok(Some(ToLane::Copy(Copy { key, version, flags, ttl_s, value })))
}

fn answer(verb: &[u8], words: &mut Words<'_>) -> Option<ToLane> {
    Some(match verb {
        b"mcsqueal" => ToLane::Challenge(bytes(words.next()?)?),
        b"greeting" => ToLane::Greeting(Introduction {
            incarnation: hexadecimal(words.next()?)?,
            state: match words.next()? {
                b"fresh" => NodeState::Fresh,
                b"degraded" => NodeState::Degraded,
                b"quarantined" => NodeState::Quarantined,
                _ => return None,
            },
            ring: words.number()?,
            greeting: Greeting { age_floor: words.version()?, cursors: cursors(words)? },
        }),
        b"ok" | b"rewind" => {
            let partition = words.partition()?;
            let cursor = Cursor::parse(words.next()?)?.place();
            let cursor = if verb == b"ok" { Ok(cursor?) } else { Err(Rewind { cursor }) };
            let (age_floor, wall) = (words.version()?, UnixMicros(words.number()?));
            let steps = words.count()?;
            ToLane::Answer { partition, answer: Answer { cursor, age_floor, wall, steps } }
        }
        b"stat" => ToLane::Statistic {
            name: std::str::from_utf8(words.next()?).ok()?.to_owned(),
            value: words.number()?,
        },
        b"end" => ToLane::End,
        b"copied" => ToLane::Copied(Copied {
            state: match words.next()? {
                b"gives" => GiverState::Gives,
                b"busy" => GiverState::Busy,
                b"degraded" => GiverState::Degraded,
                b"quarantined" => GiverState::Quarantined,
                _ => return None,
            },
            walk: words.walk()?,
            looked: words.number().and_then(|looked| u32::try_from(looked).ok())?,
            entries: words.number()?,
            gets: words.number()?,
            hits: words.number()?,
        }),
        _ => return None,
    })
}

fn cursors(words: &mut Words<'_>) -> Option<Vec<Option<Place>>> {
    let mut cursors = Vec::new();
    while let Some(word) = words.next() {
        cursors.push(Cursor::parse(word)?.place());
    }
    (cursors.len() <= usize::from(PARTITIONS_MAX)).then_some(cursors)
}

/// The words of a line.
pub(super) struct Words<'a>(Option<&'a [u8]>);

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a [u8]) -> Words<'a> {
        Words(Some(line))
    }

    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        match memchr(b' ', rest) {
            Some(at) => {
                self.0 = rest.get(at.saturating_add(1)..);
                rest.get(..at)
            }
            None => Some(rest),
        }
    }

    fn rest(&mut self) -> &'a [u8] {
        self.0.take().unwrap_or_default()
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.next().and_then(number)
    }

    pub(super) fn small(&mut self) -> Option<u16> {
        self.number().and_then(|number| u16::try_from(number).ok())
    }

    fn count(&mut self) -> Option<u32> {
        self.number().and_then(|number| u32::try_from(number).ok())
    }

    fn partition(&mut self) -> Option<Partition> {
        self.next().and_then(partition)
    }

    fn place(&mut self) -> Option<Place> {
        self.next().and_then(parse_place)
    }

    /// The name of a walk, or the word for none.
    #[expect(clippy::option_option, reason = "the outer one says whether it is understood")]
    fn walk(&mut self) -> Option<Option<u64>> {
        match self.next()? {
            b"-" => Some(None),
            name => hexadecimal(name).map(Some),
        }
    }

    fn version(&mut self) -> Option<Version> {
        self.next().and_then(parse_version)
    }
}

fn number(word: &[u8]) -> Option<u64> {
    let digits = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let fold = |sum: u64, digit: &u8| {
        sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    };
    if digits { word.iter().try_fold(0, fold) } else { None }
}

fn partition(word: &[u8]) -> Option<Partition> {
    let number = number(word).and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number < PARTITIONS_MAX).map(Partition)
}

fn parse_place(word: &[u8]) -> Option<Place> {
    let at = memchr(b':', word)?;
    let term = number(word.get(..at)?).and_then(|term| u32::try_from(term).ok())?;
    let sequence = number(word.get(at.saturating_add(1)..)?)?;
    Some(Place { term: Term(term), sequence })
}

/// A place, or the word for none.
enum Cursor {
    None,
    At(Place),
}

impl Cursor {
    fn parse(word: &[u8]) -> Option<Cursor> {
        if word == b"-" { Some(Cursor::None) } else { parse_place(word).map(Cursor::At) }
    }

    fn place(self) -> Option<Place> {
        match self {
            Cursor::None => None,
            Cursor::At(place) => Some(place),
        }
    }
}

fn parse_version(word: &[u8]) -> Option<Version> {
    let at = memchr(b'.', word)?;
    let epoch = number(word.get(..at)?).and_then(|epoch| u16::try_from(epoch).ok())?;
    let sequence = number(word.get(at.saturating_add(1)..)?)?;
    Version::new(epoch, sequence.min(SEQUENCE_MAX.saturating_add(1)))
}

fn hexadecimal(word: &[u8]) -> Option<u64> {
    let bytes: [u8; 8] = bytes(word)?;
    Some(u64::from_be_bytes(bytes))
}

/// Lower-case hexadecimal digits, exactly so many.
fn bytes<const N: usize>(word: &[u8]) -> Option<[u8; N]> {
    let mut out = [0_u8; N];
    if word.len() != N.saturating_mul(2) {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(word.chunks_exact(2)) {
        for digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit.wrapping_sub(b'0'),
                b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
                _ => return None,
            };
            *byte = byte.wrapping_shl(4) | value;
        }
    }
    Some(out)
}

pub(super) fn unknown(line: &[u8]) -> Malformed {
    let shown: String = line.escape_ascii().to_string().chars().take(100).collect();
    Malformed::Unknown(shown)
}
