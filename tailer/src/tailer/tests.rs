//! The whole pipeline on written binlogs: against keys computed by hand, and with crashes at every event.

mod binlog_writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use binlog_writer::{BinlogWriter, User, Written};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use schemas::{
    gtid::{Dialect, Gtid},
    record::{Origin, Record},
    rules::Rules,
};

use super::*;
use crate::settings::{Limits, StatementKeys};

const RULES: &str = r#"
[[rule]]
name = "users"
table = "shop.users"
keys = ["user:{id}", "email:{email|lower}"]
"#;

const LIMITS: Limits = Limits {
    batch_keys_max: 4,
    batch_bytes_max: 4000,
    record_bytes_max: 300,
    batches_in_flight_max: 1,
    transaction_keys_max: 20,
};
const NOW: UnixMicros = UnixMicros(7);

fn checkpoint() -> Checkpoint {
    Checkpoint {
        source: "s".into(),
        executed: GtidSet::empty(Dialect::MariaDb),
        position: None,
        epoch: None,
        version: Version::ZERO,
        recent: Vec::new(),
    }
}

fn tailer(checkpoint: Checkpoint) -> Tailer {
    ordered(Order::Numbers, checkpoint)
}

fn ordered(order: Order, checkpoint: Checkpoint) -> Tailer {
    Tailer::new(Start {
        dialect: Dialect::MariaDb,
        mode: Mode::Gtid,
        server_id: 1,
        checkpoint,
        partitions: 2,
        limits: LIMITS,
        rules: Arc::new(Rules::parse("rules.toml", RULES).unwrap()),
        order,
        statement_keys: StatementKeys::Ignored,
        cascades: None,
        metrics: Metrics::default(),
    })
}

fn step(tailer: &mut Tailer, event: &Written, out: &mut Vec<Batch>) {
    tailer.step(NOW, Input::Binlog(event.as_event()), out).unwrap();
}

/// Records as lines, partitions together.
fn shown(batches: &[Batch]) -> String {
    let mut text = String::new();
    for batch in batches {
        for (partition, record) in &batch.records {
            let line = match record {
                Record::Invalidations(of) => {
                    let each = of.transactions.iter().map(|part| {
                        let keys = part
                            .keys
                            .iter()
                            .map(|key| String::from_utf8_lossy(key.key.as_bytes()).into_owned());
                        let keys: Vec<_> = keys.collect();
                        format!(
                            "{}[{}]{}",
                            part.version,
                            keys.join(" "),
                            if part.last { "" } else { "..." }
                        )
                    });
                    each.collect::<Vec<_>>().join(" ")
                }
                Record::Floor(floor) => {
                    // Why an event cannot be read is the decoder's to word.
                    let reason = floor.reason.split(" cannot be read").next().unwrap();
                    format!("floor {} {:?}: {reason}", floor.version, floor.scope)
                }
                Record::Epoch(start) => {
                    format!("epoch {} from {} after {}", start.epoch, start.first, start.before)
                }
                Record::Progress(progress) => {
                    format!("progress {} {}", progress.version, progress.executed)
                }
                Record::TermStart(_) => "term".to_owned(),
            };
            writeln!(text, "{partition}: {line}").unwrap();
        }
        if let Some(at) = &batch.checkpoint {
            let epoch = at.epoch.as_ref().map_or(0, |start| start.epoch);
            writeln!(text, "   checkpoint {} version {} epoch {epoch}", at.executed, at.version)
                .unwrap();
        }
    }
    text
}

fn check(events: &[Written], expect: Expect) {
    let (mut tailer, mut out) = (tailer(checkpoint()), Vec::new());
    for event in events {
        step(&mut tailer, event, &mut out);
        tailer.step(NOW, Input::Idle, &mut out).unwrap();
    }
    expect.assert_eq(&shown(&out));
}

fn user(id: i32, email: &str) -> User {
    (id, Some(email.to_owned()))
}

#[test]
fn rows_become_keys() {
    let mut log = BinlogWriter::new();
    let events = [
        log.begin(1, 1),
        log.table_map("users"),
        log.insert(&[user(1, "Ann@x"), (2, None)]),
        log.update(&[(user(1, "Ann@x"), user(1, "b@x"))]),
        log.commit(),
        log.begin(1, 2),
        log.table_map("other"),
        log.insert(&[user(9, "c@x")]),
        log.commit(),
        log.begin(2, 1),
        log.table_map("users"),
        log.delete(&[user(1, "b@x")]),
        log.commit(),
    ];
    check(
        &events,
        expect![[r#"
            0: epoch 1 from 1 after 
            1: epoch 1 from 1 after 
               checkpoint  version 0.0 epoch 1
            0: 1.1[email:ann@x user:2]...
            1: 1.1[user:1 email:b@x]...
               checkpoint  version 0.0 epoch 1
            0: 1.1[]
            1: 1.1[]
               checkpoint 0-1-1 version 1.1 epoch 1
            0: epoch 2 from 1 after 0-1-2
            1: epoch 2 from 1 after 0-1-2
               checkpoint 0-1-2 version 1.2 epoch 2
            1: 2.1[user:1 email:b@x]
               checkpoint 0-1-2 version 2.1 epoch 2
        "#]],
    );
}

#[test]
fn what_cannot_be_listed_becomes_a_floor() {
    let mut log = BinlogWriter::new();
    let mut events = log.ddl(1, 1, "TRUNCATE users");
    events.extend(log.ddl(1, 2, "TRUNCATE other"));
    events.extend([
        log.begin(1, 3),
        log.table_map("users"),
        log.insert_without_id(),
        log.insert_without_id(),
        log.commit(),
        log.begin(1, 4),
        log.unknown(),
        log.commit(),
        log.begin(1, 5),
        log.insert(&[user(1, "not announced")]),
        log.commit(),
    ]);
    check(
        &events,
        expect![[r#"
            0: epoch 1 from 1 after 
            1: epoch 1 from 1 after 
               checkpoint  version 0.0 epoch 1
            0: floor 1.1 Prefixes(["email:", "user:"]): statement: TRUNCATE users
            1: floor 1.1 Prefixes(["email:", "user:"]): statement: TRUNCATE users
               checkpoint 0-1-1 version 1.1 epoch 1
            0: floor 1.3 Prefixes(["email:", "user:"]): rule users: a row image of shop.users lacks column id; is binlog_row_image FULL?
            1: floor 1.3 Prefixes(["email:", "user:"]): rule users: a row image of shop.users lacks column id; is binlog_row_image FULL?
               checkpoint 0-1-3 version 1.3 epoch 1
            0: floor 1.4 All: event of type 250
            1: floor 1.4 All: event of type 250
               checkpoint 0-1-4 version 1.4 epoch 1
            0: floor 1.5 All: event of type 23
            1: floor 1.5 All: event of type 23
               checkpoint 0-1-5 version 1.5 epoch 1
        "#]],
    );
}

#[test]
fn large_transactions_come_in_parts() {
    let mut log = BinlogWriter::new();
    let users: Vec<User> = (0..12).map(|id| (id, Some(format!("{id}@x")))).collect();
    let mut events = vec![log.begin(1, 1), log.table_map("users")];
    events.extend(users.iter().map(|user| log.insert(std::slice::from_ref(user))));
    events.push(log.commit());
    check(
        &events,
        expect![[r#"
            0: epoch 1 from 1 after 
            1: epoch 1 from 1 after 
               checkpoint  version 0.0 epoch 1
            0: 1.1[email:1@x]...
            1: 1.1[user:0 email:0@x user:1]...
               checkpoint  version 0.0 epoch 1
            0: 1.1[user:2 email:2@x email:3@x]...
            1: 1.1[user:3]...
               checkpoint  version 0.0 epoch 1
            0: 1.1[user:5 email:5@x]...
            1: 1.1[user:4 email:4@x]...
               checkpoint  version 0.0 epoch 1
            0: 1.1[email:7@x]...
            1: 1.1[user:6 email:6@x user:7]...
               checkpoint  version 0.0 epoch 1
            0: 1.1[user:8 email:8@x email:9@x]...
            1: 1.1[user:9]...
               checkpoint  version 0.0 epoch 1
            0: floor 1.1 Prefixes(["email:", "user:"]): the transaction has more keys than transaction_keys_max
            0: 1.1[]
            1: floor 1.1 Prefixes(["email:", "user:"]): the transaction has more keys than transaction_keys_max
            1: 1.1[]
               checkpoint 0-1-1 version 1.1 epoch 1
        "#]],
    );
}

#[test]
fn progress_waits_for_what_it_covers() {
    let mut log = BinlogWriter::new();
    let (mut tailer, mut out) = (tailer(checkpoint()), Vec::new());
    let observe = |tailer: &mut Tailer, at, executed: &str, out: &mut Vec<Batch>| {
        let executed = GtidSet::parse(Dialect::MariaDb, executed).unwrap();
        let observation = Observation { at: UnixMicros(at), executed, end: None };
        tailer.step(NOW, Input::Observed(observation), out).unwrap();
    };
    observe(&mut tailer, 1, "", &mut out);
    observe(&mut tailer, 2, "0-1-2", &mut out);
    for event in
        [log.begin(1, 1), log.table_map("users"), log.insert(&[user(1, "a")]), log.commit()]
    {
        step(&mut tailer, &event, &mut out);
    }
    observe(&mut tailer, 3, "0-1-9", &mut out);
    for event in [log.begin(1, 2), log.commit(), log.heartbeat()] {
        step(&mut tailer, &event, &mut out);
    }
    expect![[r#"
        0: progress 0.0 
        1: progress 0.0 
           checkpoint  version 0.0 epoch 0
        0: epoch 1 from 1 after 
        1: epoch 1 from 1 after 
           checkpoint  version 0.0 epoch 1
        0: 1.1[email:a]
        0: progress 1.2 0-1-2
        1: 1.1[user:1]
        1: progress 1.2 0-1-2
           checkpoint 0-1-2 version 1.2 epoch 1
    "#]]
    .assert_eq(&shown(&out));
}

#[test]
fn a_gap_is_a_floor_and_goes_on() {
    let mut log = BinlogWriter::new();
    let (mut tailer, mut out) = (tailer(checkpoint()), Vec::new());
    for event in [log.begin(1, 1), log.commit()] {
        step(&mut tailer, &event, &mut out);
    }
    out.clear();
    tailer.skip_to(GtidSet::parse(Dialect::MariaDb, "0-1-8").unwrap(), None, "purged", &mut out);
    for event in
        [log.begin(1, 9), log.table_map("users"), log.insert(&[user(1, "a")]), log.commit()]
    {
        step(&mut tailer, &event, &mut out);
    }
    tailer.step(NOW, Input::Idle, &mut out).unwrap();
    expect![[r#"
        0: floor 1.8 All: purged
        1: floor 1.8 All: purged
           checkpoint 0-1-8 version 1.8 epoch 1
        0: 1.9[email:a]
        1: 1.9[user:1]
           checkpoint 0-1-9 version 1.9 epoch 1
    "#]]
    .assert_eq(&shown(&out));
}

/// A server that reigned before, and reigns again after another one: what is read of its first reign does not begin the second.
#[test]
fn an_earlier_reign_is_not_the_present_one() {
    let mut log = BinlogWriter::new();
    let (mut tailer, mut out) = (tailer(checkpoint()), Vec::new());
    let server = Server {
        origin: Origin::MariaDb { domain: 0, server_id: 1 },
        next_number: 3,
        executed: GtidSet::parse(Dialect::MariaDb, "0-1-1,0-2-2").unwrap(),
        purged: GtidSet::empty(Dialect::MariaDb),
        predecessor: None,
    };
    tailer.connected(server, &mut out).unwrap();
    for event in [log.begin(1, 1), log.commit(), log.begin(2, 2), log.commit()] {
        step(&mut tailer, &event, &mut out);
    }
    let records = out.iter().flat_map(|batch| &batch.records).filter(|(at, _)| at.0 == 0);
    let epochs: Vec<(u16, Origin, bool)> = records
        .filter_map(|(_, record)| match record {
            Record::Epoch(start) => Some((start.epoch, start.origin.clone(), start.lossless)),
            _ => None,
        })
        .collect();
    let of = |server_id| Origin::MariaDb { domain: 0, server_id };
    assert_eq!(epochs, [(1, of(1), true), (2, of(2), true), (3, of(1), false)]);
}

/// Several writers: one epoch for all of them, and another one for each connection.
#[test]
fn in_hold_off_mode_connections_open_epochs() {
    let mut log = BinlogWriter::new();
    let events: Vec<Written> = [(1, 7), (2, 3), (1, 8)]
        .into_iter()
        .flat_map(|(server, sequence)| {
            let key = user(i32::try_from(sequence).unwrap(), "a");
            [log.begin(server, sequence), log.table_map("users"), log.insert(&[key]), log.commit()]
        })
        .collect();
    let connected_to = |server_id, executed: &str| Server {
        origin: Origin::MariaDb { domain: 0, server_id },
        next_number: 1,
        executed: GtidSet::parse(Dialect::MariaDb, executed).unwrap(),
        purged: GtidSet::empty(Dialect::MariaDb),
        predecessor: None,
    };
    let mut out = Vec::new();
    let mut first = ordered(Order::Binlog, checkpoint());
    first.connected(connected_to(1, ""), &mut out).unwrap();
    for event in &events {
        step(&mut first, event, &mut out);
    }
    first.step(NOW, Input::Idle, &mut out).unwrap();
    // Of what was published, only the first transaction's checkpoint is durable; another server has the others in another order.
    let durable = Checkpoint {
        executed: GtidSet::parse(Dialect::MariaDb, "0-1-7").unwrap(),
        ..first.checkpoint()
    };
    let mut second = ordered(Order::Binlog, durable);
    second.connected(connected_to(2, "0-1-8,0-2-3"), &mut out).unwrap();
    for event in events[8..].iter().chain(&events[4..8]) {
        step(&mut second, event, &mut out);
    }
    second.step(NOW, Input::Idle, &mut out).unwrap();
    expect![[r#"
        0: epoch 1 from 1 after 
        1: epoch 1 from 1 after 
           checkpoint  version 1.0 epoch 1
        0: 1.1[email:a] 1.2[email:a]...
        1: 1.1[user:7] 1.2[user:3]...
           checkpoint 0-1-7 version 1.1 epoch 1
        0: 1.2[] 1.3[user:8 email:a]
        1: 1.2[]
           checkpoint 0-1-8 version 1.3 epoch 1
        0: epoch 2 from 8 after 0-1-7
        1: epoch 2 from 8 after 0-1-7
           checkpoint 0-1-7 version 2.0 epoch 2
        0: 2.8[user:8 email:a] 2.9[email:a]...
        1: 2.9[user:3]...
           checkpoint 0-1-8 version 2.8 epoch 2
        0: 2.9[]
        1: 2.9[]
           checkpoint 0-1-8 version 2.9 epoch 2
    "#]]
    .assert_eq(&shown(&out));
    let lossless = |record: &Record| match record {
        Record::Epoch(start) => Some(start.lossless),
        _ => None,
    };
    let epochs = out.iter().flat_map(|batch| &batch.records);
    let epochs: Vec<bool> =
        epochs.filter(|(at, _)| at.0 == 0).filter_map(|(_, it)| lossless(it)).collect();
    assert_eq!(epochs, [true, false], "the other server may have lost something");
}

/// A transaction of the property test.
#[derive(Clone, Debug)]
enum Change {
    Insert(User),
    Update(User, User),
    Delete(User),
    Other(User),
}

fn any_user() -> impl Strategy<Value = User> {
    (0..9_i32, prop::option::of("[A-Ca-c]{1,2}"))
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_user().prop_map(Change::Insert),
        (any_user(), any_user()).prop_map(|(before, after)| Change::Update(before, after)),
        any_user().prop_map(Change::Delete),
        any_user().prop_map(Change::Other),
    ]
}

fn keys_of(user: &User, keys: &mut BTreeSet<String>) {
    keys.insert(format!("user:{}", user.0));
    keys.extend(user.1.as_ref().map(|email| format!("email:{}", email.to_lowercase())));
}

/// The events of each transaction, and the keys that it makes stale.
fn written(transactions: &[Vec<Change>]) -> Vec<(Vec<Written>, BTreeSet<String>)> {
    let mut log = BinlogWriter::new();
    let write = |(at, changes): (usize, &Vec<Change>)| {
        let (mut events, mut keys) = (vec![log.begin(1, at as u64 + 1)], BTreeSet::new());
        for change in changes {
            let table = if matches!(change, Change::Other(_)) { "other" } else { "users" };
            events.push(log.table_map(table));
            events.push(match change {
                Change::Insert(user) => {
                    keys_of(user, &mut keys);
                    log.insert(std::slice::from_ref(user))
                }
                Change::Update(before, after) => {
                    keys_of(before, &mut keys);
                    keys_of(after, &mut keys);
                    log.update(&[(before.clone(), after.clone())])
                }
                Change::Delete(user) => {
                    keys_of(user, &mut keys);
                    log.delete(std::slice::from_ref(user))
                }
                Change::Other(user) => log.insert(std::slice::from_ref(user)),
            });
        }
        events.push(log.commit());
        (events, keys)
    };
    transactions.iter().enumerate().map(write).collect()
}

proptest! {
    /// Crashes lose every batch that was not acknowledged; reading goes on behind the last acknowledged checkpoint.
    /// In the end every key of every transaction is on the stream at its version, or covered by a floor.
    #[test]
    fn nothing_is_lost_in_crashes(
        transactions in prop::collection::vec(prop::collection::vec(any_change(), 0..12), 1..12),
        crashes in prop::collection::vec((1..40_usize, 0..4_usize), 0..5),
    ) {
        let log = written(&transactions);
        let mut stream: Vec<Batch> = Vec::new();
        let mut stored = checkpoint();
        let mut crashes = crashes.into_iter();
        loop {
            let crash = crashes.next();
            let (mut tailer, mut out) = (tailer(stored.clone()), Vec::new());
            let done = |at: usize| {
                stored.executed.contains(&Gtid::MariaDb { domain: 0, server_id: 1, sequence: at as u64 + 1 })
            };
            let first = (0..log.len()).find(|at| !done(*at)).unwrap_or(log.len());
            let events: Vec<&Written> = log[first..].iter().flat_map(|(events, _)| events).collect();
            let read = crash.map_or(events.len(), |(after, _)| after.min(events.len()));
            for (at, event) in events[..read].iter().enumerate() {
                step(&mut tailer, event, &mut out);
                if at % 3 == 0 {
                    tailer.step(NOW, Input::Idle, &mut out).unwrap();
                }
            }
            if crash.is_none() {
                tailer.step(NOW, Input::Tick, &mut out).unwrap();
            }
            let lost = crash.map_or(0, |(_, lost)| lost.min(out.len()));
            out.truncate(out.len() - lost);
            for batch in out {
                stored = batch.checkpoint.clone().unwrap_or(stored);
                stream.push(batch);
            }
            if crash.is_none() {
                break;
            }
        }
        check_stream(&stream, &log)?;
        prop_assert_eq!(stored.executed.to_string(), format!("0-1-{}", log.len()));
    }
}

fn check_stream(
    stream: &[Batch],
    log: &[(Vec<Written>, BTreeSet<String>)],
) -> Result<(), TestCaseError> {
    let mut listed: BTreeMap<Version, BTreeSet<String>> = BTreeMap::new();
    let mut floored = BTreeSet::new();
    let mut epochs = BTreeSet::new();
    for (_, record) in stream.iter().flat_map(|batch| &batch.records) {
        match record {
            Record::Invalidations(of) => {
                for part in &of.transactions {
                    prop_assert!(epochs.contains(&part.version.epoch()), "a key before its epoch");
                    let keys = part
                        .keys
                        .iter()
                        .map(|key| String::from_utf8_lossy(key.key.as_bytes()).into_owned());
                    listed.entry(part.version).or_default().extend(keys);
                }
            }
            Record::Floor(floor) => {
                floored.insert(floor.version);
            }
            Record::Epoch(start) => {
                epochs.insert(start.epoch);
            }
            Record::Progress(_) | Record::TermStart(_) => {}
        }
    }
    prop_assert_eq!(epochs.len(), 1, "one origin, one epoch");
    for (at, (_, keys)) in log.iter().enumerate() {
        let version = Version::new(1, at as u64 + 1).unwrap();
        let there = listed.remove(&version).unwrap_or_default();
        if floored.contains(&version) {
            prop_assert!(there.is_subset(keys));
        } else {
            prop_assert_eq!(&there, keys, "transaction {}", at + 1);
        }
    }
    prop_assert!(listed.is_empty(), "keys that nobody changed: {:?}", listed);
    Ok(())
}
