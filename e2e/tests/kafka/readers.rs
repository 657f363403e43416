//! Who else reads the stream: a consumer in another language, written from the .proto alone, and our tools. All find
//! the same keys.

use std::collections::BTreeSet;

use e2e::{
    busy::{Busy, TOPIC},
    lab::{enter, needs_on_kafka, output, repository},
    servers::{Kind, mcsqueal_binary},
};
use schemas::{
    cursor::{Partition, Place},
    record::{Record, UnixMicros},
};
use serde_json::Value;
use stream::{
    Read, ReadLimit, Reader,
    kafka::{Kafka, KafkaReader, Settings},
};
use tokio::{process::Command, time::sleep};

#[tokio::test(flavor = "multi_thread")]
async fn python_and_our_tools_find_the_same_keys() {
    let mut needs = needs_on_kafka(Kind::Mysql).to_vec();
    needs.push("python");
    let Some(lab) = enter("python_and_our_tools_find_the_same_keys", &needs).await else { return };
    let python = lab.servers.manifest().program("python").expect("it was there").argv.clone();
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    sleep(std::time::Duration::from_secs(3)).await;
    // Two terms.
    busy.mcsqueal.kill9().expect("kill mcsqueal");
    busy.mcsqueal.restart().await.expect("mcsqueal is ready again");
    sleep(std::time::Duration::from_secs(2)).await;
    busy.mcsqueal.stop().await.expect("mcsqueal stops");
    let brokers = busy.kafka.as_ref().expect("on kafka").address();

    let mut command = Command::new(&python[0]);
    command.args(&python[1..]).arg(repository().join("e2e/python/stream_keys.py"));
    command.arg("--proto").arg(repository().join("schemas/proto/mcsqueal/stream/v1.proto"));
    command.args(["--brokers", &brokers, "--topic", TOPIC]);
    let asked = output(&mut command).await.expect("Python runs");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{said}");
    let theirs: BTreeSet<String> =
        String::from_utf8(asked.stdout).expect("text").lines().map(str::to_owned).collect();

    let ours = keys(&reader(&brokers).await).await;
    assert!(ours.len() > 200, "hardly any keys: {}", ours.len());
    assert!(theirs == ours, "{:?}", theirs.symmetric_difference(&ours).take(5).collect::<Vec<_>>());

    let config = busy.mcsqueal.directory().join("region.toml");
    let tool = async |arguments: &[&str]| {
        let mut command = Command::new(mcsqueal_binary().expect("it was there"));
        let asked = output(command.args(arguments).arg("--config").arg(&config)).await;
        let asked = asked.expect("the tool runs");
        let said = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "{arguments:?}: {said}");
        String::from_utf8(asked.stdout).expect("text")
    };
    let verified = tool(&["stream", "verify"]).await;
    assert_eq!(verified.matches(" 0 problems").count(), 4, "{verified}");
    let all = tool(&["stream", "tail", "--json"]).await;
    let lines = keys_of(&all);
    let shown: BTreeSet<String> = lines
        .iter()
        .map(|line| format!("{} {} {}", line["partition"], line["place"], line["key"]))
        .collect();
    assert_eq!(shown.len(), places_and_keys(&ours), "as many keys at as many places");
    let users = tool(&["stream", "tail", "--prefix", "user:", "--table", "shop.users"]).await;
    assert!(users.lines().count() > 5, "{users}");
    assert!(users.lines().all(|line| line.contains(" user:")), "{users}");
    filters_show_what_passes(&tool, &lines).await;
    let all_at_once = tool(&["stream", "tail", "--json", "--from", "1h"]).await;
    assert_eq!(keys_of(&all_at_once), lines, "all of the last hour");
    let newest = tool(&["stream", "tail", "--from", "end"]).await;
    assert_eq!(newest, "", "nothing follows the end");
}

/// Each filter of the tool, on a log that has these lines.
async fn filters_show_what_passes(tool: &impl AsyncFn(&[&str]) -> String, lines: &[Value]) {
    let one = &lines[lines.len() / 2];
    let text = |name: &str| one[name].as_str().expect("text").to_owned();
    let (key, rule, version, place) = (text("key"), text("rule"), text("version"), text("place"));
    let partition = one["partition"].to_string();
    let (key_of, regex) =
        (|line: &Value| line["key"].as_str().unwrap_or_default().to_owned(), "1$");
    let same_key = |line: &Value| key_of(line) == key;
    let matches = |line: &Value| key_of(line).ends_with('1');
    let same_rule = |line: &Value| line["rule"] == one["rule"];
    let since = |line: &Value| pair(&line["version"], '.') >= pair(&one["version"], '.');
    let later = |line: &Value| {
        line["partition"] == one["partition"]
            && pair(&line["place"], ':') > pair(&one["place"], ':')
    };
    let expect = async |flags: &[&str], passes: &dyn Fn(&Value) -> bool| {
        let found = keys_of(&tool(&[&["stream", "tail", "--json"], flags].concat()).await);
        let expected: Vec<&Value> = lines.iter().filter(|line| passes(line)).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{flags:?}");
    };
    expect(&["--key", &key], &same_key).await;
    expect(&["--regex", regex], &matches).await;
    expect(&["--rule", &rule], &same_rule).await;
    expect(&["--from", &version], &since).await;
    expect(&["--partition", &partition, "--from", &place], &later).await;
}

/// The lines of keys, as JSON.
fn keys_of(said: &str) -> Vec<Value> {
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["kind"] == "key").collect()
}

/// Both numbers of a version or a place.
fn pair(text: &Value, between: char) -> (u64, u64) {
    let (one, other) = text.as_str().and_then(|text| text.split_once(between)).expect("two");
    (one.parse().expect("a number"), other.parse().expect("a number"))
}

/// How many different keys at different places are in the script's lines.
fn places_and_keys(lines: &BTreeSet<String>) -> usize {
    let without_version = |line: &String| {
        let parts: Vec<&str> = line.split('\t').collect();
        format!("{} {} {}", parts[0], parts[1], parts[3])
    };
    lines.iter().map(without_version).collect::<BTreeSet<String>>().len()
}

/// The shop's log, as somebody else reads it.
pub(crate) async fn reader(brokers: &str) -> KafkaReader {
    let settings = Settings {
        replication: 1,
        in_sync_min: 1,
        ..Settings::new(brokers.to_owned(), TOPIC.to_owned(), || UnixMicros(0))
    };
    let kafka = Kafka::attach(settings).await.expect("the log is there");
    kafka.reader().await.expect("a reader")
}

/// One line per key, as the script prints it.
async fn keys(reader: &KafkaReader) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for partition in (0..reader.partitions()).map(Partition) {
        let mut place = Place::START;
        let head = reader.head(partition).await.expect("a head");
        while place < head {
            let limit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };
            let read = reader.read_after(partition, place, limit).await.expect("a read");
            let Read::Entries(entries) = read else { panic!("a gap") };
            for entry in entries {
                place = entry.place;
                let Record::Invalidations(invalidations) = entry.record else { continue };
                for transaction in &invalidations.transactions {
                    for invalidation in &transaction.keys {
                        let key = hex(invalidation.key.as_bytes());
                        let version = transaction.version.bits();
                        out.insert(format!("{partition}\t{place}\t{version}\t{key}"));
                    }
                }
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
