//! `mcsqueal stream ...`: looks at the stream, whichever backend keeps it, and changes nothing.

mod from;
mod select;
mod tail;
mod verify;

use std::{future::Future, path::Path};

use anyhow::Context;
use schemas::{
    cursor::{Partition, Place},
    record::{Record, UnixMicros},
    version::Version,
};
use stream::{AnyReader, Entry, Read, ReadLimit, Reader};

pub(crate) use from::{From, length};
pub(crate) use select::Select;

use crate::{args::StreamCommand, failure::Failure, load, log};

/// One read.
const LIMIT: ReadLimit = ReadLimit { records_max: 1000, bytes_max: 4 << 20 };

/// Runs the command.
pub(crate) fn stream(command: &StreamCommand) -> Result<(), Failure> {
    match command {
        StreamCommand::Tail(args) => {
            let select = Select::of(&args.filters, args.from, From::End)?;
            block_on(async { tail::tail(args, &select, open(&args.config).await?).await })
        }
        StreamCommand::Verify(args) => {
            block_on(async { verify::verify(args, open(&args.config).await?).await })
        }
    }
}

pub(crate) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(work)
}

async fn open(config: &Path) -> Result<AnyReader, Failure> {
    let (region, _) = load::region(config)?;
    log::reader(config, &region).await
}

/// Where reading begins in a partition.
pub(crate) async fn begin(
    reader: &AnyReader,
    partition: Partition,
    from: From,
) -> Result<Place, Failure> {
    let place = match from {
        From::Start | From::Version(_) => Ok(Place::START),
        From::End => reader.head(partition).await,
        From::Time(at) => reader.seek(partition, at).await,
        From::Place(place) => Ok(place),
    };
    place.context("find where to begin").map_err(Failure::Failed)
}

/// What follows a place: records, or the news that some are gone.
pub(crate) async fn next(
    reader: &AnyReader,
    partition: Partition,
    place: &mut Place,
) -> Result<Found, Failure> {
    match reader.read_after(partition, *place, LIMIT).await.context("read the stream")? {
        Read::Gap { resume } => {
            let from = std::mem::replace(place, resume);
            Ok(Found::Gap { from, resume })
        }
        Read::Entries(entries) => {
            if let Some(last) = entries.last() {
                *place = last.place;
            }
            Ok(Found::Entries(entries))
        }
    }
}

/// See [`next`].
pub(crate) enum Found {
    Entries(Vec<Entry>),
    Gap { from: Place, resume: Place },
}

/// The highest version that a record names.
fn version_of(record: &Record) -> Option<Version> {
    match record {
        Record::TermStart(_) => None,
        Record::Invalidations(invalidations) => {
            invalidations.transactions.last().map(|transaction| transaction.version)
        }
        Record::Progress(progress) => Some(progress.version),
        Record::Floor(floor) => Some(floor.version),
        Record::Epoch(start) => Version::new(start.epoch, 0),
    }
}

/// `2026-11-21T08:00:00.123456Z`.
fn time(at: UnixMicros) -> String {
    let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
    let (year, month, day) = from::civil(seconds / 86_400);
    let second = seconds % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}
