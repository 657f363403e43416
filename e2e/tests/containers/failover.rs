//! Scenarios in which the replica in B takes the primary's place.

use std::time::Duration;

use e2e::servers::Weather;
use tokio::time::sleep;

use crate::{
    crowd::{Crowd, calm},
    world::{Links, Plan, World, play},
};

/// How long what is lost is written, and read.
const LOSING: Duration = Duration::from_millis(1500);
/// Everybody has heard that the primary is gone.
const GONE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn primary_failed_over() {
    play("primary_failed_over", Plan::Standby, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        let World { a, b, .. } = &mut world;
        a.database.run(&["SET GLOBAL super_read_only = ON"]).await.expect("nothing is written");
        b.database.caught_up(&a.database).await.expect("the replica has everything");
        a.database.kill9().expect("the primary is gone");
        take_over(&mut world).await;
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "primary_failed_over").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_failed_over_with_loss() {
    play("primary_failed_over_with_loss", Plan::Standby, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        for place in [&mut world.a, &mut world.b] {
            place.unaudited().await;
        }
        world.b.database.run(&["STOP REPLICA"]).await.expect("nothing reaches the replica");
        sleep(LOSING).await;
        world.a.database.kill9().expect("the primary dies");
        sleep(GONE).await;
        world.shop.forget_versions();
        take_over(&mut world).await;
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "primary_failed_over_with_loss").await;
    })
    .await;
}

/// B's database is the primary from now on, and the only one: applications are led there, and region files say so.
async fn take_over(world: &mut World) {
    let World { a, b, links, lab, .. } = world;
    b.database.promote().await.expect("the new primary");
    a.primary.lead_to(b.database.address());
    Links::heal(&a.primary);
    b.primary.lead_to(b.database.address());
    b.primary.make(Weather::Calm);
    a.file.source = links.to_b.address();
    b.file.source = b.database.address();
    for place in [a, b] {
        place.file.standbys = Vec::new();
        place.reload(lab).await;
    }
}
