//! [`Portion`]: which of a log's partitions a process looks after, where several share them; [`Portions`] follows it.
//!
//! Too much is harmless, because whatever is delivered twice means the same; too little is not. So whoever has not been
//! told otherwise looks after all of them, and whoever has lost touch goes on with what he had.

use std::collections::BTreeSet;

use schemas::cursor::Partition;
use tokio::sync::watch;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Portion {
    /// Every partition: nobody else is there, or nobody has said who.
    #[default]
    All,
    /// These.
    Of(BTreeSet<Partition>),
}

impl Portion {
    /// Whether it has this partition.
    pub fn has(&self, partition: Partition) -> bool {
        match self {
            Portion::All => true,
            Portion::Of(ours) => ours.contains(&partition),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Portion::Of(ours) if ours.is_empty())
    }

    /// These as well.
    pub(crate) fn add(&mut self, more: BTreeSet<Partition>) {
        match self {
            // The first word of a group is all that it gives.
            Portion::All => *self = Portion::Of(more),
            Portion::Of(ours) => ours.extend(more),
        }
    }

    /// These are somebody else's.
    pub(crate) fn remove(&mut self, gone: &BTreeSet<Partition>) {
        if let Portion::Of(ours) = self {
            ours.retain(|partition| !gone.contains(partition));
        }
    }
}

/// What a process looks after, as it changes.
#[derive(Clone, Debug)]
pub struct Portions(Option<watch::Receiver<Portion>>);

impl Portions {
    /// Everything, for ever.
    pub fn whole() -> Portions {
        Portions(None)
    }

    /// As somebody says who shares it out.
    pub fn told(by: watch::Receiver<Portion>) -> Portions {
        Portions(Some(by))
    }

    /// The present one.
    pub fn now(&self) -> Portion {
        self.0.as_ref().map_or(Portion::All, |told| told.borrow().clone())
    }

    /// The present one, of which [`Portions::changed`] need not tell any more.
    pub fn take(&mut self) -> Portion {
        self.0.as_mut().map_or(Portion::All, |told| told.borrow_and_update().clone())
    }

    /// Returns when there is another one than was taken last.
    pub async fn changed(&mut self) {
        let changed = match &mut self.0 {
            Some(told) => told.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await; // It stays as it is.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u16]) -> BTreeSet<Partition> {
        numbers.iter().copied().map(Partition).collect()
    }

    #[test]
    fn all_until_the_first_word() {
        let mut portion = Portion::default();
        portion.remove(&of(&[1]));
        assert!(portion.has(Partition(1)) && !portion.is_empty());
        portion.add(of(&[1, 2]));
        portion.add(of(&[3]));
        portion.remove(&of(&[2, 9]));
        assert_eq!(portion, Portion::Of(of(&[1, 3])));
        assert!(!portion.has(Partition(2)));
        portion.remove(&of(&[1, 3]));
        assert!(portion.is_empty());
    }

    #[tokio::test]
    async fn it_is_followed() {
        let (tell, told) = watch::channel(Portion::All);
        let mut portions = Portions::told(told);
        assert_eq!(portions.take(), Portion::All);
        tell.send_replace(Portion::Of(of(&[4])));
        portions.changed().await;
        assert_eq!(
            (portions.now(), portions.take()),
            (Portion::Of(of(&[4])), Portion::Of(of(&[4])))
        );
        drop(tell);
        assert_eq!(portions.now(), Portion::Of(of(&[4])));
        assert_eq!(Portions::whole().take(), Portion::All);
    }
}
