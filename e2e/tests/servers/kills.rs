//! `kill -9` at random moments under load. After the drain no cached value may differ from the database.

use std::time::Duration;

use e2e::{busy::Busy, random::Random, servers::Kind};
use tokio::time::sleep;

use crate::support::{enter, needs_of, random, tenth_unless_long};

/// Kills of mcsqueal in a long run, and of each of the others.
const KILLS_MCSQUEAL: u32 = 200;
const KILLS_OTHERS: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn kill9_mcsqueal_under_load_mysql() {
    kill_mcsqueal("kill9_mcsqueal_under_load_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_mcsqueal_under_load_mariadb() {
    kill_mcsqueal("kill9_mcsqueal_under_load_mariadb", Kind::Mariadb).await;
}

/// Each dialect gets half of the kills.
async fn kill_mcsqueal(test: &str, kind: Kind) {
    let Some(lab) = enter(test, &needs_of(kind)).await else { return };
    let mut random = random(1);
    let mut set = Busy::start(lab, kind).await;
    for _ in 0..tenth_unless_long(KILLS_MCSQUEAL) / 2 {
        rest(&mut random, 900).await;
        set.mcsqueal.kill9().expect("kill mcsqueal");
        rest(&mut random, 100).await;
        set.mcsqueal.start().expect("start mcsqueal");
        // Sometimes it is killed before it is ready.
        if !random.one_in(4) {
            set.mcsqueal.ready().await.expect("mcsqueal is ready again");
        }
    }
    set.nothing_is_stale().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_memcached() {
    let Some(lab) = enter("kill9_memcached", &needs_of(Kind::Mariadb)).await else { return };
    let mut random = random(2);
    let mut set = Busy::start(lab, Kind::Mariadb).await;
    for _ in 0..tenth_unless_long(KILLS_OTHERS) {
        rest(&mut random, 1500).await;
        let victim =
            usize::try_from(random.below(set.memcached.len() as u64)).expect("a small number");
        set.memcached[victim].kill9().expect("kill memcached");
        rest(&mut random, 1000).await;
        set.memcached[victim].restart().await.expect("memcached is there again");
    }
    set.nothing_is_stale().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_database_mysql() {
    kill_database("kill9_database_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_database_mariadb() {
    kill_database("kill9_database_mariadb", Kind::Mariadb).await;
}

async fn kill_database(test: &str, kind: Kind) {
    let Some(lab) = enter(test, &needs_of(kind)).await else { return };
    let mut random = random(3);
    let mut set = Busy::start(lab, kind).await;
    for _ in 0..tenth_unless_long(KILLS_OTHERS) {
        rest(&mut random, 1500).await;
        set.database.kill9().expect("kill the database server");
        rest(&mut random, 500).await;
        set.database.restart().await.expect("the database server is there again");
    }
    set.nothing_is_stale().await;
}

async fn rest(random: &mut Random, ms_max: u64) {
    sleep(Duration::from_millis(random.below(ms_max))).await;
}
