//! [`Member`]: one process in a Kafka group, and which partitions of a topic the group has given to it.
//!
//! Nothing is read through the group: it only deals out. What it has dealt counts until it says otherwise: a member that
//! has lost touch with the group keeps what it had, until it is told again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use prometheus_client::metrics::counter::Counter;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
};
use schemas::cursor::Partition;
use tokio::sync::watch;

use super::client::{Context, POLL, Stop, Trouble, With, passes, read_error};
use crate::{Portion, StreamError};

/// In a thread of its own. Dropping it leaves the group; a static member's partitions wait for it for a while.
#[derive(Debug)]
pub(super) struct Member {
    portion: watch::Receiver<Portion>,
    trouble: watch::Receiver<Trouble>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// What the group has said.
#[derive(Clone, Debug)]
pub(super) struct Dealt {
    portion: watch::Sender<Portion>,
    /// We have lost touch: what we have is of before, and the next word is all that we have.
    is_old: Arc<AtomicBool>,
    /// Why the group is of no use to us.
    trouble: watch::Sender<Trouble>,
    /// Counts the times that our portion has changed.
    deals: Counter,
}

impl ConsumerContext for With<Dealt> {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            if consumer.assignment_lost() {
                self.told.lost();
            } else {
                self.told.revoked(&partitions(list));
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            if let Err(err) = consumer.pause(list) {
                tracing::debug!(%err, "pause");
            }
            self.told.assigned(partitions(list));
        }
    }
}

impl Dealt {
    pub(super) fn nothing_yet(deals: Counter) -> Dealt {
        let (portion, trouble) = (watch::channel(Portion::All).0, watch::channel(None).0);
        Dealt { portion, is_old: Arc::default(), trouble, deals }
    }

    fn lost(&self) {
        tracing::info!(
            "the group has lost touch with us: we go on with the partitions that we had"
        );
        self.is_old.store(true, Ordering::Relaxed);
    }

    fn revoked(&self, gone: &BTreeSet<Partition>) {
        self.change(|portion| portion.remove(gone));
    }

    fn assigned(&self, more: BTreeSet<Partition>) {
        let is_old = self.is_old.swap(false, Ordering::Relaxed);
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        self.change(|portion| {
            if is_old {
                *portion = Portion::Of(BTreeSet::new());
            }
            portion.add(more);
        });
    }

    /// Returns whether the group can still be asked.
    fn failed(&self, err: &KafkaError) -> bool {
        let fenced = matches!(err, KafkaError::MessageConsumptionFatal(_));
        if passes(err) && !fenced {
            tracing::debug!(%err, "the group");
            return true;
        }
        let what = if fenced {
            // Whoever has our name has our partitions.
            self.change(|portion| *portion = Portion::Of(BTreeSet::new()));
            format!("another process has joined under our name: {err}")
        } else {
            format!("partitions cannot be shared, so all are ours: {err}")
        };
        tracing::error!(error = what, "the group");
        self.trouble.send_replace(Some(what.into()));
        !fenced
    }

    fn change(&self, change: impl FnOnce(&mut Portion)) {
        self.portion.send_if_modified(|portion| {
            let before = portion.clone();
            change(portion);
            *portion != before
        });
        self.deals.inc();
        tracing::debug!(portion = ?*self.portion.borrow(), "the group has dealt");
    }
}

impl Member {
    /// Joins the group that `config` names, for the partitions of `topic`.
    pub(super) fn join(
        config: &ClientConfig,
        context: &Context,
        topic: &str,
        dealt: Dealt,
    ) -> Result<Member, StreamError> {
        let (portion, trouble) = (dealt.portion.subscribe(), dealt.trouble.subscribe());
        let with = With { context: context.clone(), told: dealt.clone() };
        let consumer: BaseConsumer<With<Dealt>> =
            config.create_with_context(with).map_err(read_error)?;
        consumer.subscribe(&[topic]).map_err(read_error)?;
        let stop = Stop::default();
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("stream-group".to_owned())
                .spawn(move || {
                    while !stop.is_set() {
                        if let Some(Err(err)) = consumer.poll(POLL)
                            && !dealt.failed(&err)
                        {
                            break;
                        }
                    }
                    // Leaving takes a moment.
                    drop(consumer);
                })
                .map_err(|err| StreamError::Read { source: Box::new(err) })?
        };
        Ok(Member { portion, trouble, stop, thread: Some(thread) })
    }

    /// The partitions that are ours, as they change: all of them before the group's first word.
    pub(super) fn portion(&self) -> watch::Receiver<Portion> {
        self.portion.clone()
    }

    /// Why the group does not count us in, if so.
    pub(super) fn trouble(&self) -> watch::Receiver<Trouble> {
        self.trouble.clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.now();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of a group's member panicked");
        }
    }
}

fn partitions(list: &TopicPartitionList) -> BTreeSet<Partition> {
    let elements = list.elements();
    elements
        .iter()
        .filter_map(|element| u16::try_from(element.partition()).ok())
        .map(Partition)
        .collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    fn of(numbers: &[u16]) -> BTreeSet<Partition> {
        numbers.iter().copied().map(Partition).collect()
    }

    #[test]
    fn what_was_dealt_counts_until_the_next_word() {
        let dealt = Dealt::nothing_yet(Counter::default());
        let now = || dealt.portion.borrow().clone();
        assert_eq!(now(), Portion::All);
        dealt.assigned(of(&[0, 1, 2, 3]));
        dealt.revoked(&of(&[2, 3]));
        assert_eq!(now(), Portion::Of(of(&[0, 1])));
        dealt.lost();
        assert_eq!(now(), Portion::Of(of(&[0, 1])), "nobody has said who has them");
        dealt.assigned(of(&[3]));
        assert_eq!(now(), Portion::Of(of(&[3])), "the first word after it is everything");
        dealt.assigned(of(&[1]));
        assert_eq!(now(), Portion::Of(of(&[1, 3])));
    }

    #[test]
    fn who_is_replaced_under_its_name_has_nothing() {
        let dealt = Dealt::nothing_yet(Counter::default());
        let passing = KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown);
        assert!(dealt.failed(&passing) && dealt.trouble.borrow().is_none());
        let refused = KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed);
        assert!(dealt.failed(&refused) && dealt.trouble.borrow().is_some());
        assert_eq!(*dealt.portion.borrow(), Portion::All);
        dealt.assigned(of(&[0]));
        assert!(dealt.trouble.borrow().is_none(), "the group counts us in again");
        let fenced = KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId);
        assert!(!dealt.failed(&fenced) && dealt.trouble.borrow().is_some());
        assert!(dealt.portion.borrow().is_empty());
    }
}
