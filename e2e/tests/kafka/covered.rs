//! Whether the log says everything that the binlog implies: each key is there, or a floor covers it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use binlog::assemble::Change;
use e2e::{busy::Busy, lab::until};
use mysql_async::prelude::Queryable;
use schemas::{
    cursor::{Partition, Place},
    gtid::{Dialect, GtidSet},
    key::Key,
    record::{Record, Scope},
    rules::Rules,
};
use stream::{Read, ReadLimit, Reader, kafka::KafkaReader};
use tailer::map::{Mapped, Mapper};

use crate::readers::reader;

const GUARD: Duration = Duration::from_secs(60);
/// Of this reader alone.
const SERVER_ID: u32 = 990_017;

/// What the log has said so far.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) keys: BTreeSet<Key>,
    /// Something was lost, and everything is stale from before that.
    all: bool,
    /// What the first record of progress says of the source.
    first: Option<GtidSet>,
    /// What the last one says, in each partition: the others say nothing of what is in this one.
    last: BTreeMap<Partition, GtidSet>,
}

/// Nobody may change anything meanwhile.
pub(crate) async fn everything_is_covered(busy: &Busy) {
    let executed = executed(busy).await;
    let brokers = busy.kafka.as_ref().expect("on kafka").address();
    let reader = reader(&brokers).await;
    let mut said = Said::default();
    until("all is published", GUARD, async || {
        said = read(&reader).await;
        (0..reader.partitions()).map(Partition).all(|partition| {
            said.last.get(&partition).is_some_and(|last| last.contains_all(&executed))
        })
    })
    .await;
    let from = said.first.take().expect("progress");
    let implied = implied(busy, &from, &executed).await;
    assert!(implied.len() > 100, "hardly anything is implied: {}", implied.len());
    let missing: Vec<&Key> = implied.difference(&said.keys).collect();
    assert!(
        missing.is_empty() || said.all,
        "{} of {} keys are nowhere: {:?}",
        missing.len(),
        implied.len(),
        &missing[..missing.len().min(10)]
    );
}

pub(crate) async fn executed(busy: &Busy) -> GtidSet {
    let mut conn = busy.database.connect().await.expect("a connection");
    let text: Option<String> =
        conn.query_first("SELECT @@global.gtid_executed").await.expect("an answer");
    GtidSet::parse(Dialect::Mysql, &text.expect("a row").replace('\n', "")).expect("a set")
}

/// Everything that is in the log.
pub(crate) async fn read(reader: &KafkaReader) -> Said {
    let mut said = Said::default();
    for partition in (0..reader.partitions()).map(Partition) {
        let (mut place, head) = (Place::START, reader.head(partition).await.expect("a head"));
        while place < head {
            let limit = ReadLimit { records_max: 500, bytes_max: 4 << 20 };
            match reader.read_after(partition, place, limit).await.expect("a read") {
                Read::Gap { resume } => place = resume,
                Read::Entries(entries) => {
                    for entry in entries {
                        place = entry.place;
                        said.take(partition, entry.record);
                    }
                }
            }
        }
    }
    said
}

impl Said {
    fn take(&mut self, partition: Partition, record: Record) {
        match record {
            Record::Invalidations(invalidations) => {
                let keys = invalidations.transactions.into_iter().flat_map(|part| part.keys);
                self.keys.extend(keys.map(|key| key.key));
            }
            Record::Floor(floor) => self.all |= floor.scope == Scope::All,
            Record::Progress(progress) => {
                self.first.get_or_insert_with(|| progress.executed.clone());
                let last = self.last.get(&partition);
                if last.is_none_or(|last| progress.executed.contains_all(last)) {
                    self.last.insert(partition, progress.executed);
                }
            }
            Record::Epoch(_) | Record::TermStart(_) => {}
        }
    }
}

/// The keys of every transaction after `from` and up to `to`.
async fn implied(busy: &Busy, from: &GtidSet, to: &GtidSet) -> BTreeSet<Key> {
    let address = busy.database.address().parse().expect("an address");
    let mut settings = tailer::Settings::new("s", address, SERVER_ID);
    let account = &busy.region.account;
    settings.user.clone_from(&account.user);
    settings.password = tailer::Password(account.password.clone());
    let rules = Rules::parse("rules", &busy.region.rules).expect("good rules");
    let (mut mapper, mut keys, mut done) =
        (Mapper::new(Arc::new(rules)), BTreeSet::new(), from.clone());
    if done.contains_all(to) {
        return keys;
    }
    let mut open = None;
    let mut each = |change: Change<'_>| {
        let mut take = |mapped: Mapped<'_>| {
            if let Mapped::Key { key, .. } = mapped {
                keys.insert(key.key.to_key());
            }
        };
        match change {
            Change::Begin(begin) => open = begin.gtid,
            Change::Rows(rows) => drop(mapper.rows(&rows, &mut take)),
            Change::Statement(statement) => mapper.statement(&statement, &mut take),
            Change::Commit(commit) | Change::Rollback(commit) => {
                let gtid = commit.gtid.or(open.take()).expect("a transaction has a GTID");
                assert!(done.insert(&gtid), "one of the source's kind");
                if done.contains_all(to) {
                    return ControlFlow::Break(());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    tailer::read_changes(&settings, from, &mut each).await.expect("the binlog is read");
    keys
}
