//! Tests of the wire form: round trips, golden bytes, cut and random bytes, size.

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn set() -> impl Strategy<Value = GtidSet> {
    prop_oneof![
        Just(GtidSet::parse(Dialect::Mysql, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7,3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:1").unwrap()),
        Just(GtidSet::parse(Dialect::MariaDb, "0-1-5,7-2-9").unwrap()),
        Just(GtidSet::empty(Dialect::Mysql)),
    ]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zä.]{0,8}".prop_map(Arc::from)
}

fn version() -> impl Strategy<Value = Version> {
    any::<u64>().prop_map(Version::from_bits)
}

fn epoch() -> impl Strategy<Value = EpochStart> {
    let origin = prop_oneof![
        (any::<[u8; 16]>(), text(), any::<u32>())
            .prop_map(|(uuid, tag, server_id)| Origin::Mysql { uuid: Uuid(uuid), tag, server_id }),
        any::<(u32, u32)>().prop_map(|(domain, server_id)| Origin::MariaDb { domain, server_id }),
        any::<u32>().prop_map(|server_id| Origin::Positions { server_id }),
    ];
    (text(), any::<u16>(), origin, any::<u64>(), set(), any::<bool>()).prop_map(
        |(source, epoch, origin, first, before, lossless)| EpochStart {
            source,
            epoch,
            origin,
            first,
            before,
            lossless,
        },
    )
}

fn invalidations() -> impl Strategy<Value = Invalidations> {
    let operation =
        prop_oneof![Just(Operation::Insert), Just(Operation::Update), Just(Operation::Delete)];
    let invalidation =
        ("[a-z:0-9]{1,12}", text(), text(), operation).prop_map(|(key, table, rule, operation)| {
            Invalidation { key: Key::new(key).unwrap(), table, rule, operation }
        });
    let transaction =
        (version(), option::of(1..u64::MAX), any::<u64>(), any::<bool>(), vec(invalidation, 0..6))
            .prop_map(|(version, committed_at, received_at, last, keys)| Transaction {
                version,
                committed_at: committed_at.map(UnixMicros),
                received_at: UnixMicros(received_at),
                last,
                keys,
            });
    (text(), vec(transaction, 1..5)).prop_map(|(source, mut transactions)| {
        transactions.sort_by_key(|transaction| transaction.version);
        Invalidations { source, transactions }
    })
}

fn witness() -> impl Strategy<Value = Witness> {
    let gtid = prop_oneof![
        (0..3_u8, any::<u64>()).prop_map(|(of, number)| Gtid::Mysql {
            uuid: Uuid([of; 16]),
            tag: "".into(),
            number
        }),
        (0..2_u32, 0..3_u32, any::<u64>()).prop_map(|(domain, server_id, sequence)| {
            Gtid::MariaDb { domain, server_id, sequence }
        }),
    ];
    (gtid, any::<u64>()).prop_map(|(gtid, at)| Witness { gtid, committed_at: UnixMicros(at) })
}

fn record() -> impl Strategy<Value = Record> {
    let scope = prop_oneof![Just(Scope::All), vec(text(), 1..3).prop_map(Scope::Prefixes)];
    prop_oneof![
        (any::<u32>(), any::<u64>()).prop_map(|(term, sequence)| Record::TermStart(TermStart {
            previous: Place { term: Term(term), sequence }
        })),
        invalidations().prop_map(Record::Invalidations),
        (text(), set(), version(), any::<u64>()).prop_map(|(source, executed, version, at)| {
            Record::Progress(Progress { source, executed, version, at: UnixMicros(at) })
        }),
        (text(), scope, version(), text()).prop_map(|(source, scope, version, reason)| {
            Record::Floor(Floor { source, scope, version, reason })
        }),
        epoch().prop_map(Record::Epoch),
    ]
}

fn bytes_of(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(record, &mut bytes);
    bytes
}

/// The whole as one message, keys and all.
fn invalidations_out(invalidations: &Invalidations) -> proto::Invalidations {
    let (before, behind) = around_keys(invalidations);
    let keys = invalidations.transactions.iter().flat_map(|transaction| &transaction.keys);
    let keys = keys.map(|invalidation| invalidation.key.as_bytes().to_vec()).collect();
    proto::Invalidations {
        keys,
        source: before.source,
        transactions: before.transactions,
        ..behind
    }
}

proptest! {
    #[test]
    fn records_come_back(record in record()) {
        let bytes = bytes_of(&record);
        if let Record::Invalidations(invalidations) = &record {
            let kind = Some(Kind::Invalidations(invalidations_out(invalidations)));
            let mut whole = Vec::new();
            append(&proto::Record { kind }, &mut whole);
            prop_assert_eq!(&bytes, &whole);
        }
        prop_assert_eq!(decode(FORMAT_VERSION, &bytes), Ok(record));
        // A cut record is refused, or is whole in itself; it never panics.
        for end in 0..bytes.len() {
            drop(decode(FORMAT_VERSION, &bytes[..end]));
        }
    }

    #[test]
    fn checkpoints_come_back(source in text(), executed in set(), at in option::of((text(), any::<u64>())), epoch in option::of(epoch()), version in version(), recent in vec(witness(), 0..6)) {
        let position = at.map(|(file, offset)| FilePosition { file, offset });
        let checkpoint = Checkpoint { source, executed, position, epoch, version, recent };
        let mut bytes = Vec::new();
        encode_checkpoint(&checkpoint, &mut bytes);
        prop_assert_eq!(decode_checkpoint(FORMAT_VERSION, &bytes), Ok(checkpoint));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(decode(FORMAT_VERSION, &bytes));
        drop(decode_checkpoint(FORMAT_VERSION, &bytes));
    }

    /// Changed bytes of a real record are decoded or refused.
    #[test]
    fn no_change_panics(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = bytes_of(&record);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            drop(decode(FORMAT_VERSION, &bytes));
        }
    }
}

fn bulk(keys: usize) -> Record {
    let invalidation = |at: usize| Invalidation {
        key: Key::new(format!("user:{at:08}")).unwrap(),
        table: "shop.users".into(),
        rule: "users".into(),
        operation: Operation::Update,
    };
    let transaction = |at: usize| Transaction {
        version: Version::new(3, 1000 + at as u64).unwrap(),
        committed_at: Some(UnixMicros(1_800_000_000_000_000 + at as u64)),
        received_at: UnixMicros(1_800_000_000_001_000 + at as u64),
        last: true,
        keys: (at * 100..(at + 1) * 100).map(invalidation).collect(),
    };
    Record::Invalidations(Invalidations {
        source: "shop".into(),
        transactions: (0..keys / 100).map(transaction).collect(),
    })
}

/// At most 12 bytes per key over the key itself, in bulk.
#[test]
fn keys_cost_little() {
    let bytes = bytes_of(&bulk(1000)).len();
    let over = bytes - 1000 * "user:00000000".len();
    assert!(over <= 12 * 1000, "{over} bytes over 1000 keys");
    assert!(over >= 1000, "each key has at least its length");
}

/// What format 1 wrote once, it reads for ever, and writes again to the byte.
#[test]
fn golden_bytes() {
    const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/v1/invalidations.bin");
    let record = bulk(200);
    if std::env::var_os("UPDATE_EXPECT").is_some() && GOLDEN.is_empty() {
        std::fs::write("tests/golden/v1/invalidations.bin", bytes_of(&record)).unwrap();
        return;
    }
    assert_eq!(decode(1, GOLDEN), Ok(record.clone()));
    assert_eq!(bytes_of(&record), GOLDEN);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |message: proto::Record| {
        let mut bytes = Vec::new();
        append(&message, &mut bytes);
        decode(FORMAT_VERSION, &bytes).unwrap_err().to_string()
    };
    let invalidations = |change: fn(&mut proto::Invalidations)| {
        let Record::Invalidations(good) = bulk(100) else { panic!("bulk makes invalidations") };
        let mut message = invalidations_out(&good);
        change(&mut message);
        refused(proto::Record { kind: Some(Kind::Invalidations(message)) })
    };
    let senseless = |what| format!("the record makes no sense: {what}");
    assert_eq!(
        refused(proto::Record { kind: None }),
        senseless("it says nothing that this mcsqueal knows")
    );
    assert_eq!(invalidations(|message| message.transactions.clear()), senseless("no transaction"));
    assert_eq!(
        invalidations(|message| message.keys.truncate(1)),
        senseless("fewer keys than its transactions have")
    );
    assert_eq!(
        invalidations(|message| message.keys.push(b"k".to_vec())),
        senseless("more keys than its transactions have")
    );
    assert_eq!(
        invalidations(|message| message.keys[0].clear()),
        senseless("a key that memcached cannot hold")
    );
    assert_eq!(invalidations(|message| message.causes.clear()), senseless("a key without a cause"));
    assert_eq!(invalidations(|message| message.rules.clear()), senseless("an index out of range"));
    assert_eq!(
        invalidations(|message| message.causes[0].operation = 9),
        senseless("an unknown operation")
    );
    assert_eq!(decode(2, &[]), Err(WireError::Format { format: 2 }));
}
