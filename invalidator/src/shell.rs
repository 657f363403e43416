//! [`Invalidator`]: a task for each lane.

use std::sync::Arc;

use schemas::{
    defaults,
    ring::{Ring, RingError, RingNode},
};
use stream::{CursorStore, Reader, StreamError};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Databases, Metrics, NodeSettings, Visibility,
    delivery::Delivery,
    intake::{Feed, Intake, Places, Share},
    lane::{Cover, Markers},
    metrics::LaneLabel,
    node_delivery::NodeDelivery,
    positions::Positions,
    report::{LaneStatus, Report},
    settings::{COVER_WAIT_MAX, Settings},
};

/// The running lanes of one or more clusters.
pub struct Invalidator {
    lanes: JoinSet<Result<(), StreamError>>,
    status: Vec<watch::Receiver<LaneStatus>>,
    databases: Databases,
}

impl Invalidator {
    /// Starts a lane for each node of each cluster, of what `feed` says is ours. They run until `shutdown`; nodes that are down are tried for ever.
    /// `visibility` says what is known of the databases that caches are filled from, the source among them; only nodes of ours need it.
    pub fn start<R, S>(
        clusters: &[Settings],
        feed: &Feed<R, S>,
        visibility: &Visibility,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> Result<Invalidator, RingError>
    where
        R: Reader + Clone,
        S: CursorStore + Clone,
    {
        let (mut lanes, mut status) = (JoinSet::new(), Vec::new());
        let mut nodes = clusters.iter().flat_map(|cluster| &cluster.nodes);
        let ours = nodes.any(|node| node.control.is_some());
        let marked = clusters.iter().any(|cluster| cluster.markers == Markers::Deleted);
        let asked = ours || marked || visibility.has_replicas();
        let visibility = if asked { visibility } else { &Visibility::UNKNOWN };
        let positions = Positions::new(visibility.clone());
        if visibility.is_known() {
            let polling = positions.clone().run(feed.reader.clone(), shutdown.clone());
            lanes.spawn(async move {
                polling.await;
                Ok(())
            });
        }
        for cluster in clusters {
            let ring =
                |node: &NodeSettings| RingNode { name: node.address.clone(), weight: node.weight };
            let nodes: Vec<RingNode> = cluster.nodes.iter().map(ring).collect();
            let ring = Arc::new(Ring::new(cluster.hashing, &nodes)?);
            for (at, NodeSettings { address, control, .. }) in cluster.nodes.iter().enumerate() {
                let label = LaneLabel { cluster: cluster.cluster.clone(), node: address.clone() };
                let consumer = format!("{}/{address}", cluster.cluster);
                let share = Share { ring: Arc::clone(&ring), node: at, on_floor: cluster.on_floor };
                let (report, told) = Report::new(label, metrics);
                status.push(told);
                if let Some(port) = control {
                    let delivery = NodeDelivery {
                        port: port.clone(),
                        reader: feed.reader.clone(),
                        portions: feed.portions.clone(),
                        share,
                        positions: positions.clone(),
                        rounds: positions.rounds(),
                        report,
                        clock_skew_max: defaults::CLOCK_SKEW_MAX,
                        cursors: Places::new(),
                    };
                    lanes.spawn(delivery.run(shutdown.clone()));
                    continue;
                }
                let delivery = Delivery {
                    address: address.clone(),
                    fill_age_max: cluster.fill_age_max,
                    cover: if visibility.is_known() {
                        Cover::Asked { wait_max: COVER_WAIT_MAX, markers: cluster.markers }
                    } else {
                        Cover::Unknown
                    },
                    intake: Intake::new(feed.clone(), consumer, share, positions.clone()),
                    rounds: positions.rounds(),
                    report,
                };
                lanes.spawn(delivery.run(shutdown.clone()));
            }
        }
        let databases = Databases::new(positions, metrics.clone());
        Ok(Invalidator { lanes, status, databases })
    }

    /// The lanes' states, in the order of the settings.
    pub fn status(&self) -> Vec<watch::Receiver<LaneStatus>> {
        self.status.clone()
    }

    /// The databases that caches are filled from.
    pub fn databases(&self) -> Databases {
        self.databases.clone()
    }

    /// Returns when every lane has ended, after `shutdown`; or at once when one has, because the stream cannot be
    /// used any more. Cancelled, it can be called again.
    pub async fn ended(&mut self) -> Result<(), StreamError> {
        while let Some(ended) = self.lanes.join_next().await {
            ended.unwrap_or(Err(StreamError::Closed))?;
        }
        Ok(())
    }
}
