//! `mcsqueal stream verify`: reads a range, and checks what every reader relies on: no holes, chained terms, known
//! epochs, progress that never goes back.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use anyhow::Context;
use schemas::{
    cursor::{Partition, Place, Term},
    record::Record,
    version::Version,
};
use stream::{AnyReader, Entry, Reader};

use super::{Found, From, begin, next};
use crate::{args::VerifyArgs, failure::Failure};

/// Problems that are shown of each partition; the rest is counted.
const SHOWN_MAX: usize = 20;

/// Fails if anything is not as it must be.
pub(super) async fn verify(args: &VerifyArgs, reader: AnyReader) -> Result<(), Failure> {
    let epochs = reader.epochs().await.context("read the table of epochs")?;
    let epochs: BTreeSet<u16> = epochs.into_iter().map(|start| start.epoch).collect();
    let mut out = io::stdout().lock();
    let mut problems = 0;
    for partition in (0..reader.partitions()).map(Partition) {
        let mut check = Check::new(&epochs);
        let mut place = begin(&reader, partition, args.from).await?;
        let head = reader.head(partition).await.context("read the stream")?;
        let mut first = args.from == From::Start;
        while place < head {
            match next(&reader, partition, &mut place).await? {
                // Where retention has removed the beginning, the first record that is left follows nothing.
                Found::Gap { .. } if first => {}
                Found::Gap { from, resume } => {
                    check.problem(format!("nothing is between {from} and {resume}"));
                }
                Found::Entries(entries) => entries.iter().for_each(|entry| check.entry(entry)),
            }
            first = false;
        }
        problems += check.problems_count;
        writeln!(out, "{}", check.summary(partition)).context("write to standard output")?;
    }
    if problems == 0 { Ok(()) } else { Err(Failure::Said) }
}

/// What one partition has said so far.
#[derive(Debug)]
struct Check<'a> {
    epochs: &'a BTreeSet<u16>,
    records: u64,
    keys: u64,
    floors: u64,
    terms: BTreeSet<Term>,
    range: Option<(Place, Place)>,
    progress: Option<(Term, Version)>,
    problems: Vec<String>,
    problems_count: usize,
}

impl Check<'_> {
    fn new(epochs: &BTreeSet<u16>) -> Check<'_> {
        Check {
            epochs,
            records: 0,
            keys: 0,
            floors: 0,
            terms: BTreeSet::new(),
            range: None,
            progress: None,
            problems: Vec::new(),
            problems_count: 0,
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let place = entry.place;
        self.records += 1;
        self.terms.insert(place.term);
        self.range = Some((self.range.map_or(place, |(first, _)| first), place));
        match &entry.record {
            Record::Invalidations(invalidations) => {
                for transaction in &invalidations.transactions {
                    self.keys += u64::try_from(transaction.keys.len()).unwrap_or(u64::MAX);
                    let version = transaction.version;
                    if !self.epochs.contains(&version.epoch()) {
                        self.problem(format!(
                            "{place}: version {version} is of an epoch that was never announced"
                        ));
                    }
                }
            }
            Record::Progress(progress) => {
                let before = self.progress.replace((place.term, progress.version));
                if let Some((term, version)) = before
                    && term == place.term
                    && progress.version < version
                {
                    self.problem(format!(
                        "{place}: progress goes back from {version} to {}",
                        progress.version
                    ));
                }
            }
            Record::Floor(_) => self.floors += 1,
            Record::Epoch(start) => {
                if !self.epochs.contains(&start.epoch) {
                    self.problem(format!("{place}: epoch {} is not in the table", start.epoch));
                }
            }
            Record::TermStart(start) => {
                if start.previous >= place {
                    self.problem(format!("{place}: a term that begins before {}", start.previous));
                }
            }
        }
    }

    fn problem(&mut self, what: String) {
        self.problems_count += 1;
        if self.problems.len() < SHOWN_MAX {
            self.problems.push(what);
        }
    }

    fn summary(&self, partition: Partition) -> String {
        let range = self
            .range
            .map_or_else(|| "nothing".to_owned(), |(first, last)| format!("{first} to {last}"));
        let mut text = format!(
            "partition {partition}: {range}, {} terms, {} records, {} keys, {} floors, {} problems",
            self.terms.len(),
            self.records,
            self.keys,
            self.floors,
            self.problems_count
        );
        for problem in &self.problems {
            text.push_str("\n  ");
            text.push_str(problem);
        }
        text
    }
}
