//! [`Past`]: invalidations as the stream has them, partition by partition.

use anyhow::Context;
use schemas::{
    cursor::{Partition, Place},
    record::Record,
};
use stream::{AnyReader, Entry, Reader};
use tokio::sync::mpsc;

use super::{Mark, Past as PastKey, PastFloor, Range, STEP_KEYS_MAX, Step};
use crate::{
    failure::Failure,
    stream::{Found, From, begin, next},
};

/// What is read: of each partition, what is behind the one place up to the other.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    reader: AnyReader,
    range: Range,
    places: Vec<(Partition, Place, Place)>,
}

impl Past {
    pub(super) async fn find(reader: AnyReader, range: Range) -> Result<Past, Failure> {
        let mut places = Vec::new();
        for partition in (0..reader.partitions()).map(Partition) {
            let head = reader.head(partition).await.context("read the stream")?;
            let from = begin(&reader, partition, range.from).await?;
            let to = match range.to {
                From::End | From::Version(_) => head,
                other => begin(&reader, partition, other).await?.min(head),
            };
            places.push((partition, from, to));
        }
        Ok(Past { reader, range, places })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.iter().all(|(_, from, to)| from >= to)
    }

    pub(super) async fn read(
        self,
        mark: Option<Mark>,
        tell: mpsc::Sender<Step>,
    ) -> Result<(), Failure> {
        let resume = match mark {
            Some(Mark::Stream { partition, place }) => match place.parse() {
                Ok(From::Place(place)) => Some((Partition(partition), place)),
                _ => None,
            },
            _ => None,
        };
        for (partition, from, to) in &self.places {
            let mut place = match resume {
                Some((at, _)) if *partition < at => continue,
                Some((at, place)) if *partition == at => place.max(*from),
                _ => *from,
            };
            while place < *to {
                let mut steps = Vec::new();
                match next(&self.reader, *partition, &mut place).await? {
                    Found::Gap { .. } if place == Place::START => {}
                    Found::Gap { from, .. } => {
                        let gaps = u64::from(from != Place::START);
                        steps.push(Step { gaps, ..Step::default() });
                    }
                    Found::Entries(entries) if entries.is_empty() => break,
                    Found::Entries(entries) => self.steps(*partition, &entries, *to, &mut steps),
                }
                for step in steps {
                    if tell.send(step).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn steps(&self, partition: Partition, entries: &[Entry], to: Place, steps: &mut Vec<Step>) {
        let mut step = Step::default();
        for entry in entries.iter().take_while(|entry| entry.place <= to) {
            self.take(&entry.record, &mut step);
            let place = entry.place.to_string();
            step.mark = Some(Mark::Stream { partition: partition.0, place });
            if step.keys.len() >= STEP_KEYS_MAX {
                steps.push(std::mem::take(&mut step));
            }
        }
        steps.push(step);
    }

    fn take(&self, record: &Record, step: &mut Step) {
        let select = &self.range.select;
        match record {
            Record::Invalidations(invalidations) => {
                for transaction in &invalidations.transactions {
                    if !select.wants_version(transaction.version) {
                        continue;
                    }
                    let wanted = transaction.keys.iter().filter(|key| select.wants_key(*key));
                    step.keys.extend(wanted.map(|invalidation| PastKey {
                        key: invalidation.key.clone(),
                        version: transaction.version,
                    }));
                }
            }
            Record::Floor(floor) => {
                if select.wants_floor(floor) && select.wants_version(floor.version) {
                    let (scope, version) = (floor.scope.clone(), floor.version);
                    step.floors.push(PastFloor { scope, version });
                }
            }
            Record::TermStart(_) | Record::Progress(_) | Record::Epoch(_) => {}
        }
    }
}
