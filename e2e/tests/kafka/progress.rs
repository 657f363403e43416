//! How far the log is, as every partition of it says: soon after something has changed, and as often while nothing does.

use std::{fs, ops::RangeInclusive, time::Duration};

use e2e::{
    busy::Busy,
    lab::{enter, needs_on_kafka, until},
    servers::Kind,
};
use schemas::{
    cursor::{Partition, Place},
    defaults::PROGRESS_INTERVAL,
    gtid::GtidSet,
    record::{Progress, Record},
};
use stream::{Reader, kafka::KafkaReader};
use tokio::time::{Instant, sleep};

use crate::{covered::executed, kills::leads, readers::reader, suite::read_all};

const GUARD: Duration = Duration::from_secs(60);
/// How soon it must be said that everything is there, on a busy machine as well.
const SOON: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(3);
const RARELY: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_says_how_far_it_is() {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter("every_partition_says_how_far_it_is", &needs).await else { return };
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    until("much was changed", GUARD, async || busy.shop.stats().commits.get() > 200).await;
    busy.everybody_leaves().await;
    let executed = executed(&busy).await;
    let reader = reader(&busy.kafka.as_ref().expect("on kafka").address()).await;
    let partitions = || (0..reader.partitions()).map(Partition);
    for partition in partitions() {
        let is_said = async || {
            let said = progress(&reader, partition, Place::START).await;
            said.last().is_some_and(|(_, last)| last.executed.contains_all(&executed))
        };
        until("everything that was changed is covered", SOON, is_said).await;
    }

    is_said_regularly(&reader, PROGRESS_INTERVAL, &executed).await;
    // As often as somebody wants it.
    let file = busy.mcsqueal.directory().join("region.toml");
    let text = fs::read_to_string(&file).expect("a region file");
    let rarely = format!("[source]\nprogress_interval_ms = {}\n", RARELY.as_millis());
    fs::write(&file, text.replacen("[source]\n", &rarely, 1)).expect("a region file");
    busy.mcsqueal.stop().await.expect("it ends");
    busy.mcsqueal.restart().await.expect("it is there again");
    until("it leads", GUARD, async || leads(&busy.mcsqueal).await).await;
    is_said_regularly(&reader, RARELY, &executed).await;
    busy.mcsqueal.alive().expect("it runs");
}

/// While nothing changes, every partition says it again and again.
async fn is_said_regularly(reader: &KafkaReader, interval: Duration, executed: &GtidSet) {
    let partitions = (0..reader.partitions()).map(Partition);
    let mut heads = Vec::new();
    for partition in partitions.clone() {
        heads.push(reader.head(partition).await.expect("a head"));
    }
    let begun = Instant::now();
    sleep(IDLE).await;
    for (partition, head) in partitions.zip(heads) {
        let said = progress(reader, partition, head).await;
        let expected = counts(begun.elapsed(), interval);
        assert!(expected.contains(&said.len()), "{partition}: {} of {expected:?}", said.len());
        assert!(said.is_sorted_by(|(_, one), (_, next)| one.at < next.at), "{partition}: {said:?}");
        assert!(said.iter().all(|(_, said)| said.executed == *executed), "{partition}: {said:?}");
    }
}

/// What a partition may say in a time: not more often than it is told to, and not much less, even if all are busy.
fn counts(during: Duration, interval: Duration) -> RangeInclusive<usize> {
    let most = during.as_millis() / interval.as_millis();
    let most = usize::try_from(most).expect("few");
    (most / 10).max(1)..=most + 2
}

/// All records of progress in a partition after a place.
async fn progress(
    reader: &KafkaReader,
    partition: Partition,
    after: Place,
) -> Vec<(Place, Progress)> {
    let (entries, gaps) = read_all(reader, partition.0, after).await;
    assert_eq!(gaps, 0, "{partition}");
    let progress = entries.into_iter().filter_map(|entry| match entry.record {
        Record::Progress(progress) => Some((entry.place, progress)),
        _ => None,
    });
    progress.collect()
}
