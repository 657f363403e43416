//! [`Member`]: one process in a Kafka group, and which partitions of a topic the group has given to it.
//!
//! Nothing is read through the group: it only deals out.

use std::{collections::BTreeSet, thread::JoinHandle};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
};
use schemas::cursor::Partition;
use tokio::sync::watch;

use super::client::{Context, POLL, Stop, With, read_error};
use crate::StreamError;

/// In a thread of its own. Dropping it leaves the group; a static member's partitions wait for it for a while.
#[derive(Debug)]
pub(super) struct Member {
    ours: watch::Receiver<BTreeSet<Partition>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// Learns from the group what is ours.
type Dealt = With<watch::Sender<BTreeSet<Partition>>>;

impl ConsumerContext for Dealt {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let gone = partitions(list);
            self.told.send_modify(|ours| ours.retain(|partition| !gone.contains(partition)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            if let Err(err) = consumer.pause(list) {
                tracing::debug!(%err, "pause");
            }
            self.told.send_modify(|ours| ours.extend(partitions(list)));
        }
    }
}

impl Member {
    /// Joins the group that `config` names, for the partitions of `topic`.
    pub(super) fn join(
        config: &ClientConfig,
        context: &Context,
        topic: &str,
    ) -> Result<Member, StreamError> {
        let (told, ours) = watch::channel(BTreeSet::new());
        let dealt = With { context: context.clone(), told };
        let consumer: BaseConsumer<Dealt> =
            config.create_with_context(dealt).map_err(read_error)?;
        consumer.subscribe(&[topic]).map_err(read_error)?;
        let stop = Stop::default();
        let thread = {
            let (stop, topic) = (stop.clone(), topic.to_owned());
            std::thread::Builder::new()
                .name("stream-group".to_owned())
                .spawn(move || {
                    while !stop.is_set() {
                        if let Some(Err(err)) = consumer.poll(POLL) {
                            tracing::debug!(%err, topic, "the group");
                        }
                    }
                    // Leaving takes a moment.
                    drop(consumer);
                })
                .map_err(|err| StreamError::Read { source: Box::new(err) })?
        };
        Ok(Member { ours, stop, thread: Some(thread) })
    }

    /// The partitions that are ours, as they change.
    pub(super) fn partitions(&self) -> watch::Receiver<BTreeSet<Partition>> {
        self.ours.clone()
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
