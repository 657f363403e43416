//! What breaks around a stream on Kafka: the broker, the writer, the writer with a standby beside it, the beginning
//! of the log. After the drain no cached value may differ from the database.

use std::time::Duration;

use e2e::{
    busy::{Busy, TOPIC},
    http,
    lab::{enter, needs_on_kafka, random, tenth_unless_long, until},
    random::Random,
    servers::{Kind, Mcsqueal},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::time::{Instant, sleep};

use crate::{conformance::forget, covered::everything_is_covered};

/// Kills in a long run.
const KILLS_BROKER: u32 = 10;
const KILLS_TAILER: u32 = 20;
const TAKE_OVERS: u32 = 5;
/// How soon a standby must write.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);
/// How soon everything must go on after the broker is back.
const BROKER_BACK_MAX: Duration = Duration::from_secs(10);
const GUARD: Duration = Duration::from_secs(60);
/// Kafka makes indexes of 10 MiB in advance.
const FILE_KIB_MAX: u32 = 12 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn kill9_broker_under_load() {
    let Some(lab) = enter("kill9_broker_under_load", &needs_on_kafka(Kind::Mysql)).await else {
        return;
    };
    let mut random = random(11);
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    for _ in 0..tenth_unless_long(KILLS_BROKER) {
        rest(&mut random, 1500).await;
        let kafka = busy.kafka.as_mut().expect("on kafka");
        kafka.kill9().expect("kill the broker");
        rest(&mut random, 3000).await;
        kafka.restart().await.expect("the broker is there again");
        goes_on(&busy.mcsqueal).await;
    }
    all_arrived(busy).await;
}

/// A broker that answers nothing, for longer than anybody's patience: connections stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_waited_for() {
    let Some(lab) = enter("a_frozen_broker_is_waited_for", &needs_on_kafka(Kind::Mysql)).await
    else {
        return;
    };
    let busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    sleep(Duration::from_secs(1)).await;
    let kafka = busy.kafka.as_ref().expect("on kafka");
    kafka.freeze().expect("freeze the broker");
    until("it says so", GUARD, async || is_in_trouble(&busy.mcsqueal).await).await;
    kafka.thaw().expect("thaw the broker");
    goes_on(&busy.mcsqueal).await;
    all_arrived(busy).await;
}

/// A broker whose disk is full halts. Once there is room, everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let Some(lab) = enter("a_full_disk_is_waited_for", &needs_on_kafka(Kind::Mysql)).await else {
        return;
    };
    let kafka = lab.servers.kafka_with_files_of(FILE_KIB_MAX).await.expect("kafka");
    let mut busy = Busy::start_on(lab, Kind::Mysql, kafka).await;
    sleep(Duration::from_secs(1)).await;
    let kafka = busy.kafka.as_mut().expect("on kafka");
    fill_up(&kafka.address()).await;
    until("the broker gives up", GUARD, async || kafka.has_ended()).await;
    until("it says so", GUARD, async || is_in_trouble(&busy.mcsqueal).await).await;
    busy.mcsqueal.alive().expect("it waits");
    let kafka = busy.kafka.as_mut().expect("on kafka");
    kafka.restart_with_room().await.expect("the broker is there again");
    goes_on(&busy.mcsqueal).await;
    all_arrived(busy).await;
}

/// Appends more to a topic of its own than a file may hold.
async fn fill_up(brokers: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("message.timeout.ms", "3000");
    let admin: AdminClient<DefaultClientContext> = config.create().expect("an admin");
    let new = NewTopic::new("filler", 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.expect("made");
    let producer: BaseProducer = config.create().expect("a producer");
    let payload = vec![7; 500_000];
    for _ in 0..FILE_KIB_MAX / 400 {
        let one = BaseRecord::<(), _>::to("filler").payload(&payload);
        producer.send(one).map_err(|(err, _)| err).expect("queued");
    }
    let flushed = tokio::task::spawn_blocking(move || producer.flush(GUARD)).await;
    drop(flushed.expect("no panic")); // What is too much is refused, in some way.
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_tailer_under_load() {
    let Some(lab) = enter("kill9_tailer_under_load", &needs_on_kafka(Kind::Mysql)).await else {
        return;
    };
    let mut random = random(12);
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    for _ in 0..tenth_unless_long(KILLS_TAILER) {
        rest(&mut random, 2000).await;
        busy.mcsqueal.kill9().expect("kill mcsqueal");
        rest(&mut random, 100).await;
        busy.mcsqueal.start().expect("start mcsqueal");
        // Sometimes it is killed before it is ready.
        if !random.one_in(4) {
            busy.mcsqueal.ready().await.expect("mcsqueal is ready again");
        }
    }
    all_arrived(busy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over() {
    let Some(lab) = enter("a_standby_takes_over", &needs_on_kafka(Kind::Mysql)).await else {
        return;
    };
    let mut random = random(13);
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    for _ in 0..tenth_unless_long(TAKE_OVERS) {
        until("one leads", GUARD, async || leads(&busy.mcsqueal).await).await;
        let standby = busy.standby().await;
        rest(&mut random, 1000).await;
        assert!(!leads(&standby).await, "two lead");
        let mut killed = std::mem::replace(&mut busy.mcsqueal, standby);
        killed.kill9().expect("kill the leader");
        let at = Instant::now();
        until("one leads", GUARD, async || leads(&busy.mcsqueal).await).await;
        let took = at.elapsed();
        assert!(took < TAKE_OVER_MAX, "the standby took over after {took:?}");
    }
    all_arrived(busy).await;
}

/// A node is away for so long that the log no longer reaches back to it.
#[tokio::test(flavor = "multi_thread")]
async fn retention_overtakes_a_node() {
    let Some(lab) = enter("retention_overtakes_a_node", &needs_on_kafka(Kind::Mysql)).await else {
        return;
    };
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    sleep(Duration::from_secs(2)).await;
    busy.memcached[0].freeze().expect("freeze a node");
    sleep(Duration::from_secs(1)).await;
    // As if it had been away for a day: what the process had in memory is gone as well.
    busy.mcsqueal.kill9().expect("kill mcsqueal");
    let brokers = busy.kafka.as_ref().expect("on kafka").address();
    for partition in 0..4 {
        forget(&brokers, TOPIC, partition, 0).await;
    }
    busy.memcached[0].thaw().expect("thaw it");
    busy.mcsqueal.restart().await.expect("mcsqueal is ready again");
    let gaps = async || busy.mcsqueal.metric("mcsqueal_lane_gaps_total", "").await > 0.0;
    until("a gap is found", GUARD, gaps).await;
    // Who had nothing stored finds it with the first record of the new term.
    until("it leads", GUARD, async || leads(&busy.mcsqueal).await).await;
    // Nodes are emptied twice, like keys are deleted twice; then customers fill them.
    sleep(Duration::from_secs(7)).await;
    busy.nothing_is_stale().await;
}

/// Every key that the binlog implies is in the log, and no node has anything stale.
async fn all_arrived(mut busy: Busy) {
    busy.everybody_leaves().await;
    busy.mcsqueal.ready().await.expect("mcsqueal is ready");
    everything_is_covered(&busy).await;
    busy.nothing_is_stale().await;
}

/// The broker is back: deletes go on soon.
async fn goes_on(mcsqueal: &Mcsqueal) {
    let back = Instant::now();
    let before = deletes(mcsqueal).await;
    until("deletes go on", GUARD, async || deletes(mcsqueal).await > before + 20.0).await;
    let took = back.elapsed();
    assert!(took < BROKER_BACK_MAX, "it went on after {took:?}");
}

/// Whether it says that the stream takes nothing.
async fn is_in_trouble(mcsqueal: &Mcsqueal) -> bool {
    let address = mcsqueal.http().expect("it listens");
    let (status, page) = http::get(address, "/health").await.expect("an answer");
    let health: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    status == 503 && health["stream"]["trouble"].is_string()
}

/// Deletes that nodes have answered so far.
async fn deletes(mcsqueal: &Mcsqueal) -> f64 {
    mcsqueal.metric("mcsqueal_lane_deletes_total", "pass=\"First\"").await
}

/// Whether it writes the stream, and reads the binlog.
pub(crate) async fn leads(mcsqueal: &Mcsqueal) -> bool {
    let health = mcsqueal.health().await.unwrap_or_default();
    health["stream"]["leads"] == true && health["tailer"]["connected"] == true
}

async fn rest(random: &mut Random, ms_max: u64) {
    sleep(Duration::from_millis(random.below(ms_max))).await;
}
