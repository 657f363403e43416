//! [`Share`]: which partitions this process looks after, when several share them.
//!
//! A Kafka group deals them out. Membership is static and rebalances are cooperative: a process that is back soon
//! gets its own partitions again, and the others go on meanwhile. Cursors are kept where they belong, beside the data
//! that they protect, so a partition that moves is at worst delivered twice.

use std::{collections::BTreeSet, thread::JoinHandle, time::Duration};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
};
use schemas::cursor::Partition;
use tokio::sync::watch;

use super::{
    client::{Context, POLL, Stop, read_error},
    settings::Settings,
};
use crate::StreamError;

/// A process that was away for less than this finds its partitions waiting.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of a group, in a thread of its own. Dropping it leaves the partitions to the others, after a while.
#[derive(Debug)]
pub struct Share {
    partitions: watch::Receiver<BTreeSet<Partition>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

struct Member {
    context: Context,
    partitions: watch::Sender<BTreeSet<Partition>>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let gone = partitions(list);
            self.partitions.send_modify(|ours| ours.retain(|partition| !gone.contains(partition)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // Records are read by places, not through the group.
            if let Err(err) = consumer.pause(list) {
                tracing::debug!(%err, "pause");
            }
            self.partitions.send_modify(|ours| ours.extend(partitions(list)));
        }
    }
}

impl Share {
    pub(super) fn join(
        settings: &Settings,
        context: &Context,
        group: &str,
        instance: &str,
    ) -> Result<Share, StreamError> {
        let (tell, ours) = watch::channel(BTreeSet::new());
        let member = Member { context: context.clone(), partitions: tell };
        let mut config = settings.member(
            &format!("{}-{group}", settings.topic),
            SESSION_TIMEOUT.max(settings.session_timeout),
        );
        config.set("group.instance.id", instance);
        let consumer: BaseConsumer<Member> =
            config.create_with_context(member).map_err(read_error)?;
        consumer.subscribe(&[&settings.topic]).map_err(read_error)?;
        let stop = Stop::default();
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("stream-share".to_owned())
                .spawn(move || {
                    while !stop.is_set() {
                        if let Some(Err(err)) = consumer.poll(POLL) {
                            tracing::debug!(%err, "the group of readers");
                        }
                    }
                })
                .map_err(|err| StreamError::Read { source: Box::new(err) })?
        };
        Ok(Share { partitions: ours, stop, thread: Some(thread) })
    }

    /// The partitions that are ours, as they change.
    pub fn partitions(&self) -> watch::Receiver<BTreeSet<Partition>> {
        self.partitions.clone()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.stop.now();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the group of readers panicked");
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
