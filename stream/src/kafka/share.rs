//! [`Share`]: which partitions this process looks after, when several share them.
//!
//! A Kafka group deals them out. Membership is static and rebalances are cooperative: a process that is back soon
//! gets its own partitions again, and the others go on meanwhile. Cursors are kept where they belong, beside the data
//! that they protect, so a partition that moves is at worst delivered twice.

use std::{collections::BTreeSet, time::Duration};

use schemas::cursor::Partition;
use tokio::sync::watch;

use super::{client::Context, group::Member, settings::Settings};
use crate::StreamError;

/// A process that was away for less than this finds its partitions waiting.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of a group. Dropping it leaves the partitions to the others, after a while.
#[derive(Debug)]
pub struct Share(Member);

impl Share {
    pub(super) fn join(
        settings: &Settings,
        context: &Context,
        group: &str,
        instance: &str,
    ) -> Result<Share, StreamError> {
        let group = format!("{}-{group}", settings.topic);
        let mut config = settings.member(&group, SESSION_TIMEOUT.max(settings.session_timeout));
        config.set("group.instance.id", instance);
        Member::join(&config, context, &settings.topic).map(Share)
    }

    /// The partitions that are ours, as they change.
    pub fn partitions(&self) -> watch::Receiver<BTreeSet<Partition>> {
        self.0.partitions()
    }
}
