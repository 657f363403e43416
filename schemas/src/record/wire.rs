//! Records as bytes: protobuf, format 1, described for everybody in `proto/mcsqueal/stream/v1.proto`.
//!
//! Decoding is fail-closed: a record is understood whole or refused, because a key that is left out in
//! silence stays stale. Bytes from anywhere never panic.

use std::sync::Arc;

use prost::{Message as _, encode_length_delimiter, length_delimiter_len};

use super::{
    Checkpoint, EpochStart, FilePosition, Floor, Invalidation, Invalidations, Operation, Origin,
    Progress, Record, Scope, TermStart, Transaction, UnixMicros, Witness,
    generated::{
        self as proto, gtid_set::Dialect as ProtoDialect, origin::Kind as OriginKind, record::Kind,
    },
};
use crate::{
    cursor::{Place, Term},
    gtid::{Dialect, Gtid, GtidSet, Uuid},
    key::Key,
    version::Version,
};

/// The numbers of fields, as in the .proto.
const INVALIDATIONS_FIELD: u8 = 2;
const KEYS_FIELD: u8 = 3;

/// The format that this code writes; stored beside every record.
pub const FORMAT_VERSION: u16 = 1;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Written by a newer mcsqueal.
    #[error("format {format} is unknown; this mcsqueal reads format {FORMAT_VERSION}")]
    Format { format: u16 },
    /// No protobuf of this shape.
    #[error("not a protobuf record: {0}")]
    Protobuf(prost::DecodeError),
    /// Protobuf of this shape that makes no sense.
    #[error("the record makes no sense: {what}")]
    Senseless { what: &'static str },
}

/// Appends the wire form of `record` to `out`.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let kind = match record {
        Record::TermStart(TermStart { previous }) => Kind::TermStart(proto::TermStart {
            previous_term: previous.term.0,
            previous_sequence: previous.sequence,
        }),
        Record::Invalidations(invalidations) => return append_invalidations(invalidations, out),
        Record::Progress(progress) => Kind::Progress(proto::Progress {
            source: progress.source.to_string(),
            executed: Some(set_out(&progress.executed)),
            version: progress.version.bits(),
            at: progress.at.0,
        }),
        Record::Floor(floor) => Kind::Floor(floor_out(floor)),
        Record::Epoch(epoch) => Kind::EpochStart(epoch_out(epoch)),
    };
    append(&proto::Record { kind: Some(kind) }, out);
}

/// Reads what [`encode`] of any known format wrote.
pub fn decode(format: u16, bytes: &[u8]) -> Result<Record, WireError> {
    let record: proto::Record = message(format, bytes)?;
    match record.kind.ok_or(senseless("it says nothing that this mcsqueal knows"))? {
        Kind::TermStart(start) => Ok(Record::TermStart(TermStart {
            previous: Place { term: Term(start.previous_term), sequence: start.previous_sequence },
        })),
        Kind::Invalidations(invalidations) => {
            invalidations_in(invalidations).map(Record::Invalidations)
        }
        Kind::Progress(progress) => Ok(Record::Progress(Progress {
            source: progress.source.into(),
            executed: set_in(progress.executed)?,
            version: Version::from_bits(progress.version),
            at: UnixMicros(progress.at),
        })),
        Kind::Floor(floor) => floor_in(floor).map(Record::Floor),
        Kind::EpochStart(epoch) => epoch_in(epoch).map(Record::Epoch),
    }
}

/// Appends the wire form of `checkpoint` to `out`.
pub fn encode_checkpoint(checkpoint: &Checkpoint, out: &mut Vec<u8>) {
    let message = proto::Checkpoint {
        source: checkpoint.source.to_string(),
        executed: Some(set_out(&checkpoint.executed)),
        position: checkpoint
            .position
            .as_ref()
            .map(|at| proto::FilePosition { file: at.file.to_string(), offset: at.offset }),
        epoch: checkpoint.epoch.as_ref().map(epoch_out),
        version: checkpoint.version.bits(),
        recent: witnesses_out(&checkpoint.recent),
    };
    append(&message, out);
}

/// Reads what [`encode_checkpoint`] of any known format wrote.
pub fn decode_checkpoint(format: u16, bytes: &[u8]) -> Result<Checkpoint, WireError> {
    let checkpoint: proto::Checkpoint = message(format, bytes)?;
    let position =
        checkpoint.position.map(|at| FilePosition { file: at.file.into(), offset: at.offset });
    Ok(Checkpoint {
        source: checkpoint.source.into(),
        executed: set_in(checkpoint.executed)?,
        position,
        epoch: checkpoint.epoch.map(epoch_in).transpose()?,
        version: Version::from_bits(checkpoint.version),
        recent: witnesses_in(checkpoint.recent)?,
    })
}

fn append(message: &impl prost::Message, out: &mut Vec<u8>) {
    message.encode(out).expect("a Vec takes any number of bytes");
}

fn message<M: prost::Message + Default>(format: u16, bytes: &[u8]) -> Result<M, WireError> {
    if format != FORMAT_VERSION {
        return Err(WireError::Format { format });
    }
    M::decode(bytes).map_err(WireError::Protobuf)
}

fn senseless(what: &'static str) -> WireError {
    WireError::Senseless { what }
}

/// Gives each text the index of its first appearance. Records name few tables and rules.
fn intern(texts: &mut Vec<String>, text: &str) -> u32 {
    let at = texts.iter().position(|known| known == text).unwrap_or_else(|| {
        texts.push(text.to_owned());
        texts.len().saturating_sub(1)
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a record holds fewer than 2^32 keys")
}

/// The bytes of most of the stream, so keys are written where they belong instead of being copied into a message first.
/// Around them, a message in two parts means the same as one.
fn append_invalidations(invalidations: &Invalidations, out: &mut Vec<u8>) {
    let (before, behind) = around_keys(invalidations);
    let keys = || invalidations.transactions.iter().flat_map(|transaction| &transaction.keys);
    let key_len = |len: usize| len.saturating_add(1).saturating_add(length_delimiter_len(len));
    let len = keys().map(|invalidation| key_len(invalidation.key.as_bytes().len()));
    let len = [before.encoded_len(), behind.encoded_len()].into_iter().chain(len).sum();
    out.reserve(key_len(len));
    append_field(INVALIDATIONS_FIELD, len, out);
    append(&before, out);
    for invalidation in keys() {
        let key = invalidation.key.as_bytes();
        append_field(KEYS_FIELD, key.len(), out);
        out.extend_from_slice(key);
    }
    append(&behind, out);
}

/// What comes before `len` bytes of a field.
fn append_field(field: u8, len: usize, out: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u8 = 2;
    out.push((field << 3) | LENGTH_DELIMITED);
    encode_length_delimiter(len, out).expect("a Vec takes any number of bytes");
}

/// All but the keys: the fields with lower numbers, and those with higher ones.
fn around_keys(invalidations: &Invalidations) -> (proto::Invalidations, proto::Invalidations) {
    let mut before =
        proto::Invalidations { source: invalidations.source.to_string(), ..Default::default() };
    let mut behind = proto::Invalidations::default();
    let mut version = 0;
    let mut last: Option<&Invalidation> = None;
    for transaction in &invalidations.transactions {
        let bits = transaction.version.bits();
        before.transactions.push(proto::Transaction {
            version_delta: bits.checked_sub(version).expect("versions never fall within a record"),
            committed_at: transaction.committed_at.map_or(0, |at| at.0),
            received_at: transaction.received_at.0,
            more: !transaction.last,
            key_count: count(transaction.keys.len()),
        });
        version = bits;
        for invalidation in &transaction.keys {
            let as_before = last.is_some_and(|last| same_cause(last, invalidation));
            last = Some(invalidation);
            if as_before && let Some(cause) = behind.causes.last_mut() {
                cause.key_count = cause.key_count.saturating_add(1);
                continue;
            }
            let table = intern(&mut behind.tables, &invalidation.table);
            let rule = intern(&mut behind.rules, &invalidation.rule);
            let operation = i32::from(match invalidation.operation {
                Operation::Insert => proto::Operation::Insert,
                Operation::Update => proto::Operation::Update,
                Operation::Delete => proto::Operation::Delete,
            });
            match behind.causes.last_mut() {
                Some(last)
                    if (last.table, last.rule, last.operation) == (table, rule, operation) =>
                {
                    last.key_count = last.key_count.saturating_add(1);
                }
                _ => behind.causes.push(proto::Cause { key_count: 1, table, rule, operation }),
            }
        }
    }
    (before, behind)
}

/// Seen at a glance: most keys share their names with the one before.
fn same_cause(a: &Invalidation, b: &Invalidation) -> bool {
    let same = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b);
    same(&a.table, &b.table) && same(&a.rule, &b.rule) && a.operation == b.operation
}

fn invalidations_in(message: proto::Invalidations) -> Result<Invalidations, WireError> {
    if message.transactions.is_empty() {
        return Err(senseless("no transaction"));
    }
    let texts = |texts: Vec<String>| texts.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>();
    let (tables, rules) = (texts(message.tables), texts(message.rules));
    let mut keys = message.keys.into_iter();
    let mut causes = Causes { runs: message.causes.into_iter(), run: None };
    let mut transactions = Vec::with_capacity(message.transactions.len());
    let mut version = 0_u64;
    for transaction in message.transactions {
        version = version
            .checked_add(transaction.version_delta)
            .ok_or(senseless("a version above the highest"))?;
        let mut own = Vec::new();
        for _ in 0..transaction.key_count {
            let key = keys.next().ok_or(senseless("fewer keys than its transactions have"))?;
            let key = Key::new(key).map_err(|_| senseless("a key that memcached cannot hold"))?;
            let cause = causes.next().ok_or(senseless("a key without a cause"))?;
            let text = |texts: &[Arc<str>], at: u32| {
                usize::try_from(at)
                    .ok()
                    .and_then(|at| texts.get(at).cloned())
                    .ok_or(senseless("an index out of range"))
            };
            let operation = match proto::Operation::try_from(cause.operation) {
                Ok(proto::Operation::Insert) => Operation::Insert,
                Ok(proto::Operation::Update) => Operation::Update,
                Ok(proto::Operation::Delete) => Operation::Delete,
                Ok(proto::Operation::Unspecified) | Err(_) => {
                    return Err(senseless("an unknown operation"));
                }
            };
            let (table, rule) = (text(&tables, cause.table)?, text(&rules, cause.rule)?);
            own.push(Invalidation { key, table, rule, operation });
        }
        transactions.push(Transaction {
            version: Version::from_bits(version),
            committed_at: (transaction.committed_at > 0)
                .then_some(UnixMicros(transaction.committed_at)),
            received_at: UnixMicros(transaction.received_at),
            last: !transaction.more,
            keys: own,
        });
    }
    if keys.next().is_some() || causes.next().is_some() {
        return Err(senseless("more keys than its transactions have"));
    }
    Ok(Invalidations { source: message.source.into(), transactions })
}

/// The cause of one key after another.
struct Causes {
    runs: std::vec::IntoIter<proto::Cause>,
    run: Option<proto::Cause>,
}

impl Iterator for Causes {
    type Item = proto::Cause;

    fn next(&mut self) -> Option<proto::Cause> {
        loop {
            match &mut self.run {
                Some(run) if run.key_count > 0 => {
                    run.key_count = run.key_count.saturating_sub(1);
                    return Some(*run);
                }
                _ => self.run = Some(self.runs.next()?),
            }
        }
    }
}

fn floor_out(floor: &Floor) -> proto::Floor {
    let prefixes = match &floor.scope {
        Scope::All => Vec::new(),
        Scope::Prefixes(prefixes) => prefixes.iter().map(ToString::to_string).collect(),
    };
    proto::Floor {
        source: floor.source.to_string(),
        all: floor.scope == Scope::All,
        prefixes,
        version: floor.version.bits(),
        reason: floor.reason.to_string(),
    }
}

fn floor_in(floor: proto::Floor) -> Result<Floor, WireError> {
    let scope = match (floor.all, floor.prefixes.is_empty()) {
        (true, true) => Scope::All,
        (false, false) => Scope::Prefixes(floor.prefixes.into_iter().map(Arc::from).collect()),
        _ => return Err(senseless("a floor is over all keys or over prefixes")),
    };
    Ok(Floor {
        source: floor.source.into(),
        scope,
        version: Version::from_bits(floor.version),
        reason: floor.reason.into(),
    })
}

fn epoch_out(epoch: &EpochStart) -> proto::EpochStart {
    proto::EpochStart {
        source: epoch.source.to_string(),
        epoch: u32::from(epoch.epoch),
        origin: Some(origin_out(&epoch.origin)),
        first: epoch.first,
        before: Some(set_out(&epoch.before)),
        lossless: epoch.lossless,
    }
}

fn epoch_in(epoch: proto::EpochStart) -> Result<EpochStart, WireError> {
    Ok(EpochStart {
        source: epoch.source.into(),
        epoch: u16::try_from(epoch.epoch).map_err(|_| senseless("an epoch has 16 bits"))?,
        origin: origin_in(epoch.origin)?,
        first: epoch.first,
        before: set_in(epoch.before)?,
        lossless: epoch.lossless,
    })
}

fn origin_out(origin: &Origin) -> proto::Origin {
    let kind = match origin {
        Origin::Mysql { uuid, tag, server_id } => OriginKind::Mysql(proto::MysqlOrigin {
            uuid: uuid.0.to_vec(),
            tag: tag.to_string(),
            server_id: *server_id,
        }),
        Origin::MariaDb { domain, server_id } => {
            OriginKind::Mariadb(proto::MariaDbOrigin { domain: *domain, server_id: *server_id })
        }
        Origin::Positions { server_id } => {
            OriginKind::Positions(proto::PositionsOrigin { server_id: *server_id })
        }
    };
    proto::Origin { kind: Some(kind) }
}

fn origin_in(origin: Option<proto::Origin>) -> Result<Origin, WireError> {
    let kind = origin.and_then(|origin| origin.kind).ok_or(senseless("an origin is missing"))?;
    Ok(match kind {
        OriginKind::Mysql(origin) => Origin::Mysql {
            uuid: Uuid(origin.uuid.try_into().map_err(|_| senseless("a UUID has 16 bytes"))?),
            tag: origin.tag.into(),
            server_id: origin.server_id,
        },
        OriginKind::Mariadb(origin) => {
            Origin::MariaDb { domain: origin.domain, server_id: origin.server_id }
        }
        OriginKind::Positions(origin) => Origin::Positions { server_id: origin.server_id },
    })
}

/// One message for each run of transactions of one server.
fn witnesses_out(recent: &[Witness]) -> Vec<proto::Witnesses> {
    let same = |a: &Witness, b: &Witness| origin_of(&a.gtid).0 == origin_of(&b.gtid).0;
    let run = |run: &[Witness]| proto::Witnesses {
        origin: run.first().map(|first| origin_out(&origin_of(&first.gtid).0)),
        number_steps: steps(run.iter().map(|witness| origin_of(&witness.gtid).1)),
        committed_at_steps: steps(run.iter().map(|witness| witness.committed_at.0)),
    };
    recent.chunk_by(same).map(run).collect()
}

fn witnesses_in(runs: Vec<proto::Witnesses>) -> Result<Vec<Witness>, WireError> {
    let mut recent = Vec::new();
    for run in runs {
        let origin = origin_in(run.origin)?;
        if run.number_steps.len() != run.committed_at_steps.len() {
            return Err(senseless("each transaction has a number and a time"));
        }
        for (number, at) in values(run.number_steps).zip(values(run.committed_at_steps)) {
            let gtid = match &origin {
                Origin::Mysql { uuid, tag, .. } => {
                    Gtid::Mysql { uuid: *uuid, tag: Arc::clone(tag), number }
                }
                Origin::MariaDb { domain, server_id } => {
                    Gtid::MariaDb { domain: *domain, server_id: *server_id, sequence: number }
                }
                Origin::Positions { .. } => {
                    return Err(senseless("a position is the number of no transaction"));
                }
            };
            recent.push(Witness { gtid, committed_at: UnixMicros(at) });
        }
    }
    Ok(recent)
}

/// Who numbered a transaction, as far as its number says so, and the number.
fn origin_of(gtid: &Gtid) -> (Origin, u64) {
    match gtid {
        Gtid::Mysql { uuid, tag, number } => {
            (Origin::Mysql { uuid: *uuid, tag: Arc::clone(tag), server_id: 0 }, *number)
        }
        Gtid::MariaDb { domain, server_id, sequence } => {
            (Origin::MariaDb { domain: *domain, server_id: *server_id }, *sequence)
        }
    }
}

/// The first value, then how far each is from the one before.
fn steps(values: impl Iterator<Item = u64>) -> Vec<i64> {
    let step = |last: &mut u64, value: u64| {
        Some(value.wrapping_sub(std::mem::replace(last, value)).cast_signed())
    };
    values.scan(0, step).collect()
}

fn values(steps: Vec<i64>) -> impl Iterator<Item = u64> {
    steps.into_iter().scan(0_u64, |last, step| {
        *last = last.wrapping_add(step.cast_unsigned());
        Some(*last)
    })
}

fn set_out(set: &GtidSet) -> proto::GtidSet {
    let dialect = match set.dialect() {
        Dialect::Mysql => ProtoDialect::Mysql(set.to_string()),
        Dialect::MariaDb => ProtoDialect::Mariadb(set.to_string()),
    };
    proto::GtidSet { dialect: Some(dialect) }
}

fn set_in(set: Option<proto::GtidSet>) -> Result<GtidSet, WireError> {
    let dialect = set.and_then(|set| set.dialect).ok_or(senseless("a GTID set is missing"))?;
    let (dialect, text) = match dialect {
        ProtoDialect::Mysql(text) => (Dialect::Mysql, text),
        ProtoDialect::Mariadb(text) => (Dialect::MariaDb, text),
    };
    GtidSet::parse(dialect, &text).map_err(|_| senseless("a GTID set that does not parse"))
}

#[cfg(test)]
mod tests;
