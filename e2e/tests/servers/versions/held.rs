//! Commits that are held between binlog and engine, where the delete comes long before any reader can see the change. Four kinds of
//! server, each asked for its position in its own way.

use e2e::{
    cache::Cache,
    servers::{Kind, Link},
};
use tokio::time::{Duration, Instant, sleep};

use super::{DEADLINE, Stage, ask};
use crate::support::{enter, until};

/// How long a commit is held once its delete has come.
const HELD: Duration = Duration::from_millis(1500);
const THING: u32 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn held_on_a_mysql_primary() {
    held("held_on_a_mysql_primary", Kind::Mysql, &[Link::Held, Link::Holder], 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_on_a_mariadb_primary() {
    held("held_on_a_mariadb_primary", Kind::Mariadb, &[Link::Held, Link::Holder], 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_on_a_mysql_replica() {
    let links = [Link::Plain, Link::Held, Link::Holder];
    held("held_on_a_mysql_replica", Kind::Mysql, &links, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_on_a_mariadb_replica() {
    let links = [Link::Plain, Link::Held, Link::Holder];
    held("held_on_a_mariadb_replica", Kind::Mariadb, &links, 1).await;
}

/// The commit is held on the server at `at`, from which readers fill.
async fn held(test: &str, kind: Kind, links: &[Link], at: usize) {
    let Some(lab) = enter(test, &[kind.name(), "mcsqueal"]).await else { return };
    let replicas = if at == 0 { vec![] } else { vec![at] };
    let mut stage = Stage::start(lab, kind, links, &replicas, "fill_age_ms_max = 2000").await;
    let mut cache = Cache::new(&stage.nodes);
    assert_eq!(stage.fill(&mut cache, at, THING).await, "v0");

    let holder = stage.chain.last().expect("a chain");
    holder.freeze().expect("freeze the last server");
    let change = format!("UPDATE shop.things SET value = 'v1' WHERE id = {THING}");
    let mut writer = stage.chain[0].connect().await.expect("a connection");
    let writing = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut writer, change).await
    });

    let get = format!("mg thing:{THING} v\r\n");
    until("the delete has come", DEADLINE, async || ask(&mut cache, &get).await.0 == "EN").await;
    // This is what makes it dangerous: the key is gone, and the change is not to be seen.
    let end = Instant::now() + HELD;
    let (mut leases, mut tries) = (0, 0);
    while Instant::now() < end {
        assert_eq!(stage.shown(at, THING).await, "v0", "the commit is not held");
        let (line, _) = ask(&mut cache, &format!("mg thing:{THING} v c N30\r\n")).await;
        tries += 1;
        if let Some(cas) = line.split(' ').find_map(|word| word.strip_prefix('c')) {
            leases += usize::from(line.ends_with(" W"));
            let (stored, _) =
                ask(&mut cache, &format!("ms thing:{THING} 2 C{cas}\r\nv0\r\n")).await;
            assert_ne!(stored, "HD", "the old value was stored behind its delete");
        }
        let (found, _) = ask(&mut cache, &get).await;
        assert_eq!(found, "EN", "the old value is served behind its delete");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(tries > 10, "{tries}");
    assert_eq!(leases, 0, "a lease was given for what nobody could read");
    assert_eq!(at == 0, !writing.is_finished(), "the commit is held where it should be");

    stage.chain.last().expect("a chain").thaw().expect("let it go on");
    writing.await.expect("the writer ends").expect("the commit succeeds");
    assert_eq!(stage.fill(&mut cache, at, THING).await, "v1");
    assert_eq!(ask(&mut cache, &get).await.1.as_deref(), Some("v1"));
    stage.mcsqueal.stop().await.expect("a clean stop");
}
