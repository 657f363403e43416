//! [`Invalidator`]: a task for each lane; lanes come and go with the nodes.

use std::collections::BTreeMap;

use schemas::{defaults, ring::RingError};
use stream::{CursorStore, Reader, StreamError};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Databases, Metrics, Visibility,
    delivery::Delivery,
    intake::{Feed, Intake, Places},
    lane::{Cover, Markers},
    metrics::LaneLabel,
    node_delivery::NodeDelivery,
    positions::Positions,
    report::{LaneStatus, Report},
    rings::{Member, members},
    settings::{COVER_WAIT_MAX, Settings},
};

/// What lanes say of themselves, in the order of the settings.
pub type Statuses = Vec<watch::Receiver<LaneStatus>>;

/// Which lane has ended; `None`: not a lane.
type Ended = (Option<LaneLabel>, Result<(), StreamError>);

/// The running lanes of one or more clusters.
pub struct Invalidator<R, S> {
    feed: Feed<R, S>,
    positions: Positions,
    visibility: Visibility,
    metrics: Metrics,
    shutdown: CancellationToken,
    tasks: JoinSet<Ended>,
    lanes: BTreeMap<LaneLabel, Running>,
    status: watch::Sender<Statuses>,
}

/// A lane that runs.
struct Running {
    /// Of its cluster's settings.
    revision: u64,
    stop: CancellationToken,
    /// Whether it is for good: then its node must not be trusted any more.
    retire: CancellationToken,
    status: watch::Receiver<LaneStatus>,
}

/// A change that cannot be made in a running process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// Some cluster's nodes make no ring.
    #[error("spread keys over the nodes")]
    Ring(#[from] RingError),
    /// Lanes do not begin to ask databases later.
    #[error("whether databases are asked how far they are can only change at a start")]
    Databases,
    /// The stream cannot be used any more.
    #[error("the lanes have ended")]
    Over,
}

impl<R: Reader + Clone, S: CursorStore + Clone> Invalidator<R, S> {
    /// Starts a lane for each node of each cluster, of what `feed` says is ours. They run until `shutdown`; nodes that are down are tried for ever.
    /// `visibility` says what is known of the databases that caches are filled from, the source among them; only nodes of ours, and
    /// markers on others, need it.
    pub fn start(
        clusters: &[Settings],
        feed: Feed<R, S>,
        visibility: &Visibility,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> Result<Invalidator<R, S>, RingError> {
        let asked = asks(clusters) || visibility.has_replicas();
        let visibility = if asked { visibility } else { &Visibility::UNKNOWN };
        let positions = Positions::new(visibility.clone());
        let mut tasks = JoinSet::new();
        if visibility.is_known() {
            let polling = positions.clone().run(feed.reader.clone(), shutdown.clone());
            tasks.spawn(async move {
                polling.await;
                (None, Ok(()))
            });
        }
        let mut invalidator = Invalidator {
            feed,
            positions,
            visibility: visibility.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            tasks,
            lanes: BTreeMap::new(),
            status: watch::Sender::new(Vec::new()),
        };
        invalidator.run(plan(clusters)?);
        Ok(invalidator)
    }

    /// Other clusters, or other nodes in them. Lanes of clusters of the same revision go on; all others end, and begin anew where they
    /// were. Cancelled, it must be called again. What is refused changes nothing.
    pub async fn reconfigure(&mut self, clusters: &[Settings]) -> Result<(), ReconfigureError> {
        if asks(clusters) && !self.visibility.is_known() {
            return Err(ReconfigureError::Databases);
        }
        let planned = plan(clusters)?;
        let stays = |label: &LaneLabel, lane: &Running| {
            planned.iter().any(|next| next.label == *label && next.revision == lane.revision)
        };
        for (label, lane) in self.lanes.iter().filter(|(label, lane)| !stays(label, lane)) {
            if !planned.iter().any(|next| next.label == *label) {
                lane.retire.cancel();
            }
            lane.stop.cancel();
        }
        // A lane of memcached stores its cursors, where the next one begins.
        while self.lanes.values().any(|lane| lane.stop.is_cancelled()) {
            match self.tasks.join_next().await {
                Some(Ok((Some(label), Ok(())))) => {
                    self.lanes.remove(&label);
                    if !planned.iter().any(|next| next.label == label) {
                        self.metrics.forget(&label);
                    }
                }
                Some(Ok((None, Ok(())))) => {}
                Some(Ok((_, Err(_))) | Err(_)) | None => return Err(ReconfigureError::Over),
            }
        }
        self.run(planned);
        Ok(())
    }

    /// Starts those that do not run yet.
    fn run(&mut self, planned: Vec<Planned>) {
        let mut statuses = Vec::with_capacity(planned.len());
        for Planned { label, revision, member, settings } in planned {
            if let Some(lane) = self.lanes.get(&label) {
                statuses.push(lane.status.clone());
                continue;
            }
            let (stop, retire) = (self.shutdown.child_token(), CancellationToken::new());
            let (report, status) = Report::new(label.clone(), &self.metrics);
            statuses.push(status.clone());
            self.spawn(label.clone(), member, &settings, report, (stop.clone(), retire.clone()));
            self.lanes.insert(label, Running { revision, stop, retire, status });
        }
        self.status.send_replace(statuses);
    }

    fn spawn(
        &mut self,
        label: LaneLabel,
        member: Member,
        cluster: &Settings,
        report: Report,
        (stop, retire): (CancellationToken, CancellationToken),
    ) {
        let Member { address, control, share } = member;
        if let Some(port) = control {
            let delivery = NodeDelivery {
                port,
                reader: self.feed.reader.clone(),
                portions: self.feed.portions.clone(),
                share,
                positions: self.positions.clone(),
                rounds: self.positions.rounds(),
                report,
                clock_skew_max: defaults::CLOCK_SKEW_MAX,
                cursors: Places::new(),
            };
            let running = delivery.run(stop, retire);
            self.tasks.spawn(async move { (Some(label), running.await) });
            return;
        }
        let consumer = format!("{}/{address}", cluster.cluster);
        let delivery = Delivery {
            address,
            fill_age_max: cluster.fill_age_max,
            cover: if self.visibility.is_known() {
                Cover::Asked { wait_max: COVER_WAIT_MAX, markers: cluster.markers }
            } else {
                Cover::Unknown
            },
            intake: Intake::new(self.feed.clone(), consumer, share, self.positions.clone()),
            rounds: self.positions.rounds(),
            report,
        };
        self.tasks.spawn(async move { (Some(label), delivery.run(stop).await) });
    }

    /// The lanes' states, as they come and go.
    pub fn status(&self) -> watch::Receiver<Statuses> {
        self.status.subscribe()
    }

    /// The databases that caches are filled from.
    pub fn databases(&self) -> Databases {
        Databases::new(self.positions.clone(), self.metrics.clone())
    }

    /// Returns when every lane has ended, after `shutdown`; or at once when one has, because the stream cannot be
    /// used any more. Cancelled, it can be called again.
    pub async fn ended(&mut self) -> Result<(), StreamError> {
        while let Some(ended) = self.tasks.join_next().await {
            let (label, ended) = ended.map_err(|_| StreamError::Closed)?;
            ended?;
            if let Some(label) = label {
                self.lanes.remove(&label);
            }
        }
        Ok(())
    }
}

/// A lane that there must be.
struct Planned {
    label: LaneLabel,
    revision: u64,
    member: Member,
    settings: Settings,
}

fn plan(clusters: &[Settings]) -> Result<Vec<Planned>, RingError> {
    let mut planned = Vec::new();
    for cluster in clusters {
        for member in members(cluster)? {
            let (name, node) = (cluster.cluster.clone(), member.address.clone());
            let label = LaneLabel { cluster: name, node };
            let revision = cluster.revision;
            planned.push(Planned { label, revision, member, settings: cluster.clone() });
        }
    }
    Ok(planned)
}

/// Whether some node needs to know how far the databases are.
fn asks(clusters: &[Settings]) -> bool {
    let ours = |cluster: &Settings| {
        let former = cluster.former.iter().flat_map(|former| &former.nodes);
        cluster.nodes.iter().chain(former).any(|node| node.control.is_some())
    };
    clusters.iter().any(|cluster| cluster.markers == Markers::Deleted || ours(cluster))
}
