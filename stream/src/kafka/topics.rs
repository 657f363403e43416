//! The topics: made as they must be, and looked at when they are there already.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    error::RDKafkaErrorCode,
};

use super::{
    client::{ANSWER_DEADLINE, Context, POLL, append_error, read_error},
    settings::{MESSAGE_BYTES_MAX, Settings},
};
use crate::StreamError;

/// A checkpoint that another writer's late note might replace is kept at least this long.
const COMPACTION_LAG: Duration = Duration::from_secs(600);
/// State is read whole at every start; closed segments of this size are what compaction works on.
const STATE_SEGMENT_BYTES: u64 = 16 << 20;

/// How often the settings of a topic that was just made are asked for.
const TRIES_MAX: u32 = 20;

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Records,
    Notes,
}

/// A setting that weakens what the stream promises, for people.
pub type Finding = String;

/// The client that makes topics and asks for settings.
pub(super) type Admin = AdminClient<Context>;

/// See [`Admin`]. It is the first client that is made, so it finds out what librdkafka makes of the properties.
pub(super) fn admin(settings: &Settings, context: &Context) -> Result<Admin, StreamError> {
    let made = AdminClient::from_config_and_context(&settings.client(), context.clone());
    made.map_err(|err| StreamError::Refused { what: format!("the properties: {err}") })
}

/// Makes the topics that are missing, and judges those that are there.
pub(super) async fn ensure(
    admin: &Admin,
    settings: &Settings,
    make: Make,
) -> Result<Vec<Finding>, StreamError> {
    let topics = [
        (settings.topic.clone(), Kind::Records),
        (settings.state_topic(), Kind::Notes),
        (settings.cursors_topic(), Kind::Notes),
    ];
    let mut findings = Vec::new();
    for (topic, kind) in topics {
        let makes = match make {
            Make::All => true,
            Make::Cursors => kind == Kind::Notes && topic == settings.cursors_topic(),
            Make::Nothing => false,
        };
        if makes {
            create(admin, settings, &topic, kind).await?;
        }
        let patience = if make == Make::Nothing { 0 } else { TRIES_MAX };
        match look(admin, settings, &topic, kind, patience, &mut findings).await {
            Err(StreamError::Refused { what }) if make == Make::Nothing => findings.push(what),
            looked => looked?,
        }
    }
    Ok(findings)
}

/// Which topics are made if they are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// All: this is where the log is written.
    All,
    /// That of cursors: the others are written, or copied to here, by somebody else.
    Cursors,
    /// None: somebody only looks.
    Nothing,
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER_DEADLINE))
        .operation_timeout(Some(ANSWER_DEADLINE))
}

async fn create(
    admin: &Admin,
    settings: &Settings,
    topic: &str,
    kind: Kind,
) -> Result<(), StreamError> {
    let partitions = match kind {
        Kind::Records => i32::from(settings.partitions),
        Kind::Notes => 1,
    };
    let wanted = wanted(settings, kind);
    let replication = TopicReplication::Fixed(i32::from(settings.replication));
    let mut new = NewTopic::new(topic, partitions, replication);
    for (name, value) in &wanted {
        new = new.set(name, value);
    }
    let made = admin.create_topics([&new], &options()).await.map_err(append_error)?;
    match made.into_iter().next() {
        Some(Err((topic, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            return Err(StreamError::Refused { what: format!("make topic {topic}: {code}") });
        }
        Some(Ok(topic)) => tracing::info!(topic, partitions, "made a topic"),
        Some(Err(_)) | None => {}
    }
    Ok(())
}

/// The settings of a new topic, and what those of an old one are compared with.
fn wanted(settings: &Settings, kind: Kind) -> BTreeMap<&'static str, String> {
    let mut wanted = BTreeMap::from([
        ("min.insync.replicas", settings.in_sync_min.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
    ]);
    match kind {
        Kind::Records => {
            wanted.insert("cleanup.policy", "delete".to_owned());
            // A writer's clock that is wrong must not stop the stream.
            wanted.insert("message.timestamp.after.max.ms", i64::MAX.to_string());
            wanted.insert("message.timestamp.before.max.ms", i64::MAX.to_string());
            wanted.insert("retention.ms", settings.retention_age.as_millis().to_string());
        }
        Kind::Notes => {
            wanted.insert("cleanup.policy", "compact".to_owned());
            wanted.insert("min.compaction.lag.ms", COMPACTION_LAG.as_millis().to_string());
            wanted.insert("min.cleanable.dirty.ratio", "0.1".to_owned());
            wanted.insert("segment.bytes", STATE_SEGMENT_BYTES.to_string());
        }
    }
    wanted
}

async fn look(
    admin: &Admin,
    settings: &Settings,
    topic: &str,
    kind: Kind,
    tries_max: u32,
    findings: &mut Vec<Finding>,
) -> Result<(), StreamError> {
    let mut tries = 0;
    let described = loop {
        let topic = ResourceSpecifier::Topic(topic);
        let described = admin.describe_configs([&topic], &options()).await.map_err(read_error)?;
        match described.into_iter().next() {
            // A topic that was just made has no settings for a moment.
            Some(Ok(described))
                if described.get("cleanup.policy").is_none() && tries < tries_max => {}
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) if tries < tries_max => {}
            other => break other,
        }
        tries += 1;
        tokio::time::sleep(POLL).await;
    };
    let described = match described {
        Some(Ok(described)) => described,
        Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => {
            return Err(StreamError::Refused { what: format!("there is no topic {topic}") });
        }
        Some(Err(code)) => {
            findings.push(format!("the settings of topic {topic} cannot be read: {code}"));
            return Ok(());
        }
        None => return Ok(()),
    };
    let wanted = wanted(settings, kind);
    for (name, wanted) in &wanted {
        let Some(is) = described.get(name).and_then(|entry| entry.value.clone()) else { continue };
        match judge(name, &is, wanted) {
            Judgement::Fine => {}
            Judgement::Unsafe(why) => {
                findings.push(format!("topic {topic}: {name} is {is}, should be {wanted}: {why}"));
            }
            Judgement::Unusable(why) => {
                let what = format!("topic {topic}: {name} is {is}, must be {wanted}: {why}");
                return Err(StreamError::Refused { what });
            }
        }
    }
    Ok(())
}

/// What a setting of a topic means.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fine,
    /// It works, and something may be lost that should not.
    Unsafe(&'static str),
    /// It cannot work.
    Unusable(&'static str),
}

fn judge(name: &str, is: &str, wanted: &str) -> Judgement {
    let number = |text: &str| text.parse::<i64>().unwrap_or(i64::MAX);
    match name {
        "cleanup.policy" if is == wanted => Judgement::Fine,
        "cleanup.policy" if wanted == "compact" => {
            Judgement::Unusable("checkpoints and epochs would be deleted by their age")
        }
        "cleanup.policy" => Judgement::Unusable("records without a key would be refused"),
        "min.insync.replicas" if number(is) < number(wanted) => {
            Judgement::Unsafe("acknowledged records may be lost with one broker")
        }
        "unclean.leader.election.enable" if is != wanted => {
            Judgement::Unsafe("acknowledged records may be lost in an election")
        }
        "max.message.bytes" if number(is) < number(wanted) => {
            Judgement::Unsafe("a large record is refused, and everything behind it waits")
        }
        // -1 is for ever.
        "retention.ms" if number(is) >= 0 && number(is) < number(wanted) => {
            Judgement::Unsafe("regions that are away for longer lose their caches")
        }
        "min.compaction.lag.ms" if number(is) < number(wanted) => {
            Judgement::Unsafe("a late note of a writer that was replaced may displace a checkpoint")
        }
        _ => Judgement::Fine,
    }
}

/// How many partitions and, at least, how many replicas a topic has.
pub(super) fn shape(metadata: &rdkafka::metadata::Metadata, topic: &str) -> Option<(u16, usize)> {
    let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
    let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min()?;
    Some((u16::try_from(topic.partitions().len()).ok()?, replicas))
}

/// Whether each partition of a topic has a leader.
pub(super) fn has_leaders(metadata: &rdkafka::metadata::Metadata, topic: &str) -> bool {
    let mut found = metadata.topics().iter().filter(|found| found.name() == topic);
    found.next().is_some_and(|topic| {
        !topic.partitions().is_empty()
            && topic.partitions().iter().all(|partition| partition.leader() >= 0)
    })
}

/// The shortest session timeout that the brokers allow, if the one with this id says so.
pub(super) async fn session_timeout_min(admin: &Admin, broker: i32) -> Option<Duration> {
    let broker = ResourceSpecifier::Broker(broker);
    let described = admin.describe_configs([&broker], &options()).await.ok()?;
    let described = described.into_iter().next()?.ok()?;
    let value = described.get("group.min.session.timeout.ms")?.value.clone()?;
    value.parse().ok().map(Duration::from_millis)
}

/// What it means that the brokers demand a longer session timeout than ours.
pub(super) fn judge_session(settings: &Settings, demanded: Duration) -> Option<Finding> {
    (demanded > settings.session_timeout).then(|| {
        format!(
            "the brokers' group.min.session.timeout.ms is {}: a standby takes over no sooner than after that; set it to {} there",
            demanded.as_millis(),
            settings.session_timeout.as_millis()
        )
    })
}

/// What replication that is too low means.
pub(super) fn judge_replication(
    settings: &Settings,
    topic: &str,
    replicas: usize,
) -> Option<Finding> {
    (replicas < usize::from(settings.replication)).then(|| {
        format!(
            "topic {topic}: a partition has {replicas} replicas, should have {}: it is lost with them",
            settings.replication
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_settings_are_reported_and_unusable_ones_refused() {
        let mut table = String::new();
        for (name, is, wanted) in [
            ("cleanup.policy", "compact", "compact"),
            ("cleanup.policy", "compact,delete", "compact"),
            ("cleanup.policy", "compact", "delete"),
            ("min.insync.replicas", "1", "2"),
            ("min.insync.replicas", "3", "2"),
            ("unclean.leader.election.enable", "true", "false"),
            ("max.message.bytes", "1048588", "4194304"),
            ("retention.ms", "-1", "86400000"),
            ("retention.ms", "3600000", "86400000"),
            ("min.compaction.lag.ms", "0", "600000"),
            ("segment.bytes", "1", "2"),
        ] {
            table.push_str(&format!("{name}={is} for {wanted}: {:?}\n", judge(name, is, wanted)));
        }
        expect_test::expect![[r#"
            cleanup.policy=compact for compact: Fine
            cleanup.policy=compact,delete for compact: Unusable("checkpoints and epochs would be deleted by their age")
            cleanup.policy=compact for delete: Unusable("records without a key would be refused")
            min.insync.replicas=1 for 2: Unsafe("acknowledged records may be lost with one broker")
            min.insync.replicas=3 for 2: Fine
            unclean.leader.election.enable=true for false: Unsafe("acknowledged records may be lost in an election")
            max.message.bytes=1048588 for 4194304: Unsafe("a large record is refused, and everything behind it waits")
            retention.ms=-1 for 86400000: Fine
            retention.ms=3600000 for 86400000: Unsafe("regions that are away for longer lose their caches")
            min.compaction.lag.ms=0 for 600000: Unsafe("a late note of a writer that was replaced may displace a checkpoint")
            segment.bytes=1 for 2: Fine
        "#]].assert_eq(&table);
    }
}
