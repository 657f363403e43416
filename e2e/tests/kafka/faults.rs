//! What can happen to a log on Kafka, and to those who share it.

use std::{collections::BTreeSet, time::Duration};

use e2e::lab::{enter, random, until};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use schemas::{
    cursor::{Partition, Place},
    record::Record,
};
use stream::{Batch, Portion, Portions, Reader, Writer, kafka::Kafka};

use crate::{
    conformance::Topic,
    mirror::copy_record,
    suite::{self, Home, numbered, read_all},
};

const GUARD: Duration = Duration::from_secs(40);

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test");
    config
}

async fn append(writer: &impl Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let records = (0..suite::PARTITIONS).map(|at| (Partition(at), numbered(number)));
        let batch =
            Batch { records: records.collect(), checkpoint: Some(suite::checkpoint(number)) };
        writer.append(batch).await.expect("queued").await.expect("durable");
    }
}

fn numbers(entries: &[stream::Entry]) -> Vec<u64> {
    entries.iter().filter_map(|entry| suite::number(&entry.record)).collect()
}

/// A record that the broker refuses stops nothing for good, and loses nothing that is behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_waits_until_it_is_taken() {
    let Some(lab) = enter("a_refused_record_waits_until_it_is_taken", &["kafka"]).await else {
        return;
    };
    let kafka = lab.servers.kafka().await.expect("kafka");
    let topic = Topic::new(kafka.address());
    let writer = topic.lead().await;
    append(&writer, 0..3).await;
    let admin: AdminClient<DefaultClientContext> =
        config(&kafka.address()).create().expect("an admin");
    let limit = async |bytes: &str| {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic.settings.topic));
        let change = change.set("max.message.bytes", bytes);
        let changed = admin.alter_configs([&change], &AdminOptions::new()).await;
        changed.expect("asked")[0].as_ref().expect("changed");
    };
    limit("1000").await;
    let refused = async || refuses(&kafka.address(), &topic.settings.topic, 2000);
    until("the broker goes by it", GUARD, refused).await;
    let term = writer.term();
    // What compresses well would be taken.
    let mut random = random(41);
    let batches: Vec<Batch> = (3..6)
        .map(|number| {
            let mut floor = numbered(number);
            if let Record::Floor(floor) = &mut floor {
                let reason: Vec<String> = (0..200).map(|_| random.bits().to_string()).collect();
                floor.reason = reason.concat().into();
            }
            Batch { records: vec![(Partition(0), floor)], checkpoint: None }
        })
        .collect();
    let mut waiting = Vec::new();
    for batch in batches {
        waiting.push(writer.append(batch).await.expect("queued"));
    }
    until("it says so", GUARD, async || writer.trouble().is_some()).await;
    limit("4194304").await;
    for pending in waiting {
        pending.await.expect("durable");
    }
    assert!(writer.trouble().is_none() && writer.term() > term, "another term");
    let (entries, gaps) = read_all(&topic.reader().await, 0, Place::START).await;
    assert_eq!((numbers(&entries), gaps), ((0..6).collect(), 0));
}

/// Whether the broker refuses a record of so many bytes: a changed limit reaches it a little after it was asked for.
fn refuses(brokers: &str, topic: &str, bytes: usize) -> bool {
    let producer: BaseProducer = config(brokers).create().expect("a producer");
    let end = || producer.client().fetch_watermarks(topic, 0, GUARD).expect("ends").1;
    let (before, stray) = (end(), vec![b'x'; bytes]);
    let stray = BaseRecord::to(topic).partition(0).key("x").payload(&stray);
    producer.send(stray).expect("queued");
    producer.flush(GUARD).expect("answered");
    end() == before
}

/// A plain copy of the topics, with other offsets, serves readers as well as the original.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_serves_readers() {
    let Some(lab) = enter("a_copy_serves_readers", &["kafka"]).await else { return };
    let kafka = lab.servers.kafka().await.expect("kafka");
    let topic = Topic::new(kafka.address());
    for life in 0..2 {
        append(&topic.lead().await, life * 50..(life + 1) * 50).await;
    }
    let (entries, _) = read_all(&topic.reader().await, 0, Place::START).await;
    let mut copied = topic.settings.clone();
    copied.topic = format!("{}-copy", topic.settings.topic);
    let names = [(topic.settings.topic.clone(), copied.topic.clone(), suite::PARTITIONS)];
    let notes = [(topic.settings.state_topic(), copied.state_topic(), 1)];
    for (from, to, partitions) in names.into_iter().chain(notes) {
        copy(&kafka.address(), &from, &to, partitions).await;
    }
    let copy = Kafka::attach(copied).await.expect("the copy is a log");
    let reader = copy.reader().await.expect("a reader");
    assert_eq!(reader.stream_id(), topic.reader().await.stream_id());
    // A cursor that was stored at the original means the same at the copy.
    for at in [0, 1, 30, 70] {
        let (rest, gaps) = read_all(&reader, 0, entries[at].place).await;
        assert_eq!((rest, gaps), (entries[at + 1..].to_vec(), 0), "after {}", entries[at].place);
    }
}

/// Copies a topic record by record, with headers and partitions; other offsets come from what is there already.
async fn copy(brokers: &str, from: &str, to: &str, partitions: u16) {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create().expect("an admin");
    let policy = if partitions == 1 { "compact" } else { "delete" };
    let new = NewTopic::new(to, partitions.into(), TopicReplication::Fixed(1));
    let new = new.set("cleanup.policy", policy);
    admin.create_topics([&new], &AdminOptions::new()).await.expect("made");
    let producer: BaseProducer = config(brokers).create().expect("a producer");
    let consumer: BaseConsumer = config(brokers).create().expect("a consumer");
    for partition in (0..partitions).map(i32::from) {
        for _ in 0..7 {
            let stray = BaseRecord::<[u8], [u8]>::to(to).partition(partition);
            producer.send(stray.key(b"x").payload(b"none of ours")).expect("sent");
        }
        let (low, high) = consumer.fetch_watermarks(from, partition, GUARD).expect("ends");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(from, partition, Offset::Offset(low)).expect("an offset");
        consumer.assign(&list).expect("assigned");
        let mut next = low;
        while next < high {
            let Some(message) = consumer.poll(Duration::from_secs(5)) else { break };
            let message = message.expect("a message").detach();
            next = message.offset() + 1;
            copy_record(&producer, &message, to);
        }
        producer.flush(GUARD).expect("copied");
    }
}

/// Processes that share the partitions have each of them exactly once, whoever comes and goes.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared() {
    let Some(lab) = enter("partitions_are_shared", &["kafka"]).await else { return };
    let kafka = lab.servers.kafka().await.expect("kafka");
    let log = Topic::new(kafka.address()).open().await;
    let all: BTreeSet<Partition> = (0..suite::PARTITIONS).map(Partition).collect();
    let share = |name| log.share("region", name).expect("a member");
    let of = |portions: &Portions| match portions.now() {
        Portion::All => None,
        Portion::Of(ours) => Some(ours),
    };
    let one = share(Some("one"));
    let ours = one.portions();
    until("the first has all", GUARD, async || of(&ours).as_ref() == Some(&all)).await;
    let two = share(None);
    let theirs = two.portions();
    let shared = |ours: &Portions, theirs: &Portions| {
        let (Some(ours), Some(theirs)) = (of(ours), of(theirs)) else { return false };
        let each = !ours.is_empty() && !theirs.is_empty();
        each && &ours | &theirs == all && ours.is_disjoint(&theirs)
    };
    until("each has its share", GUARD, async || shared(&ours, &theirs)).await;

    // One that is back under its name has its own again, and nobody else hears of it.
    let (had, kept) = (of(&ours), of(&theirs));
    drop(one);
    let one = share(Some("one"));
    let ours = one.portions();
    until("it has its own again", GUARD, async || of(&ours) == had).await;
    assert_eq!(of(&theirs), kept);

    // Whoever is replaced under its name says so, and has nothing.
    let again = share(Some("one"));
    let (instead, trouble) = (again.portions(), one.trouble());
    until("it is replaced", GUARD, async || trouble.borrow().is_some()).await;
    assert!(ours.now().is_empty());
    until("the new one has its share", GUARD, async || shared(&instead, &theirs)).await;

    // One without a name leaves at once.
    drop(two);
    until("the first has all", GUARD, async || of(&instead).as_ref() == Some(&all)).await;
}
