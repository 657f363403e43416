//! The last minute's invalidations are made once more, in one cluster, under load.

use e2e::{lab, servers::mcsqueal_binary};
use tokio::process::Command;

use crate::{
    crowd::{Crowd, calm},
    world::{Plan, play},
};

#[tokio::test(flavor = "multi_thread")]
async fn replayed() {
    play("replayed", Plan::Usual, async |mut world| {
        let crowd = Crowd::comes(&world).await;
        calm().await;
        let directory = world.b.mcsqueal.directory().to_owned();
        let mut command = Command::new(mcsqueal_binary().expect("it was there"));
        command.args(["replay", "--from", "1m", "--cluster", "one", "--rate", "5000", "--yes"]);
        command.arg("--config").arg(directory.join("region.toml"));
        command.envs(world.b.file.env()).current_dir(&directory);
        let said = lab::output(&mut command).await.expect("replay runs");
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
        assert!(text.contains("keys"), "{text}");
        crowd.is_served().await;
        calm().await;
        crowd.ends_well(&mut world, "replayed").await;
    })
    .await;
}
