//! Scenarios in which region B gets more nodes, and loses them.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    crowd::{Asked, Crowd, Where, calm},
    world::{Cluster, FILL_AGE_MAX, Plan, play},
};

/// Slow fills have ended by then.
const SETTLING: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn cluster_added() {
    play("cluster_added", Plan::Usual, async |mut world| {
        let mut crowd = Crowd::comes(&world).await;
        let node = world.node_of_b().await;
        let cluster = Cluster { name: "three".to_owned(), ring_version: 1, nodes: vec![node] };
        world.b.clusters.push(cluster);
        world.b.reload(&world.lab).await;
        crowd.join(&world, Where::B, &world.b.clusters[2]);
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "cluster_added").await;
    })
    .await;
}

/// The customers of the cluster are away while its ring changes, and everybody else stays. The node that stays gets keys back that it had
/// before, and heard of no delete of them since.
#[tokio::test(flavor = "multi_thread")]
async fn node_added_and_removed() {
    play("node_added_and_removed", Plan::Usual, async |mut world| {
        let mut crowd = Crowd::comes(&world).await;
        let name = world.b.clusters[0].name.clone();

        let mut before = crowd.leave_for_good(Where::B, &name).await;
        let node = world.node_of_b().await;
        world.b.clusters[0].nodes.push(node);
        world.b.clusters[0].ring_version += 1;
        world.b.reload(&world.lab).await;
        crowd.join(&world, Where::B, &world.b.clusters[0]);
        crowd.is_served().await;
        calm().await;

        before.add(crowd.leave_for_good(Where::B, &name).await);
        sleep(SETTLING).await;
        drop(world.b.clusters[0].nodes.remove(1));
        world.b.clusters[0].ring_version += 1;
        world.b.reload(&world.lab).await;
        crowd.join(&world, Where::B, &world.b.clusters[0]);
        crowd.is_served().await;
        sleep(FILL_AGE_MAX).await;
        calm().await;
        crowd.ends_well_at(&mut world, "node_added_and_removed", Asked::Owners, before).await;
    })
    .await;
}
