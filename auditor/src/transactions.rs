//! [`Transactions`]: what the binlog says, as changes of sampled keys. Pure.
//!
//! A transaction's keys are kept until it is committed. Not audited are: rows of XA transactions, which are prepared long
//! before anybody sees them; statements that are logged as text (DDL, TRUNCATE), whose keys nobody can list; and more keys
//! of one transaction than [`TRANSACTION_KEYS_MAX`], beyond which they are sampled no more.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use binlog::assemble::{Begin, Change, Rows};
use schemas::{
    gtid::Gtid,
    key::Key,
    moment::Moment,
    record::{Operation, UnixMicros},
};
use xxhash_rust::xxh64::xxh64;

use crate::{
    auditor::{Changed, Event},
    mapping::{Cell, Mapping, read_rows},
};

/// Sampled keys of one transaction, at most.
pub const TRANSACTION_KEYS_MAX: usize = 10_000;
/// Canary rows that are on their way.
const WRITES_MAX: usize = 1024;

/// Which keys are watched: those whose hash is below a bound. Who watches the same share watches the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(u64);

impl Sample {
    /// A share of all keys, from 0 to 1, in millionths.
    pub fn millionths(share: u32) -> Sample {
        Sample((u64::MAX / 1_000_000).saturating_mul(u64::from(share.min(1_000_000))))
    }

    /// Whether `key` is watched.
    pub fn has(self, key: &Key) -> bool {
        xxh64(key.as_bytes(), 0) < self.0
    }
}

/// What time it is, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub moment: Moment,
    pub wall: UnixMicros,
}

/// The canary's table, as the binlog names it, and what has been written there.
#[derive(Debug, Default)]
pub struct CanaryRows {
    /// `(schema, table)`.
    table: Option<(String, String)>,
    /// Each number, and the moment before it was sent; rising.
    sent: VecDeque<(u64, Moment)>,
}

impl CanaryRows {
    /// In this table, if there is a canary.
    pub fn of(table: Option<(String, String)>) -> CanaryRows {
        CanaryRows { table, sent: VecDeque::new() }
    }

    /// A row with this number is about to be written.
    pub fn sending(&mut self, number: u64, now: Moment) {
        if self.sent.len() >= WRITES_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
    }

    fn is_in(&self, rows: &Rows<'_>) -> bool {
        self.table.as_ref().is_some_and(|(schema, table)| {
            **schema == *rows.table.schema && **table == *rows.table.table
        })
    }

    /// The row with this number is in the binlog: what follows it was committed after it was sent. Others may write there
    /// as well; their numbers say nothing.
    fn read(&mut self, number: u64) -> Option<Moment> {
        let at = self.sent.iter().position(|(sent, _)| *sent == number)?;
        let found = self.sent.get(at).map(|(_, moment)| *moment);
        self.sent.drain(..=at);
        found
    }
}

/// Changes in, sampled keys out.
#[derive(Debug)]
pub struct Transactions {
    mapping: Mapping,
    sample: Sample,
    /// How far the database's clock may be from ours.
    skew: Duration,
    open: Option<Open>,
    /// Who gave the last number.
    origin: Option<Gtid>,
    /// What comes now was committed after this moment.
    floor: Moment,
}

#[derive(Debug)]
struct Open {
    begin: Begin,
    keys: Vec<Changed>,
}

impl Transactions {
    pub fn new(mapping: Mapping, sample: Sample, skew: Duration) -> Transactions {
        let (open, origin, floor) = (None, None, Moment::START);
        Transactions { mapping, sample, skew, open, origin, floor }
    }

    /// A new connection: what was open is read again.
    pub fn reconnected(&mut self) {
        self.open = None;
    }

    /// Takes one change; `out` gets the events of a transaction when it is committed.
    pub fn take(
        &mut self,
        change: &Change<'_>,
        now: Now,
        canary: &mut CanaryRows,
        out: &mut Vec<Event>,
    ) {
        match change {
            Change::Begin(begin) => {
                self.open = Some(Open { begin: begin.clone(), keys: Vec::new() });
                let same = |last: &Gtid, gtid: &Gtid| of_one_origin(last, gtid);
                if let (Some(last), Some(gtid)) = (&self.origin, &begin.gtid)
                    && !same(last, gtid)
                {
                    out.push(Event::OriginChanged);
                }
                self.origin = begin.gtid.clone().or(self.origin.take());
            }
            Change::Rows(rows) => {
                if canary.is_in(rows) {
                    self.canary(rows, canary);
                }
                self.rows(rows, now);
            }
            Change::XaPrepared | Change::Rollback(_) => self.open = None,
            Change::Commit(_) => {
                let keys = self.open.take().map(|open| open.keys).unwrap_or_default();
                out.extend(keys.into_iter().map(Event::Changed));
            }
            Change::XaStart(_)
            | Change::Said(_)
            | Change::Statement(_)
            | Change::Undecodable(_)
            | Change::Rotate(_)
            | Change::Heartbeat => {}
        }
    }

    fn rows(&mut self, rows: &Rows<'_>, now: Now) {
        let Some(open) = &mut self.open else { return };
        let committed = committed(&open.begin, now, self.skew).max(self.floor);
        let transaction: Arc<str> = open
            .begin
            .gtid
            .as_ref()
            .map_or_else(|| "unnumbered".into(), |it| it.to_string().into());
        let number = open.begin.gtid.as_ref().map(Gtid::number);
        self.mapping.rows(rows, &mut |made| {
            if !self.sample.has(&made.key) || open.keys.len() >= TRANSACTION_KEYS_MAX {
                return;
            }
            open.keys.push(Changed {
                key: made.key,
                rule: made.rule,
                value: made.value,
                transaction: Arc::clone(&transaction),
                number,
                committed,
            });
        });
    }

    fn canary(&mut self, rows: &Rows<'_>, canary: &mut CanaryRows) {
        if rows.operation == Operation::Delete {
            return;
        }
        read_rows(rows, &mut |row| {
            let number = row.after.as_ref().and_then(|image| image.get("n"));
            let Some(Cell::Text(text)) = number else { return };
            let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            if let Some(at) = number.and_then(|number| canary.read(number)) {
                self.floor = self.floor.max(at);
            }
        });
    }
}

/// The latest moment before which the transaction was certainly not committed, by the database's clock.
fn committed(begin: &Begin, now: Now, skew: Duration) -> Moment {
    let seconds = UnixMicros(u64::from(begin.timestamp_s).saturating_mul(1_000_000));
    let at = begin.committed_at.unwrap_or(seconds);
    let ago = Duration::from_micros(now.wall.0.saturating_sub(at.0));
    now.moment.earlier(ago.saturating_add(skew))
}

fn of_one_origin(one: &Gtid, other: &Gtid) -> bool {
    match (one, other) {
        (Gtid::Mysql { uuid, tag, .. }, Gtid::Mysql { uuid: of, tag: with, .. }) => {
            uuid == of && tag == with
        }
        (
            Gtid::MariaDb { domain, server_id, .. },
            Gtid::MariaDb { domain: of, server_id: by, .. },
        ) => domain == of && server_id == by,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_shares() {
        let keys = (0..10_000).map(|at| Key::new(format!("user:{at}")).unwrap());
        let of = |sample: Sample| keys.clone().filter(|key| sample.has(key)).count();
        assert_eq!(of(Sample::millionths(1_000_000)), 10_000);
        assert_eq!(of(Sample::millionths(0)), 0);
        let tenth = of(Sample::millionths(100_000));
        assert!((900..1100).contains(&tenth), "{tenth}");
    }

    #[test]
    fn what_follows_a_canary_was_committed_after_it_was_sent() {
        let at = |ms| Moment::after_start(Duration::from_millis(ms));
        let mut canary = CanaryRows::default();
        for (number, ms) in [(1, 100), (2, 200), (3, 300)] {
            canary.sending(number, at(ms));
        }
        assert_eq!(canary.read(7), None);
        assert_eq!(canary.read(2), Some(at(200)));
        assert_eq!(canary.read(2), None);
        assert_eq!(canary.read(3), Some(at(300)));
    }

    #[test]
    fn a_commit_is_dated_back_by_the_skew_of_clocks() {
        let begin = |committed_at| Begin { gtid: None, server_id: 1, committed_at, timestamp_s: 7 };
        let moment = Moment::after_start(Duration::from_secs(100));
        let now = Now { moment, wall: UnixMicros(10_000_000) };
        let skew = Duration::from_millis(100);
        let dated = |committed_at| committed(&begin(committed_at), now, skew).to_string();
        assert_eq!(dated(Some(UnixMicros(9_500_000))), "99.400s");
        assert_eq!(dated(None), "96.900s");
        assert_eq!(dated(Some(UnixMicros(11_000_000))), "99.900s");
    }
}
