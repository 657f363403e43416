//! Brokers that let in only whom they know: with a password (SASL), and through TLS.

use std::{fmt::Write, fs, path::Path};

use e2e::{
    lab::{Lab, enter, output, repository},
    servers::{Access, Kafka as Broker, mcsqueal_binary},
};
use schemas::{config::Property, cursor::Place};
use stream::kafka::Settings;
use tokio::process::Command;

use crate::{
    conformance::Topic,
    suite::{self, Home, numbered, read_all},
};

/// Without OpenSSL: part of every build.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_a_broker() {
    let Some(lab) = enter("a_password_opens_a_broker", &["kafka"]).await else { return };
    opens(&lab, Access::Password).await;
}

/// A build without TLS says so; one with it goes through.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_a_feature() {
    let Some(lab) = enter("tls_is_a_feature", &["kafka"]).await else { return };
    if cfg!(feature = "kafka-tls") {
        return opens(&lab, Access::Tls).await;
    }
    let folder = lab.servers.directory();
    let nobody = "127.0.0.1:1";
    let region = region(folder, nobody, "none", Access::Tls, Path::new("ca.pem"));
    let (status, said) = verify(&region).await;
    assert_eq!(status, Some(64), "{said}");
    assert!(said.contains("build it with --features kafka-tls"), "{said}");
}

async fn opens(lab: &Lab, access: Access) {
    let kafka = lab.servers.kafka_for(access).await.expect("kafka");
    let topic = topic(&kafka, access);
    let writer = topic.lead().await;
    suite::append(&writer, 0, 1).await;
    let share = topic.open().await.share("region", None).expect("a member");
    assert!(share.trouble().borrow().is_none());
    let (entries, gaps) = read_all(&topic.reader().await, 0, Place::START).await;
    assert_eq!((entries.iter().filter(|entry| entry.record == numbered(1)).count(), gaps), (1, 0));

    let folder = lab.servers.directory();
    let name = &topic.settings.topic;
    let region = region(folder, &kafka.address(), name, access, &kafka.ca_file());
    let secret = folder.join("kafka.secret");
    fs::write(&secret, format!("{}\n", access.password())).expect("a secret");
    let (status, said) = verify(&region).await;
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(said.matches(" 0 problems").count(), usize::from(suite::PARTITIONS), "{said}");

    let wrong = "another-secret-1177";
    fs::write(&secret, wrong).expect("a secret");
    let (status, said) = verify(&region).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("uthentication failed"), "{said}");
    assert!(!said.contains(wrong), "{said}");
}

fn topic(kafka: &Broker, access: Access) -> Topic {
    let topic = Topic::new(kafka.address());
    let mut properties = access.client_properties(&kafka.ca_file());
    properties.push(("sasl.password", access.password().to_owned()));
    let properties = properties
        .into_iter()
        .map(|(name, value)| Property { name: name.to_owned(), value })
        .collect();
    Topic { settings: Settings { properties, ..topic.settings } }
}

/// Writes the region file of an example, but for its Kafka.
fn region(folder: &Path, brokers: &str, topic: &str, access: Access, ca_file: &Path) -> String {
    let examples = repository().join("region-configs");
    let text = fs::read_to_string(examples.join("shop-kafka.toml")).expect("an example");
    let mut properties = String::new();
    for (name, value) in access.client_properties(ca_file) {
        writeln!(properties, "\"{name}\" = \"{value}\"").expect("text");
    }
    properties.push_str("[stream.kafka.property_files]\n\"sasl.password\" = \"kafka.secret\"\n");
    let text = text
        .replace("127.0.0.1:9092", brokers)
        .replace("\"shop-invalidations\"", &format!("\"{topic}\""))
        .replace("\"compression.type\" = \"lz4\"\n", &properties);
    fs::copy(examples.join("shop.rules.toml"), folder.join("shop.rules.toml")).expect("rules");
    if !folder.join("kafka.secret").exists() {
        fs::write(folder.join("kafka.secret"), "x").expect("a secret");
    }
    let file = folder.join("region.toml");
    fs::write(&file, text).expect("a region file");
    file.display().to_string()
}

/// The exit status of a tool that reads the stream, and all that it says.
async fn verify(region: &str) -> (Option<i32>, String) {
    let mut command = Command::new(mcsqueal_binary().expect("it was there"));
    let asked = output(command.args(["stream", "verify", "--config", region])).await;
    let asked = asked.expect("the tool runs");
    let text = [asked.stdout, asked.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    (asked.status.code(), text.concat())
}
