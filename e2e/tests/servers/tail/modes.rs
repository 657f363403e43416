//! GTIDs that are switched off and on under a tailer that reads, and what only a position has: offsets.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::time::Duration;

use e2e::servers::Kind;
use expect_test::expect;
use schemas::{config::Danger, record::FilePosition};
use tailer::Settings;

use super::{
    book::Book,
    tailing::{Tailing, database, server, settings, tables},
};
use crate::support::{enter, is_long, skip, until};

/// Each step of MySQL's way there and back. A server without GTIDs is read by position, and numbers its transactions so: an
/// epoch begins. Back again, what was read last is no GTID: a floor over everything, once.
#[tokio::test(flavor = "multi_thread")]
async fn gtid_mode_is_switched() {
    let Some((_lab, database)) = server("gtid_mode_is_switched", Kind::Mysql).await else { return };
    let mut tailing = Tailing::start(&database.address(), &Book::default()).await;
    let mut told = String::new();
    let steps = ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
    for (id, mode) in steps.into_iter().enumerate() {
        let set = format!("SET GLOBAL gtid_mode = {mode}");
        let insert = format!("INSERT INTO users VALUES ({id}, NULL, '', '')");
        let outcome = tailing.outcome(&database, &[&set, &insert]).await;
        told += &format!("{mode}: {outcome}\n");
    }
    // A tailer that starts now goes on by GTID, behind everything.
    let book = tailing.book.clone();
    drop(tailing);
    database.run(&["INSERT INTO shop.users VALUES (10, NULL, '', '')"]).await.expect("a change");
    let mut tailing = Tailing::start(&database.address(), &book).await;
    let outcome = tailing.outcome(&database, &["DELETE FROM users WHERE id = 10"]).await;
    told += &format!("a new start: {outcome}\n");
    expect![[r#"
        ON_PERMISSIVE: user:0
        OFF_PERMISSIVE: user:1
        OFF: user:2
        OFF_PERMISSIVE: user:3
        ON_PERMISSIVE: user:4
        ON: user:5
        a new start: user:10
        floor *: GTIDs were switched on, and our position is not one of them
        counted as gap: 1
    "#]]
    .assert_eq(&told);
}

/// A transaction is never split, so that its file can outgrow the 32 bits that events have for their offsets. What follows is
/// read, and from a position beyond 4 GiB everything of its file again, since no dump can begin there.
#[tokio::test(flavor = "multi_thread")]
async fn file_above_4_gib() {
    const ROWS: usize = 110;
    const READ_IN: Duration = Duration::from_secs(600);
    if !is_long() {
        return skip("file_above_4_gib", "a long run", "it writes 4.4 GB");
    }
    let Some(lab) = enter("file_above_4_gib", &["mysql"]).await else { return };
    let no_gtids = ["--gtid-mode=OFF", "--max-allowed-packet=1G"];
    let database = database(&lab, Kind::Mysql, &no_gtids).await;
    tables(&database).await;
    // Of its rows, only the binlog has any.
    let hole = "CREATE TABLE shop.new_hole (id INT PRIMARY KEY, body LONGBLOB) ENGINE = BLACKHOLE";
    database.run(&[hole]).await.expect("a table");
    let settings =
        Settings { accept: vec![Danger::StorageEngine], ..settings(&database.address(), 4001) };
    let book = Book::default();
    let mut tailing = Tailing::launch_with(settings.clone(), &book);
    tailing.connected().await;
    tailing.mark(&database).await;
    let file = book.checkpoint().and_then(|at| at.position).expect("a position").file;
    let rows = format!(
        "INSERT INTO shop.new_hole WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {ROWS}) \
         SELECT n, REPEAT('x', 40 << 20) FROM n"
    );
    database.run(&["FLUSH BINARY LOGS", &rows]).await.expect("a large transaction");
    until("it is read", READ_IN, async || {
        let position = book.checkpoint().and_then(|at| at.position).expect("a position");
        // The file of the transaction is the next one; behind it, another one has begun.
        number(&position.file) == number(&file) + 2
    })
    .await;
    assert_eq!(tailing.shown_since(&database).await, format!("{ROWS} keys from new:1 to new:99"));
    let large = format!("binlog.{:06}", number(&file) + 1);
    let bytes = std::fs::metadata(database.data().join(&large)).expect("the file").len();
    assert!(bytes > 1 << 32, "{bytes}");
    drop(tailing);
    book.resume_at(FilePosition { file: large.as_str().into(), offset: bytes - ROTATE_BYTES });
    let mut tailing = Tailing::launch_with(settings, &book);
    tailing.connected().await;
    until("it is read again", READ_IN, async || {
        let position = book.checkpoint().and_then(|at| at.position).expect("a position");
        number(&position.file) == number(&file) + 2
    })
    .await;
    assert_eq!(tailing.shown_since(&database).await, format!("{ROWS} keys from new:1 to new:99"));
    let next = "INSERT INTO users VALUES (1, NULL, '', '')";
    assert_eq!(tailing.outcome(&database, &[next]).await, "user:1");
}

/// The last event of a file: header, offset, the next file's name, and a checksum.
const ROTATE_BYTES: u64 = 19 + 8 + 13 + 4;

/// The number in the name of a binlog file.
fn number(file: &str) -> u64 {
    file.rsplit('.').next().and_then(|number| number.parse().ok()).expect("a binlog's name")
}
