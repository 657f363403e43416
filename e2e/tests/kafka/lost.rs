//! A log that lost what it had acknowledged: its newest segment was cut, or its topic was made anew. The next term
//! says so with a floor.

use std::fs::OpenOptions;

use e2e::lab::enter;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use schemas::{
    cursor::{Partition, Place},
    record::{Record, Scope},
};
use stream::{Batch, Metrics, Writer};

use crate::{
    conformance::Topic,
    suite::{self, Home, numbered, read_all},
};

const RECORDS: u64 = 50;

async fn append(writer: &impl Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let records = (0..suite::PARTITIONS).map(|at| (Partition(at), numbered(number)));
        let checkpoint = Some(suite::checkpoint(number));
        let batch = Batch { records: records.collect(), checkpoint };
        writer.append(batch).await.expect("queued").await.expect("durable");
    }
}

/// The floors that say that something was lost: their partitions and versions.
async fn lost(topic: &Topic) -> Vec<(u16, u64)> {
    let reader = topic.reader().await;
    let mut found = Vec::new();
    for partition in 0..suite::PARTITIONS {
        for entry in read_all(&reader, partition, Place::START).await.0 {
            if let Record::Floor(floor) = entry.record
                && floor.reason.contains("lost records")
            {
                assert_eq!(floor.scope, Scope::All);
                found.push((partition, floor.version.bits()));
            }
        }
    }
    found
}

fn count(metrics: &Metrics) -> bool {
    format!("{metrics:?}").contains("lost_tails: Counter { value: 1")
}

/// Its checkpoints are of the term before, but the log is as long as they say.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_who_end_before_they_save_anything_lose_nothing() {
    let name = "leaders_who_end_before_they_save_anything_lose_nothing";
    let Some(lab) = enter(name, &["kafka"]).await else { return };
    let kafka = lab.servers.kafka().await.expect("kafka");
    let topic = Topic::new(kafka.address());
    append(&topic.lead().await, 0..RECORDS).await;
    for _ in 0..3 {
        drop(topic.lead().await);
    }
    assert_eq!(lost(&topic).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_tail_gets_a_floor() {
    let Some(lab) = enter("a_log_that_lost_its_tail_gets_a_floor", &["kafka"]).await else {
        return;
    };
    let mut kafka = lab.servers.kafka().await.expect("kafka");
    let mut topic = Topic::new(kafka.address());
    append(&topic.lead().await, 0..RECORDS).await;
    assert_eq!(lost(&topic).await, []);

    // As after an election of a replica that was behind.
    kafka.kill9().expect("kill the broker");
    let folder = kafka.data().join(format!("{}-0", topic.settings.topic));
    let segment = folder.join("00000000000000000000.log");
    let file = OpenOptions::new().write(true).open(&segment).expect("the segment");
    let bytes = file.metadata().expect("its length").len();
    file.set_len(bytes / 2).expect("cut");
    kafka.restart().await.expect("the broker is there again");

    topic.settings.metrics = Metrics::default();
    let writer = topic.lead().await;
    let everywhere = |version| (0..suite::PARTITIONS).map(|at| (at, version)).collect::<Vec<_>>();
    assert_eq!(lost(&topic).await, everywhere(RECORDS - 1));
    assert!(count(&topic.settings.metrics), "{:?}", topic.settings.metrics);
    append(&writer, RECORDS..RECORDS + 3).await;
    drop(writer);
    let writer = topic.lead().await;
    assert_eq!(lost(&topic).await, everywhere(RECORDS - 1), "it is said once");
    drop(writer);

    // The topic alone is made anew.
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.address());
    let admin: AdminClient<DefaultClientContext> = config.create().expect("an admin");
    let deleted = admin.delete_topics(&[&topic.settings.topic], &AdminOptions::new()).await;
    deleted.expect("asked")[0].as_ref().expect("deleted");
    let writer = topic.lead().await;
    assert_eq!(lost(&topic).await, everywhere(RECORDS + 2));
    drop(writer);
}
