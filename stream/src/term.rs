//! [`Sequencer`]: the places that a writer gives to its records. Pure.
//!
//! A leadership is a term. Its first record in each partition names where the partition ended, so that
//! readers notice what they missed; after that, sequences are dense.

use schemas::{
    cure::Cure,
    cursor::{Partition, Place, Term},
    record::{Record, TermStart},
};

/// Gives out places in one term.
#[derive(Clone, Debug)]
pub struct Sequencer {
    term: Term,
    last: Vec<u64>,
}

impl Sequencer {
    /// Begins a term in a log whose partitions end at `ends`. Returns the records that must come first.
    pub fn begin(term: Term, ends: &[Place]) -> (Sequencer, Vec<(Partition, Record)>) {
        let start = |previous: &Place| Record::TermStart(TermStart { previous: *previous });
        let starts = (0..).map(Partition).zip(ends.iter().map(start)).collect();
        (Sequencer { term, last: vec![0; ends.len()] }, starts)
    }

    /// The leadership.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The place of the next record of a partition; `None` if there is no such partition.
    pub fn place(&mut self, partition: Partition) -> Option<Place> {
        let last = self.last.get_mut(usize::from(partition.0))?;
        *last = last.saturating_add(1);
        Some(Place { term: self.term, sequence: *last })
    }

    /// Where each partition ends; what a checkpoint behind these records must say.
    pub fn ends(&self, before: &[Place]) -> Vec<Place> {
        let end = |(last, before): (&u64, &Place)| match *last {
            0 => *before,
            sequence => Place { term: self.term, sequence },
        };
        self.last.iter().zip(before).map(end).collect()
    }
}

/// Whether the log has lost records that a checkpoint stands behind: an unclean election, or a topic that was made
/// anew. The tailer will not publish them again, so they become a floor. If the log ends in a newer term, its writer
/// saved no checkpoint: he may have found that something was lost, and have died before he could say so.
pub fn lost_tail(checkpointed: &[Place], ends: &[Place]) -> bool {
    let pairs = || checkpointed.iter().zip(ends);
    let shorter = pairs().any(|(was, is)| is < was);
    let unsaid = pairs().any(|(was, is)| is.term > was.term);
    (shorter || unsaid || checkpointed.len() > ends.len()) && Cure::TermStartSeesLostTail.works()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(term: u32, sequence: u64) -> Place {
        Place { term: Term(term), sequence }
    }

    #[test]
    fn places_are_dense_and_terms_are_chained() {
        let ends = [place(1, 7), Place::START];
        let (mut sequencer, starts) = Sequencer::begin(Term(2), &ends);
        let previous = [place(1, 7), Place::START];
        let start = |at: u16| {
            (Partition(at), Record::TermStart(TermStart { previous: previous[usize::from(at)] }))
        };
        assert_eq!(starts, [start(0), start(1)]);
        assert_eq!(sequencer.ends(&ends), ends);
        assert_eq!(sequencer.place(Partition(1)), Some(place(2, 1)));
        assert_eq!(sequencer.place(Partition(1)), Some(place(2, 2)));
        assert_eq!(sequencer.place(Partition(2)), None);
        assert_eq!(sequencer.ends(&ends), [place(1, 7), place(2, 2)]);
    }

    #[test]
    fn a_log_that_is_shorter_than_its_checkpoint_has_lost_something() {
        let at = [place(1, 7), place(1, 3)];
        assert!(!lost_tail(&at, &at));
        assert!(!lost_tail(&at, &[place(1, 9), place(1, 4)]));
        assert!(lost_tail(&at, &[place(2, 1), place(1, 4)]));
        assert!(lost_tail(&at, &[place(1, 9), place(1, 2)]));
        assert!(lost_tail(&at, &[place(1, 9)]));
        assert!(!lost_tail(&[], &at));
    }
}
