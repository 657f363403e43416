//! [`Lead`]: who may write. A Kafka group with one thing to share, the state topic's only partition: its owner leads,
//! the others stand by.
//!
//! The group says who may claim the next term: it keeps writers out of each other's way, and replaces one that is
//! silent. A leader leads until another one has claimed a term, whatever the group says meanwhile; that one which does
//! not know yet that it was replaced does no harm is the work of terms.

use std::thread::JoinHandle;

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
};
use tokio::sync::watch;

use super::{
    client::{Context, POLL, Stop, read_error},
    settings::Settings,
};
use crate::StreamError;

/// A member of the group, in a thread of its own. Dropping it leaves the group.
#[derive(Debug)]
pub(super) struct Lead {
    leads: watch::Receiver<bool>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// Learns from the group what is ours.
struct Member {
    context: Context,
    leads: watch::Sender<bool>,
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
        if matches!(rebalance, Rebalance::Revoke(list) if list.count() > 0) {
            self.leads.send_replace(false);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // Nothing is read through it.
            if let Err(err) = consumer.pause(list) {
                tracing::debug!(%err, "pause");
            }
            if list.count() > 0 {
                self.leads.send_replace(true);
            }
        }
    }
}

impl Lead {
    /// Joins the group.
    pub(super) fn join(settings: &Settings, context: &Context) -> Result<Lead, StreamError> {
        let group = format!("{}-leader", settings.topic);
        let (tell, leads) = watch::channel(false);
        let member = Member { context: context.clone(), leads: tell };
        let config = settings.member(&group, settings.session_timeout);
        let consumer: BaseConsumer<Member> =
            config.create_with_context(member).map_err(read_error)?;
        consumer.subscribe(&[&settings.state_topic()]).map_err(read_error)?;
        let stop = Stop::default();
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("stream-lead".to_owned())
                .spawn(move || {
                    while !stop.is_set() {
                        if let Some(Err(err)) = consumer.poll(POLL) {
                            tracing::debug!(%err, "the group of writers");
                        }
                    }
                    // Leaving takes a moment, and is no loss of the leadership to report.
                    drop(consumer);
                })
                .map_err(|err| StreamError::Read { source: Box::new(err) })?
        };
        Ok(Lead { leads, stop, thread: Some(thread) })
    }

    /// Whether the group has chosen us.
    pub(super) fn winning(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.stop.now();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the group of writers panicked");
        }
    }
}
