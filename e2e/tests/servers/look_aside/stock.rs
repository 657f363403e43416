//! The library and a stock memcached, at its weaker guarantee: leases of its own, and the classic marker key.

use std::{convert::Infallible, time::Duration};

use client::{Client, Database, Fetched, Got, Marked, Origin, Place, Read, Stored, Token, Unfit};
use e2e::cache::{Cache, Nodes};

use super::{PLAIN, client, key_of};
use crate::support::enter;

/// The database of this test says where it was read.
async fn get(client: &Client, thing: u32, token: Option<Token>) -> Got {
    let read = Read::new(PLAIN).with_token(token);
    let got = client
        .get(&key_of(thing), read, |place: Place| async move {
            Ok::<_, Infallible>(match place.database {
                Database::Primary => Fetched::found("new"),
                Database::Any if thing == 2 => Fetched::absent(),
                Database::Any => Fetched::found("old").with_ttl(Duration::from_secs(60)),
            })
        })
        .await;
    let Ok(got) = got;
    got
}

fn is(got: &Got, value: Option<&str>, stored: Option<Stored>) {
    assert_eq!(got.value.as_deref(), value.map(str::as_bytes), "{got:?}");
    let was = match got.from {
        Origin::Database(_, stored) => Some(stored),
        Origin::Cache(_) => None,
    };
    assert_eq!(was, stored, "{got:?}");
}

#[tokio::test]
async fn the_cycle_works_with_a_stock_memcached() {
    let test = "the_cycle_works_with_a_stock_memcached";
    let Some(lab) = enter(test, &["memcached"]).await else { return };
    let memcached = lab.servers.memcached().await.expect("memcached");
    let client = client(&[memcached.address()], None);
    is(&get(&client, 1, None).await, Some("old"), Some(Stored::Yes));
    is(&get(&client, 1, None).await, Some("old"), None);
    is(&get(&client, 2, None).await, None, Some(Stored::Yes));
    is(&get(&client, 2, None).await, None, None);
    // What is cached cannot be told from what is too old.
    is(&get(&client, 1, Some(Token::Primary)).await, Some("new"), Some(Stored::NoLease));

    // Two writers of one key, both before the first one ends.
    let marks = [client.mark(&[key_of(1)]).await, client.mark(&[key_of(1)]).await];
    for mark in marks {
        let written = client.untold(mark.expect("one key")).await;
        assert_eq!((written.token, written.marked), (Token::Primary, Marked::All));
        for _ in 0..2 {
            is(&get(&client, 1, None).await, Some("new"), Some(Stored::Unfit(Unfit::Marked)));
        }
    }
    // The replicas have it: the invalidator deletes the marker.
    let nodes = Nodes::new(vec![memcached.address()]).expect("a ring");
    let mut invalidator = Cache::new(&nodes);
    let owner = nodes.owner("thing:1").expect("an owner");
    let marker = invalidator.meta(owner, b"md r_thing:1\r\n").await.expect("an answer");
    assert_eq!(marker.0, "HD", "the marker stands until then");
    is(&get(&client, 1, None).await, Some("old"), Some(Stored::Yes));
    is(&get(&client, 1, None).await, Some("old"), None);
}
