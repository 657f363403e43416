//! [`Share`]: which partitions this process looks after, when several share them.
//!
//! A Kafka group deals them out. Rebalances are cooperative: who keeps its partitions goes on meanwhile. A process with a
//! name is a static member: one that is back soon gets its own partitions again, and nobody else hears of it. Cursors
//! are kept where they belong, beside the data that they protect, so a partition that moves is at worst delivered twice.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    client::Context,
    group::{Dealt, Member},
    settings::Settings,
};
use crate::{Portions, StreamError};

/// A member of a group. Dropping it leaves the partitions to the others: at once, or with a name after
/// [`Settings::share_timeout`].
#[derive(Debug)]
pub struct Share(Member);

impl Share {
    pub(super) fn join(
        settings: &Settings,
        context: &Context,
        group: &str,
        instance: Option<&str>,
    ) -> Result<Share, StreamError> {
        let group = format!("{}-invalidators-{group}", settings.topic);
        let mut config = settings.member(&group, settings.share_timeout);
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let dealt = Dealt::nothing_yet(settings.metrics.rebalances.clone());
        Member::join(&config, context, &settings.topic, dealt).map(Share)
    }

    /// The partitions that are ours, as they change.
    pub fn portions(&self) -> Portions {
        Portions::told(self.0.portion())
    }

    /// Why the group does not count us in, if so.
    pub fn trouble(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.trouble()
    }
}
