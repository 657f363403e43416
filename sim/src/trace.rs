//! Records and batches as lines that a person can read.

use protocol::control::{Batch, Item, Rewind};
use schemas::{cursor::Place, record::Record};

/// One record, short.
pub(crate) fn record(record: &Record) -> String {
    match record {
        Record::TermStart(start) => format!("term after {}", start.previous),
        Record::Invalidations(of) => {
            let each = of.transactions.iter().map(|transaction| {
                let keys: Vec<String> =
                    transaction.keys.iter().map(|key| key.key.to_string()).collect();
                format!(
                    "{}{}[{}]",
                    transaction.version,
                    if transaction.last { "" } else { ".." },
                    keys.join(" ")
                )
            });
            format!("invalidate {}", each.collect::<Vec<_>>().join(" "))
        }
        Record::Progress(progress) => {
            format!("progress {} ({}) at {}", progress.version, progress.executed, progress.at.0)
        }
        Record::Floor(floor) => {
            format!("floor {} {:?}: {}", floor.version, floor.scope, floor.reason)
        }
        Record::Epoch(start) => {
            let proven = if start.lossless { "lossless" } else { "not proven" };
            format!("epoch {} from {} after {} ({proven})", start.epoch, start.first, start.before)
        }
    }
}

/// One batch and its answer, short.
pub(crate) fn batch(batch: &Batch, answer: Result<Place, Rewind>) -> String {
    let items = batch.items.iter().map(|item| match item {
        Item::Delete { key, version } => format!("{key}@{version}"),
        Item::Floor { version, .. } => format!("floor@{version}"),
        Item::Applied { version } => format!("applied@{version}"),
        Item::Progress { version, .. } => format!("progress@{version}"),
    });
    let covers = format!("({}, {}]", batch.from, batch.to);
    let refused = if answer.is_err() { " REFUSED" } else { "" };
    format!("{}{covers}: {}{refused}", batch.partition, items.collect::<Vec<_>>().join(" "))
}
