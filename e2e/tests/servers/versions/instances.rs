//! What operators see of the databases: one that is dead, and one that somebody has written on although it is a replica.

use e2e::{
    cache::Cache,
    servers::{Kind, Link},
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{DEADLINE, POLL, Stage, TTL_S, ask};
use crate::support::{enter, until};

/// A thing that the replica alone has changed.
const LOST: u32 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_an_errant_replica_are_seen_on_mysql() {
    dead_and_errant("a_dead_and_an_errant_replica_are_seen_on_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_an_errant_replica_are_seen_on_mariadb() {
    dead_and_errant("a_dead_and_an_errant_replica_are_seen_on_mariadb", Kind::Mariadb).await;
}

async fn dead_and_errant(test: &str, kind: Kind) {
    let Some(lab) = enter(test, &[kind.name(), "mcsqueal"]).await else { return };
    let links = [Link::Plain, Link::Plain];
    let mut stage = Stage::start(lab, kind, &links, &[1], "fill_age_ms_max = 5000").await;
    let replica = format!("address=\"{}\"", stage.chain[1].address());
    stage.fill(&mut Cache::new(&stage.nodes), 1, 1).await;
    stage.first_epoch().await;
    let health = stage.health().await;
    assert_eq!(health["databases"][0]["role"], "primary");
    assert_eq!(health["databases"][1]["role"], "replica");
    assert_eq!(health["databases"][0]["position"], health["databases"][1]["position"]);
    let sequence = stage.mcsqueal.metric("mcsqueal_instance_sequence", &replica).await;
    assert!(sequence > 99.0, "{sequence}");

    stage.chain[1].kill9().expect("the replica dies");
    stage.holds("silent").await;
    let age = stage.mcsqueal.metric("mcsqueal_instance_answered_ms", &replica).await;
    assert!(age >= 3000.0, "{age}");
    assert!(!stage.is_foreign(&replica).await);
    stage.chain[1].restart().await.expect("the replica is there again");
    stage.until("it is waited for no longer", |health| health["ok"] == true).await;

    somebody_writes_on_the_replica(&stage).await;
    stage.holds("foreign").await;
    assert!(stage.is_foreign(&replica).await);
    assert!(!stage.is_foreign("primary").await);
    let log = || std::fs::read_to_string(stage.mcsqueal.log()).expect("a log");
    let times = |said: &str| log().lines().filter(|line| line.contains(said)).count();
    until("the log says what to do", DEADLINE, async || times("rebuild it") > 0).await;
    for said in ["does not say how far it is", "answers again", "rebuild it"] {
        assert_eq!(times(said), 1, "{said}:\n{}", log());
    }
    an_epoch_removes_what_was_read_there(&stage).await;
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// And a reader has found it there.
async fn somebody_writes_on_the_replica(stage: &Stage) {
    let mut cache = Cache::new(&stage.nodes);
    let (lease, _) = ask(&mut cache, &format!("mg thing:{LOST} c v N30\r\n")).await;
    let token = lease.split(' ').find_map(|flag| flag.strip_prefix('c'));
    let token = token.unwrap_or_else(|| panic!("no lease: {lease}"));
    let mine = format!("UPDATE shop.things SET value = 'mine' WHERE id = {LOST}");
    stage.chain[1].run(&[&mine]).await.expect("a write");
    assert_eq!(stage.shown(1, LOST).await, "mine");
    let fill = format!("ms thing:{LOST} 4 C{token} T{TTL_S}\r\nmine\r\n");
    assert_eq!(ask(&mut cache, &fill).await.0, "HD");
}

/// No delete will ever name what the replica wrote by itself.
async fn an_epoch_removes_what_was_read_there(stage: &Stage) {
    let mut cache = Cache::new(&stage.nodes);
    let read = format!("mg thing:{LOST} v\r\n");
    assert_eq!(ask(&mut cache, &read).await.1.as_deref(), Some("mine"));
    let asked = stage.mcsqueal.tool(&["epoch"]).await.expect("it runs");
    assert_eq!(asked.status.code(), Some(64), "it asks before it does something");
    let asked = stage.mcsqueal.tool(&["epoch", "--yes"]).await.expect("it runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    until("what was read there is gone", DEADLINE, async || ask(&mut cache, &read).await.0 == "EN")
        .await;
}

impl Stage {
    /// The source writes something for the first time since the tailer reads it, and every database has it.
    pub(super) async fn first_epoch(&self) {
        let change = "UPDATE shop.things SET value = 'v1' WHERE id = 99";
        self.chain[0].run(&[change]).await.expect("a change");
        self.until("both databases say how far they are", |health| {
            let all = [&health["databases"][0], &health["databases"][1]];
            let stands = |of: &Value| of["holds"].is_null() && of["position"] != "0.0";
            all.iter().all(|of| stands(of)) && health["ok"] == true
        })
        .await;
    }

    async fn health(&self) -> Value {
        self.mcsqueal.health().await.expect("it answers")
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let late = Instant::now() + DEADLINE;
        loop {
            let health = self.health().await;
            if holds(&health) {
                return;
            }
            assert!(Instant::now() < late, "waited in vain until {what}: {health}");
            sleep(POLL).await;
        }
    }

    async fn is_foreign(&self, label: &str) -> bool {
        self.mcsqueal.metric("mcsqueal_instance_foreign", label).await > 0.5
    }

    /// Waits until `/health` says why the region waits for the replica.
    async fn holds(&self, why: &str) {
        let held = |health: &Value| health["databases"][1]["holds"] == why && health["ok"] == false;
        self.until(&format!("the replica is {why}"), held).await;
    }
}
