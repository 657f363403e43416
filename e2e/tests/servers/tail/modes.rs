//! GTIDs that are switched off and on under a tailer that reads.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use e2e::servers::Kind;
use expect_test::expect;

use super::{
    book::Book,
    tailing::{Tailing, server},
};

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
