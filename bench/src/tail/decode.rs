//! From bytes in memory to keys, on one thread: ours, and `mysql_common`'s row decoder beside it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use binlog::{
    assemble::{Assembler, Change},
    frame::FileReader,
};
use mysql_common::binlog::{BinlogFile, consts::BinlogVersion, events::EventData};
use schemas::{gtid::Dialect, rules::Rules};
use tailer::map::{Mapped, Mapper};
use tokio::time::Instant;

/// What one pass over a binlog saw, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pass {
    pub(super) seconds: f64,
    pub(super) rows: u64,
    pub(super) transactions: u64,
    pub(super) keys: u64,
}

/// Frames, checksums, transactions, rows and keys.
pub(super) fn ours(bytes: &[u8], rules: &Arc<Rules>) -> Result<Pass> {
    let begin = Instant::now();
    let mut reader = FileReader::new(bytes).context("read a binlog")?;
    let mut assembler = Assembler::new(Dialect::Mysql);
    let mut mapper = Mapper::new(Arc::clone(rules));
    let (mut rows, mut transactions, mut keys, mut floors) = (0, 0, 0, 0_u64);
    while let Some(event) = reader.next_event().context("read a binlog")? {
        assembler.push(event, &mut |change| match change {
            Change::Rows(changed) => {
                rows += mapper.rows(&changed, &mut |mapped| match mapped {
                    Mapped::Key { key, .. } => {
                        std::hint::black_box(&key);
                        keys += 1;
                    }
                    Mapped::Floor { .. } => floors += 1,
                    _ => {}
                });
            }
            Change::Commit(_) => transactions += 1,
            Change::Undecodable(_) => floors += 1,
            _ => {}
        });
    }
    ensure!(floors == 0, "{floors} changes had no keys");
    Ok(Pass { seconds: begin.elapsed().as_secs_f64(), rows, transactions, keys })
}

/// Every row decoded with `mysql_common::rows()`, until `seconds_max` have passed.
pub(super) fn theirs(bytes: &[u8], seconds_max: f64) -> Result<Pass> {
    let begin = Instant::now();
    let mut file = BinlogFile::new(BinlogVersion::Version4, bytes).context("read a binlog")?;
    let mut pass = Pass { seconds: 0.0, rows: 0, transactions: 0, keys: 0 };
    while let Some(event) = file.next() {
        match event.context("read a binlog")?.read_data().context("read an event")? {
            Some(EventData::RowsEvent(event)) => {
                let table = file.reader().get_tme(event.table_id()).context("a table map")?;
                for row in event.rows(table) {
                    std::hint::black_box(&row.context("read a row")?);
                    pass.rows += 1;
                }
            }
            Some(EventData::XidEvent(_)) => pass.transactions += 1,
            _ => {}
        }
        pass.seconds = begin.elapsed().as_secs_f64();
        if pass.seconds > seconds_max {
            break;
        }
    }
    Ok(pass)
}
