//! Tests on a real Kafka. `cargo xtask test --stage kafka` provides it; where there is none, they are skipped by
//! name, or fail if `MCSQUEAL_REQUIRE` names it.

#[path = "../servers/support.rs"]
mod support;

#[tokio::test(flavor = "multi_thread")]
async fn comes_back() {
    let Some(lab) = support::enter("comes_back", &["kafka"]).await else { return };
    let mut kafka = lab.servers.kafka().await.expect("kafka");
    kafka.kill9().expect("kill");
    kafka.restart().await.expect("kafka again");
}
