//! [`Lead`]: who may write. A Kafka group with one thing to share, the state topic's only partition: its owner leads,
//! the others stand by.
//!
//! The group says who may claim the next term: it keeps writers out of each other's way, and replaces one that is
//! silent. A leader leads until another one has claimed a term, whatever the group says meanwhile; that one which does
//! not know yet that it was replaced does no harm is the work of terms.

use prometheus_client::metrics::counter::Counter;

use super::{
    client::Context,
    group::{Dealt, Member},
    settings::Settings,
};
use crate::{Portion, StreamError};

/// A member of the group of writers. Dropping it leaves the group.
#[derive(Debug)]
pub(super) struct Lead(Member);

impl Lead {
    /// Joins the group.
    pub(super) fn join(settings: &Settings, context: &Context) -> Result<Lead, StreamError> {
        let group = format!("{}-leader", settings.topic);
        let config = settings.member(&group, settings.session_timeout);
        let dealt = Dealt::nothing_yet(Counter::default());
        Member::join(&config, context, &settings.state_topic(), dealt).map(Lead)
    }

    /// Returns once the group has chosen us.
    pub(super) async fn won(&self) -> Result<(), StreamError> {
        let chosen = |portion: &Portion| *portion != Portion::All && !portion.is_empty();
        let mut portion = self.0.portion();
        portion.wait_for(chosen).await.map(drop).map_err(|_| StreamError::Closed)
    }
}
