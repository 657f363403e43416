//! [`Crowd`]: readers and writers in both regions, and what becomes of them.

use std::time::Duration;

use e2e::{
    cache::Nodes,
    lab::{is_long, until},
    servers::{Mcsqueal, root_at},
    shop::{Ages, Comparison, Fills, Settings, Shop, Traffic},
};
use tokio::time::{Instant, sleep};

use crate::{
    table::{self, Row},
    world::{Cluster, DEADLINE, FILL_AGE_MAX, Place, STALENESS_MAX, World},
};

/// Until the caches are full, and what follows when something has healed.
const CALM: Duration = Duration::from_secs(3);
const CALM_LONG: Duration = Duration::from_secs(30);
const DRAIN_DEADLINE: Duration = Duration::from_secs(90);
/// Probes of the way from a commit in A to a cache in B.
const PROBES_PER_S: u32 = 10;

/// Which region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    A,
    B,
}

/// Whose values are compared in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Everybody,
    /// Where a ring was changed: nodes keep what is no longer theirs, and nobody asks them for it.
    Owners,
}

/// Everybody who is there. Dropping it ends them all.
pub(crate) struct Crowd {
    audiences: Vec<Audience>,
    probe: Option<Audience>,
    begin: Instant,
}

/// The customers of one cluster.
struct Audience {
    region: Where,
    cluster: String,
    shop: Shop,
    traffic: Option<Traffic>,
}

impl Crowd {
    /// Everybody comes, and finds something in every cache.
    pub(crate) async fn comes(world: &World) -> Crowd {
        let mut crowd = Crowd { audiences: Vec::new(), probe: None, begin: Instant::now() };
        for region in [Where::A, Where::B] {
            for cluster in &region.of(world).clusters {
                crowd.join(world, region, cluster);
            }
        }
        crowd.is_served().await;
        calm().await;
        crowd
    }

    /// Customers of one more cluster, or again of one that was left.
    pub(crate) fn join(&mut self, world: &World, region: Where, cluster: &Cluster) {
        let number = u64::try_from(self.audiences.len()).expect("few");
        let place = region.of(world);
        let settings = Settings {
            fills: Fills::Leased,
            partitions: 4,
            probes_per_s: 0,
            ..Settings::new(FILL_AGE_MAX, 100 + number)
        };
        let settings = match region {
            Where::A => Settings {
                readers: 3,
                writers: 2,
                writer_rest: Duration::from_millis(60),
                reader_rest: Duration::from_millis(2),
                ..settings
            },
            // Their transactions take as long as eight times 80 ms anyway.
            Where::B => Settings {
                readers: 4,
                writers: 1,
                reader_rest: Duration::from_millis(2),
                replicas: vec![place.database.root()],
                ..settings
            },
        };
        let primary = root_at(place.primary.port());
        let shop = world.shop.branch(settings, primary, ring(&cluster.addresses()));
        let traffic = Some(Traffic::start(&shop));
        self.audiences.push(Audience { region, cluster: cluster.name.clone(), shop, traffic });
    }

    /// The customers of a cluster go, and what they had counted stays. Later comparisons look at its nodes as they were.
    pub(crate) async fn leave(&mut self, region: Where, cluster: &str) {
        for audience in &mut self.audiences {
            if audience.region == region && audience.cluster == cluster {
                audience.leave().await;
            }
        }
    }

    /// The same, and nobody looks at the nodes again.
    pub(crate) async fn leave_for_good(&mut self, region: Where, cluster: &str) -> Tally {
        self.leave(region, cluster).await;
        let mut tally = Tally::default();
        for audience in
            self.audiences.extract_if(.., |it| it.region == region && it.cluster == cluster)
        {
            tally.count(&audience, &Comparison::default());
        }
        tally
    }

    /// From commits in A to a cache in B, from now on.
    pub(crate) fn probe(&mut self, world: &World) {
        let settings = Settings {
            fills: Fills::Leased,
            readers: 0,
            writers: 0,
            probes_per_s: PROBES_PER_S,
            partitions: 4,
            ..Settings::new(FILL_AGE_MAX, 99)
        };
        let (cluster, database) = (&world.b.clusters[0], world.a.database.root());
        let shop = world.shop.branch(settings, database, ring(&cluster.addresses()));
        let traffic = Some(Traffic::start(&shop));
        self.probe =
            Some(Audience { region: Where::B, cluster: cluster.name.clone(), shop, traffic });
    }

    /// How long the probes took.
    pub(crate) async fn probed(&mut self) -> e2e::shop::Quantiles {
        let mut probe = self.probe.take().expect("it was started");
        probe.leave().await;
        assert_eq!(probe.shop.stats().canaries_lost.get(), 0, "a delete never came");
        probe.shop.stats().commit_to_delete.quantiles()
    }

    /// Waits until every cache answers somebody (again).
    pub(crate) async fn is_served(&self) {
        for audience in self.audiences.iter().filter(|it| it.traffic.is_some()) {
            let Audience { region, cluster, shop, .. } = audience;
            let before = shop.stats().hits.get();
            until(&format!("cluster {cluster} in {region:?} answers"), DEADLINE, async || {
                shop.stats().hits.get() > before + 20
            })
            .await;
        }
    }

    /// Everybody goes; when everything is delivered, nothing may be stale, nothing late may have been read, and the auditors agree.
    pub(crate) async fn ends_well(self, world: &mut World, scenario: &str) {
        self.ends_well_at(world, scenario, Asked::Everybody, Tally::default()).await;
    }

    /// The same, with what was counted in region B before.
    pub(crate) async fn ends_well_at(
        mut self,
        world: &mut World,
        scenario: &str,
        asked: Asked,
        before: Tally,
    ) {
        for audience in &mut self.audiences {
            audience.leave().await;
        }
        let took = self.begin.elapsed();
        alive(&mut world.a.mcsqueal);
        alive(&mut world.b.mcsqueal);
        world.settled().await;
        for audience in &self.audiences {
            audience.shop.drain(DRAIN_DEADLINE).await.expect("everything is deleted");
        }
        let (mut of_a, mut of_b) = (Tally::default(), before);
        for audience in &self.audiences {
            let comparison = match asked {
                Asked::Everybody => audience.shop.compare().await,
                Asked::Owners => audience.shop.compare_owners().await,
            };
            let tally = if audience.region == Where::A { &mut of_a } else { &mut of_b };
            tally.count(audience, &comparison.expect("a comparison"));
        }
        let samples = [world.a.sample().await, world.b.sample().await];
        for (region, tally, sample) in [("A", &of_a, samples[0]), ("B", &of_b, samples[1])] {
            table::add(&tally.row(scenario, region, took));
            table::figure(&format!("e2e_audited_{scenario}_{region}"), number(sample), "keys");
            assert!(sample > 0, "nobody has judged region {region}");
        }
        for (region, tally) in [("A", &of_a), ("B", &of_b)] {
            assert!(tally.stale.is_empty(), "stale in {region}: {:#?}", tally.stale);
            assert_eq!(tally.late, 0, "late reads in {region}");
            assert!(tally.checks > 300 && tally.fills > 50, "it did not cache: {tally:?}");
        }
        assert!(of_a.commits + of_b.commits > 20, "hardly anything was written");
        world.a.mcsqueal.stop().await.expect("a clean stop");
        world.b.mcsqueal.stop().await.expect("a clean stop");
    }
}

/// Some time of traffic.
pub(crate) async fn calm() {
    sleep(if is_long() { CALM_LONG } else { CALM }).await;
}

pub(crate) fn ring(nodes: &[String]) -> Nodes {
    Nodes::new(nodes.to_vec()).expect("a ring")
}

fn alive(mcsqueal: &mut Mcsqueal) {
    mcsqueal.alive().expect("mcsqueal runs");
}

impl Where {
    fn of(self, world: &World) -> &Place {
        match self {
            Where::A => &world.a,
            Where::B => &world.b,
        }
    }
}

impl Audience {
    async fn leave(&mut self) {
        if let Some(traffic) = self.traffic.take() {
            traffic.stop().await.expect("everybody leaves");
        }
    }
}

/// What customers have seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    reads: u64,
    hits: u64,
    flagged: u64,
    fills: u64,
    commits: u64,
    database_reads: u64,
    checks: u64,
    late: u64,
    stale: Vec<String>,
    superseded: Ages,
}

impl Tally {
    /// What others have seen as well.
    pub(crate) fn add(&mut self, other: Tally) {
        self.reads += other.reads;
        self.hits += other.hits;
        self.flagged += other.flagged;
        self.fills += other.fills;
        self.commits += other.commits;
        self.database_reads += other.database_reads;
        self.checks += other.checks;
        self.late += other.late;
        self.stale.extend(other.stale);
        self.superseded.add(&other.superseded);
    }

    fn count(&mut self, audience: &Audience, comparison: &Comparison) {
        let stats = audience.shop.stats();
        self.reads += stats.reads.get();
        self.hits += stats.hits.get();
        self.flagged += stats.flagged.get();
        self.fills += stats.fills.get();
        self.commits += stats.commits.get();
        self.database_reads += stats.database_reads.get();
        self.checks += stats.hits.get() + u64::try_from(comparison.cached).expect("few");
        self.late += stats.superseded.longer_than(STALENESS_MAX);
        let cluster = &audience.cluster;
        self.stale.extend(comparison.stale.iter().map(|stale| format!("{cluster}: {stale:?}")));
        self.superseded.add(&stats.superseded);
    }

    fn row(&self, scenario: &str, region: &str, took: Duration) -> Row {
        Row {
            scenario: scenario.to_owned(),
            region: region.to_owned(),
            checks: self.checks,
            stale: self.stale.len(),
            late: self.late,
            staleness: self.superseded.quantiles(),
            hit_rate: share(self.hits, self.reads),
            flagged_rate: share(self.flagged, self.reads),
            database_reads: self.database_reads,
            commits: self.commits,
            seconds: took.as_secs(),
        }
    }
}

/// In percent.
fn share(part: u64, whole: u64) -> f64 {
    100.0 * number(part) / number(whole.max(1))
}

fn number(it: u64) -> f64 {
    f64::from(u32::try_from(it).unwrap_or(u32::MAX))
}
