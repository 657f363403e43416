//! Scenarios in which something of region B is away for a while.

use std::time::Duration;

use e2e::{lab::until, servers::Weather};
use tokio::time::sleep;

use crate::{
    crowd::{Crowd, calm},
    files, table,
    world::{DEADLINE, Links, ONE_WAY, Plan, World, play},
};

const REPLICATION_STOPPED: Duration = Duration::from_secs(30);
/// Longer than values may be stale.
const AWAY: Duration = Duration::from_secs(4);
const PROBED: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn steady_state() {
    play("steady_state", Plan::Usual, async |mut world| {
        let mut crowd = Crowd::comes(&world).await;
        crowd.probe(&world);
        sleep(PROBED).await;
        calm().await;
        let probed = crowd.probed().await;
        let one_way = ONE_WAY.as_secs_f64() * 1000.0;
        table::figure("e2e_wan_added_p50_ms", probed.p50_ms - one_way, "ms");
        table::figure("e2e_wan_added_p99_ms", probed.p99_ms - one_way, "ms");
        // Where the time goes: until the stream has it, until a node of A has deleted it; until it is in B, and until a node there has.
        let steps = [
            ("append", &world.a, "mcsqueal_tailer_append_seconds"),
            ("delete_in_a", &world.a, "mcsqueal_lane_commit_to_delete_seconds"),
            ("relay", &world.b, "mcsqueal_relay_delay_seconds"),
            ("delete_in_b", &world.b, "mcsqueal_lane_commit_to_delete_seconds"),
        ];
        for (step, place, name) in steps {
            let sum = place.mcsqueal.metric(&format!("{name}_sum"), "").await;
            let count = place.mcsqueal.metric(&format!("{name}_count"), "").await;
            let mean_ms = 1000.0 * sum / count.max(1.0);
            table::figure(&format!("e2e_step_{step}_mean_ms"), mean_ms, "ms");
        }
        files::speak_of_metrics_that_exist(&world).await;
        crowd.ends_well(&mut world, "steady_state").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_stopped() {
    play("replication_stopped", Plan::Usual, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        world.b.database.stop_applying().await.expect("the replica stands still");
        sleep(REPLICATION_STOPPED).await;
        world.b.database.start_applying().await.expect("it goes on");
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "replication_stopped").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_kafka() {
    play("cut_off_from_kafka", Plan::Usual, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        let World { links, .. } = &world;
        // Both ways to the stream; and then so that both ends believe that they are connected.
        for weather in [Weather::Cut, Weather::HalfOpen] {
            let both = [&links.relay, &links.kafka];
            for link in both {
                link.make(weather);
            }
            sleep(AWAY).await;
            for link in both {
                Links::heal(link);
            }
            crowd.is_served().await;
        }
        // Without a relay, Kafka itself is read.
        links.relay.make(Weather::Cut);
        until("Kafka is read directly", DEADLINE, async || {
            world.b.mcsqueal.metric("mcsqueal_relay_direct", "").await > 0.0
        })
        .await;
        crowd.is_served().await;
        Links::heal(&links.relay);
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "cut_off_from_kafka").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_paused() {
    play("node_paused", Plan::Usual, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        world.b.clusters[0].nodes[0].freeze().expect("freeze a node");
        sleep(AWAY).await;
        world.b.clusters[0].nodes[0].thaw().expect("thaw it");
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "node_paused").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_killed() {
    play("node_killed", Plan::Usual, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        let node = &mut world.b.clusters[0].nodes[0];
        node.kill9().expect("kill a node");
        sleep(AWAY).await;
        node.restart().await.expect("it is there again, empty");
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "node_killed").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidator_killed() {
    play("invalidator_killed", Plan::Usual, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        world.b.mcsqueal.kill9().expect("kill the invalidator");
        sleep(AWAY).await;
        world.b.mcsqueal.restart().await.expect("it is there again");
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "invalidator_killed").await;
    })
    .await;
}
