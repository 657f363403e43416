//! What goes wrong between a server and its tailer: nothing is lost, and what cannot be had any more is a floor.

use std::time::Duration;

use e2e::servers::{Database, Kind};
use tailer::Settings;
use tokio::time::{sleep, timeout};

use super::{
    book::{Book, shown},
    proxy::{CUT, Proxy, SHORTEN, SPOIL, SPOIL_EVER, STALL, STALLED, UNKNOWN, UNKNOWN_KIND},
    tailing::{PATIENCE, Tailing, server, settings},
};
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn faults_on_the_way_mysql() {
    faults_on_the_way("faults_on_the_way_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_on_the_way_mariadb() {
    faults_on_the_way("faults_on_the_way_mariadb", Kind::Mariadb).await;
}

/// An event that changed, one that is shorter than it says, a connection that ended in the middle of one, and one
/// that is only half there: all is read again. What nobody knows is a floor.
async fn faults_on_the_way(test: &str, kind: Kind) {
    let Some((_lab, database)) = server(test, kind).await else { return };
    let proxy = Proxy::start(database.address()).await;
    let mut tailing = Tailing::start(proxy.address(), &Book::default()).await;
    let faults =
        [(SPOIL, "checksum is"), (SHORTEN, "event ends after"), (CUT, "ended the binlog stream")];
    for (number, (email, error)) in faults.into_iter().enumerate() {
        let mut status = tailing.status.clone();
        let failed = tokio::spawn(async move {
            let failed = status.wait_for(|status| status.last_error.is_some()).await;
            failed.ok().and_then(|status| status.last_error.clone())
        });
        let insert = format!("INSERT INTO users VALUES ({number}, '{email}', '', '')");
        let outcome = tailing.outcome(&database, &[&insert]).await;
        assert_eq!(outcome, format!("email:{email} user:{number}"));
        let failed = timeout(PATIENCE, failed).await.expect("in time").expect("a task");
        let failed = failed.unwrap_or_default();
        assert!(failed.contains(error), "{failed}");
        assert_eq!(tailing.metric("mcsqueal_tailer_reconnects_total"), number as u64 + 1);
        tailing.connected().await;
    }
    let insert = format!("INSERT INTO users VALUES (6, '{UNKNOWN}', '', '')");
    let outcome = tailing.outcome(&database, &[&insert]).await;
    let floor = format!("floor *: event of type {UNKNOWN_KIND} cannot be read");
    assert!(outcome.contains(&floor) && outcome.contains("counted as event: "), "{outcome}");
    proxy.freeze();
    let outcome =
        tailing.outcome(&database, &["INSERT INTO users VALUES (7, 'f@z', '', '')"]).await;
    assert_eq!(outcome, "email:f@z user:7");
    assert_eq!(tailing.metric("mcsqueal_tailer_reconnects_total"), 4);
}

/// An event that is damaged on the source's disk stays so: what is behind it is read, and a floor covers the rest.
#[tokio::test(flavor = "multi_thread")]
async fn event_that_stays_damaged() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let Some((_lab, database)) = server("event_that_stays_damaged", kind).await else {
            continue;
        };
        let proxy = Proxy::start(database.address()).await;
        let mut tailing = Tailing::start(proxy.address(), &Book::default()).await;
        let insert = format!("INSERT INTO shop.users VALUES (1, '{SPOIL_EVER}', '', '')");
        database.run(&[&insert]).await.expect("a change");
        let floored = tailing.book.take_when(|written| !written.floors.is_empty());
        let written = timeout(PATIENCE, floored).await.expect("a floor in time");
        let shown = tailing.shown(&written);
        let told = "floor *: the source's binlog is damaged: ";
        assert!(shown.contains(told) && shown.ends_with("counted as gap: 1"), "{shown}");
        tailing.connected().await;
        let next = "INSERT INTO users VALUES (2, 'next@one', '', '')";
        assert_eq!(tailing.outcome(&database, &[next]).await, "email:next@one user:2");
    }
}

/// A server that is stopped while it sends an event that no socket holds.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_in_the_middle_of_an_event() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let test = "shutdown_in_the_middle_of_an_event";
        let Some((_lab, mut database)) = server(test, kind).await else { continue };
        database.run(&["SET GLOBAL max_allowed_packet = 67108864"]).await.expect("a setting");
        let proxy = Proxy::start(database.address()).await;
        let settings = Settings {
            // The proxy's stall must not look like a dead connection.
            heartbeat: STALL * 2,
            ..settings(proxy.address(), 4001)
        };
        let mut tailing = Tailing::launch_with(settings, &Book::default());
        tailing.connected().await;
        let insert = format!(
            "INSERT INTO shop.blobs VALUES (1, CONCAT('{STALLED}', REPEAT('x', 40 << 20)))"
        );
        database.run(&[&insert]).await.expect("a change");
        until("the event is on its way", PATIENCE, async || proxy.has_stalled()).await;
        database.stop().await.expect("a shutdown");
        tailing.failed("").await;
        database.restart().await.expect("a start");
        let outcome = tailing.outcome(&database, &["DELETE FROM blobs"]).await;
        assert_eq!(outcome, "blob:1");
        assert!(tailing.metric("mcsqueal_tailer_reconnects_total") > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_binlogs_mysql() {
    purged_binlogs("purged_binlogs_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_binlogs_mariadb() {
    purged_binlogs("purged_binlogs_mariadb", Kind::Mariadb).await;
}

/// What was purged before it was read is one floor over everything; what is still there is read.
async fn purged_binlogs(test: &str, kind: Kind) {
    let Some((_lab, database)) = server(test, kind).await else { return };
    let book = Book::default();
    let mut tailing = Tailing::start(&database.address(), &book).await;
    tailing.outcome(&database, &["INSERT INTO users VALUES (1, 'a@b', '', '')"]).await;
    drop(tailing);
    database
        .run(&["INSERT INTO shop.users VALUES (2, 'lost@b', '', '')", "FLUSH BINARY LOGS"])
        .await
        .expect("a change that is lost");
    let newest = newest_binlog(&database);
    let purge = format!("PURGE BINARY LOGS TO '{newest}'");
    let kept = "INSERT INTO shop.users VALUES (3, 'kept@b', '', '')";
    // A file is not purged while a server thinks that somebody reads it.
    for attempt in 0.. {
        database.run(&[&purge]).await.expect("a purge");
        if !database.data().join("binlog.000001").exists() {
            break;
        }
        assert!(attempt < 50, "the first file stays");
        sleep(Duration::from_millis(100)).await;
    }
    database.run(&[kept]).await.expect("a change that is kept");
    let mut tailing = Tailing::start(&database.address(), &book).await;
    let written = tailing.mark(&database).await;
    let mut keys = written.keys.clone();
    keys.sort();
    assert_eq!(keys, ["email:kept@b", "user:3"]);
    let floors: Vec<String> = written.floors.iter().map(|floor| shown(&floor.scope)).collect();
    assert_eq!(floors, ["*"]);
    let reason = &written.floors[0].reason;
    assert!(reason.starts_with("the server has purged its binlog up to "), "{reason}");
    assert!(tailing.shown(&written).ends_with("counted as gap: 1"));
}

fn newest_binlog(database: &Database) -> String {
    let files = std::fs::read_dir(database.data()).expect("the data directory");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let number = |name: &String| {
        name.strip_prefix("binlog.")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    names.filter(number).max().expect("a binlog")
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_went_back_mysql() {
    let test = "server_that_went_back_mysql";
    went_back(test, Kind::Mysql, "RESET BINARY LOGS AND GTIDS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_went_back_mariadb() {
    went_back("server_that_went_back_mariadb", Kind::Mariadb, "RESET MASTER").await;
}

/// A server that does not have what it had written, like one from a backup: an epoch begins of which nothing before is
/// proven, so that everything is a miss that was filled before it.
async fn went_back(test: &str, kind: Kind, reset: &str) {
    let Some((_lab, database)) = server(test, kind).await else { return };
    let book = Book::default();
    let mut tailing = Tailing::start(&database.address(), &book).await;
    for id in 1..5 {
        let insert = format!("INSERT INTO users VALUES ({id}, NULL, '', '')");
        tailing.outcome(&database, &[&insert]).await;
    }
    drop(tailing);
    database.run(&[reset]).await.expect("a reset");
    // It gets a number that another change had before: which of them is meant, nobody can tell.
    database.run(&["INSERT INTO shop.users VALUES (9, NULL, '', '')"]).await.expect("a change");
    let mut tailing = Tailing::start(&database.address(), &book).await;
    let written = tailing.mark(&database).await;
    let proofs: Vec<bool> = written.epochs.iter().map(|epoch| epoch.lossless).collect();
    assert_eq!(proofs, [false], "{:?}", written.epochs);
    let outcome = tailing.outcome(&database, &["DELETE FROM users WHERE id = 9"]).await;
    assert_eq!(outcome, "user:9\ncounted as gap: 1");
}

/// Two with one `server_id` do not push each other out for ever.
#[tokio::test(flavor = "multi_thread")]
async fn rivals() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let Some((_lab, database)) = server("rivals", kind).await else { continue };
        let mut first = Tailing::launch(&database.address(), &Book::default(), 4001);
        first.connected().await;
        let mut second = Tailing::launch(&database.address(), &Book::default(), 4001);
        let told = first.failed("uses our server_id").await;
        let rival = format!("the server's list of readers has: {}", hostname());
        assert!(told.contains(&rival), "{told}");
        second.connected().await;
        sleep(Duration::from_secs(3)).await;
        let attempts = [&first, &second].map(|one| one.metric("mcsqueal_tailer_reconnects_total"));
        assert!(attempts.iter().sum::<u64>() <= 4, "a reconnect war: {attempts:?}");
    }
}

/// As tailers say it when they register.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the machine's name");
    name.trim().to_owned()
}

/// A server that takes no writes may be a copy that lacks something: it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn read_only_server_is_waited_for() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let test = "read_only_server_is_waited_for";
        let Some((_lab, database)) = server(test, kind).await else { continue };
        database.run(&["SET GLOBAL read_only = ON"]).await.expect("a setting");
        let mut tailing = Tailing::launch(&database.address(), &Book::default(), 4001);
        tailing.failed("read-only").await;
        database.run(&["SET GLOBAL read_only = OFF"]).await.expect("a setting");
        tailing.connected().await;
        let progress = tailing.book.take_when(|written| written.progress > 1);
        timeout(PATIENCE, progress).await.expect("Progress is said");
        // While it takes none, nothing is said of how far all is.
        database.run(&["SET GLOBAL read_only = ON"]).await.expect("a setting");
        sleep(Duration::from_millis(500)).await;
        tailing.book.take_when(|_| true).await;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(tailing.book.take_when(|_| true).await.progress, 0);
        assert_eq!(tailing.metric("mcsqueal_tailer_writable"), 0);
    }
}
