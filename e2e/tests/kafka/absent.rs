//! A Kafka that is not there when mcsqueal starts: it waits, says so, and goes on by itself.

use std::time::Duration;

use e2e::{
    busy::Busy,
    http,
    lab::{enter, needs_on_kafka, until},
    servers::Kind,
};
use serde_json::Value;
use tokio::time::Instant;

const GUARD: Duration = Duration::from_secs(60);
/// How soon it must be ready once Kafka is back.
const READY_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_kafka_at_the_start() {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter("it_waits_for_kafka_at_the_start", &needs).await else { return };
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    busy.kafka.as_ref().expect("on kafka").freeze().expect("freeze the broker");
    busy.mcsqueal.stop().await.expect("mcsqueal stops, whoever does not answer");
    busy.kafka.as_mut().expect("on kafka").kill9().expect("kill the broker");
    let old = lines(&busy).len();
    busy.mcsqueal.start().expect("start mcsqueal");
    let mut address = None;
    until("it listens", GUARD, async || {
        let said = lines(&busy);
        let listens = said.iter().skip(old).find(|line| line["message"] == "listening");
        address = listens.and_then(|line| line["http"].as_str().map(str::to_owned));
        address.is_some()
    })
    .await;
    let address = address.expect("it listens");
    let mut health = Value::Null;
    until("it says what it waits for", GUARD, async || {
        let (status, page) = http::get(&address, "/health").await.expect("an answer");
        assert_eq!(status, 503, "{page}");
        health = serde_json::from_str(&page).expect("JSON");
        let trouble = health["stream"]["trouble"].as_str().unwrap_or_default();
        trouble.contains("on Kafka at")
    })
    .await;
    assert_eq!(health["stream"]["leads"], false, "{health}");
    let (_, metrics) = http::get(&address, "/metrics").await.expect("an answer");
    assert!(metrics.contains("\nmcsqueal_stream_writable 0\n"), "{metrics}");
    let warned =
        |line: &Value| line["message"].as_str().unwrap_or_default().contains("trying again");
    assert!(lines(&busy).iter().skip(old).any(warned), "the log says so");
    busy.mcsqueal.alive().expect("it runs");

    busy.kafka.as_mut().expect("on kafka").restart().await.expect("the broker is there");
    let back = Instant::now();
    busy.mcsqueal.ready().await.expect("it is ready");
    let took = back.elapsed();
    assert!(took < READY_MAX, "it was ready after {took:?}");
    busy.nothing_is_stale().await;
}

fn lines(busy: &Busy) -> Vec<Value> {
    let text = std::fs::read_to_string(busy.mcsqueal.log()).expect("a log");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
