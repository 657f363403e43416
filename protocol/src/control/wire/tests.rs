//! What each message looks like, what is refused, and that every cut of the same bytes says the same.

use bytes::BytesMut;
use expect_test::{Expect, expect};
use proptest::{collection::vec, prelude::*};
use schemas::{
    cursor::{Partition, Place, StreamId, Term},
    key::Key,
    record::{Scope, UnixMicros},
    ring::{Hashing, RingNode},
    version::Version,
};

use super::*;
use crate::control::{Agreement, Continuity, Item, Rewind};

fn decode(pieces: &[&[u8]]) -> (Vec<ToNode>, Option<Malformed>) {
    let (mut decoder, mut input, mut messages) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(malformed) => return (messages, Some(malformed)),
            }
        }
    }
    (messages, None)
}

/// Decodes, whole and cut at every byte, and encodes again.
fn check(text: &str, expect: Expect) {
    let bytes = text.as_bytes();
    let (messages, malformed) = decode(&[bytes]);
    for at in 0..bytes.len() {
        let (before, after) = bytes.split_at(at);
        assert_eq!(decode(&[before, after]), (messages.clone(), malformed.clone()), "cut at {at}");
    }
    let mut again = BytesMut::new();
    for message in &messages {
        encode(message, &mut again);
    }
    let mut shown = String::from_utf8_lossy(&again).into_owned();
    if let Some(malformed) = malformed {
        shown.push_str(&format!("! {malformed}"));
    }
    expect.assert_eq(&shown);
}

#[test]
fn a_conversation() {
    check(
        "hello 1 00000000000000ff 2 7 -\nheads 0=1:5 1=0:0\nbegin 1 3:0\nepoch 2 1.9 new-server 0.0\n\
         push 1.7 1.8 1.9 1.2 1\nclocks apart 3\nquarantine\nstats\n\
         peer 1 00000000000000ff 2 -\ncopies a b\nwalk - 500\nwalk 00000000000000ab 9\n\
         batch 1 1:5 1:9 6 1.7\nd a\nd b\na\n+3\nd a\na\np 1700000000000000\n\
         batch 0 1:1 2:1 3 1.7\nf\n=2.1\nf user: cart:\n+1\nd c\nbatch 0 2:1 2:2 0 0.0\n",
        expect![[r"
            hello 1 00000000000000ff 2 7 -
            heads 0=1:5 1=0:0
            begin 1 3:0
            epoch 2 1.9 new-server 0.0
            push 1.7 1.8 1.9 1.2 1
            clocks apart 3
            quarantine
            stats
            peer 1 00000000000000ff 2 -
            copies a b
            walk - 500
            walk 00000000000000ab 9
            batch 1 1:5 1:9 6 1.7
            d a
            d b
            a
            +3
            d a
            a
            p 1700000000000000
            batch 0 1:1 2:1 3 1.7
            f
            =2.1
            f user: cart:
            +1
            d c
            batch 0 2:1 2:2 0 0.0
        "]],
    );
}

/// Golden: how rings are said.
#[test]
fn rings() {
    let said = "rings 2\nring ketama 1 2\n1 10.0.0.1:11211\n3 [::1]:11211\nring weighted-ch3 0 1\n1000000 a\nstats\n";
    let (messages, malformed) = decode(&[said.as_bytes()]);
    let node = |name: &str, weight| RingNode { name: name.to_owned(), weight };
    let nodes = vec![node("10.0.0.1:11211", 1), node("[::1]:11211", 3)];
    let rings = vec![
        RingPlace { hashing: Hashing::Ketama, nodes, own: 1 },
        RingPlace { hashing: Hashing::WeightedCh3, nodes: vec![node("a", 1_000_000)], own: 0 },
    ];
    assert_eq!((messages, malformed), (vec![ToNode::Rings(rings), ToNode::Statistics], None));
    check(
        said,
        expect![[r"
            rings 2
            ring ketama 1 2
            1 10.0.0.1:11211
            3 [::1]:11211
            ring weighted-ch3 0 1
            1000000 a
            stats
        "]],
    );
}

#[test]
fn what_is_malformed_is_not_handed_out() {
    for (text, why) in [
        ("hello 2 00000000000000ff 2 7 -\n", "the other side speaks another version"),
        ("hello 1 ff 2 7 -\n", "not a message: hello 1 ff 2 7 -"),
        ("hello 1 00000000000000ff 0 7 -\n", "not a message"),
        ("hello 1 00000000000000ff 2 7 - more\n", "not a message"),
        ("hello 1 00000000000000ff 2 7 abc\n", "not a message"),
        ("\n", "not a message: "),
        ("stats \n", "not a message"),
        ("stats\r\n", r"not a message: stats\r"),
        ("set a 0 0 1\nb\n", "not a message: set a 0 0 1"),
        ("peer 2 00000000000000ff 2 -\n", "the other side speaks another version"),
        ("copies\n", "not a message"),
        ("copies a  b\n", "not a message"),
        ("walk ab 9\n", "not a message"),
        ("walk - 4294967296\n", "not a message"),
        ("heads 0=1\n", "not a message"),
        ("begin 1024 1:1\n", "not a message"),
        ("begin 0 4294967296:1\n", "not a message"),
        ("push 1.7 1.8 1.9 1.2 65536\n", "not a message"),
        ("push 1.281474976710656 1.8 1.9 1.2 1\n", "not a message"),
        ("rings 0\n", "not a message: rings 0"),
        ("rings 3\n", "not a message: rings 3"),
        ("rings 1\nring other 0 1\n1 a\n", "not a message: ring other 0 1"),
        ("rings 1\nring ketama 1 1\n1 a\n", "not a message: ring ketama 1 1"),
        ("rings 1\nring ketama 0 0\n", "not a message: ring ketama 0 0"),
        ("rings 1\nring ketama 0 1025\n", "not a message: ring ketama 0 1025"),
        ("rings 1\nring ketama 0 1\n1 a b\n", "not a message: 1 a b"),
        ("rings 2\nring ketama 0 1\n1 a\nstats\n", "not a message: stats"),
        ("batch 0 1:1 1:2 1048577 1.1\n", "a batch is larger"),
        ("batch 0 1:1 1:2 2 1.1\nd a\nd b c\n", "not a message: d b c"),
        ("batch 0 1:1 1:2 2 1.1\nd a\nstats\n", "not a message: stats"),
        ("batch 0 1:1 1:2 1 1.1\n+0\n", "not a message: +0"),
        ("batch 0 1:1 1:2 1 1.1\n+281474976710655\n", "not a message"),
        ("batch 0 1:1 1:2 1 1.1\nf  \n", "not a message"),
        ("batch 0 1:1 1:2 1 1.1\nx\n", "not a message: x"),
    ] {
        let (messages, malformed) = decode(&[text.as_bytes()]);
        assert_eq!(messages, [], "{text:?}");
        let shown = malformed.expect(text).to_string();
        assert!(shown.starts_with(why), "{text:?}: {shown}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = vec![b'x'; LINE_BYTES_MAX];
    assert_eq!(decode(&[&long]), (vec![], Some(Malformed::LineTooLong)));
    let line = format!("d {}\n", "k".repeat(250));
    let header = format!("batch 0 1:1 1:2 {BATCH_ITEMS_MAX} 1.1\n");
    let all = header + &line.repeat(BATCH_BYTES_MAX / line.len() + 1);
    assert_eq!(decode(&[all.as_bytes()]), (vec![], Some(Malformed::BatchTooLarge)));
}

#[test]
fn answers() {
    let place = |term, sequence| Place { term: Term(term), sequence };
    let version = |number| Version::new(1, number).expect("small");
    let cursors = vec![None, Some(place(2, 3))];
    let greeting = Greeting { cursors, age_floor: version(4) };
    let (state, incarnation) = (NodeState::Quarantined, 10);
    let cursor = Err(Rewind { cursor: None });
    let wall = UnixMicros(5);
    let messages = [
        ToLane::Challenge([0x1f; 16]),
        ToLane::Greeting(Introduction { incarnation, state, ring: 6, greeting }),
        ToLane::Answer {
            partition: Partition(1),
            answer: Answer { cursor: Ok(place(2, 9)), age_floor: version(4), wall, steps: 2 },
        },
        ToLane::Answer {
            partition: Partition(1),
            answer: Answer { cursor, age_floor: version(4), wall, steps: 2 },
        },
        ToLane::Statistic { name: "tombstones".to_owned(), value: 3 },
        ToLane::End,
        ToLane::Refused("no\r\nway".to_owned()),
    ];
    let mut bytes = BytesMut::new();
    for message in &messages {
        encode_answer(message, &mut bytes);
    }
    expect![[r"
        mcsqueal 1 1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f
        greeting 000000000000000a quarantined 6 1.4 - 2:3
        ok 1 2:9 1.4 5 2
        rewind 1 - 1.4 5 2
        stat tombstones 3
        end
        error noway
    "]]
    .assert_eq(&String::from_utf8_lossy(&bytes));
    for message in &messages[..6] {
        assert_eq!(decode_answer(&mut bytes), Ok(Some(message.clone())));
    }
    assert_eq!(decode_answer(&mut bytes), Ok(Some(ToLane::Refused("noway".to_owned()))));
    assert_eq!(decode_answer(&mut bytes), Ok(None));
    for wrong in ["ok 1 - 1.4 5 0\n", "greeting 0a fresh 6 1.4\n", "hi\n", "stat a\n"] {
        assert!(decode_answer(&mut wrong.into()).is_err(), "{wrong:?}");
    }
}

#[test]
fn copies() {
    let copy = |key: &'static str, ttl_s, value: &'static [u8]| {
        let (key, version) = (Key::new(key).expect("a key"), Version::new(1, 7).expect("small"));
        ToLane::Copy(Copy { key, version, flags: 9, ttl_s, value: value.into() })
    };
    let (state, walk) = (GiverState::Busy, Some(7));
    let copied = Copied { state, walk, looked: 2, entries: 3, gets: 5, hits: 4 };
    let messages =
        [copy("a", None, b"line\nline"), copy("b", Some(60), b""), ToLane::Copied(copied)];
    let mut said = BytesMut::new();
    for message in &messages {
        encode_answer(message, &mut said);
    }
    expect![[r"
        copy a 1.7 9 - 9
        line
        line
        copy b 1.7 9 60 0

        copied busy 0000000000000007 2 3 5 4
    "]]
    .assert_eq(&String::from_utf8_lossy(&said));
    for cut in 0..=said.len() {
        let (mut input, mut heard) = (BytesMut::new(), Vec::new());
        for piece in [&said[..cut], &said[cut..]] {
            input.extend_from_slice(piece);
            while let Some(message) = decode_answer(&mut input).expect("a good message") {
                heard.push(message);
            }
        }
        assert_eq!(heard, messages, "cut at {cut}");
    }
    for wrong in [
        "copy a 1.7 9 - 8388609\n",
        "copy a 1.7 9 - 1\nab",
        "copy a 1.7 4294967296 - 0\n\n",
        "copy a b 9 - 0\n\n",
        "copied fresh - 1 2 3 4\n",
        "copied gives 7 1 2 3 4\n",
    ] {
        assert!(decode_answer(&mut wrong.into()).is_err(), "{wrong:?}");
    }
    let longest = Key::new(vec![b'k'; 250]).expect("a key");
    let mut asked = BytesMut::new();
    encode(&ToNode::Copies(vec![longest; COPIES_MAX]), &mut asked);
    assert!(Decoder::default().next(&mut asked).expect("it fits into a line").is_some());
}

#[test]
fn a_key_costs_a_few_bytes() {
    let mut batch = Batch {
        partition: Partition(1023),
        from: Place { term: Term(u32::MAX), sequence: u64::MAX },
        to: Place { term: Term(u32::MAX), sequence: u64::MAX },
        items: Vec::new(),
    };
    for number in 0..100 {
        let version = Version::new(u16::MAX, (1 << 47) + number * 1000).expect("small");
        let key = Key::new(format!("{number:02}")).expect("a key");
        batch.items.push(Item::Delete { key, version });
        batch.items.push(Item::Applied { version });
    }
    let mut bytes = BytesMut::new();
    encode(&ToNode::Apply(batch), &mut bytes);
    let each = (bytes.len() - 200) / 100;
    assert!(each <= 20, "{each} bytes for each of 100 transactions of one key");
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![
        any::<u64>().prop_map(Version::from_bits),
        (1..3_u16, 1..5_u64)
            .prop_map(|(epoch, number)| Version::new(epoch, number).expect("small")),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    any::<(u32, u64)>().prop_map(|(term, sequence)| Place { term: Term(term), sequence })
}

fn key() -> impl Strategy<Value = Key> {
    let byte = any::<u8>().prop_filter("no end of a key", |byte| !b" \r\n\0".contains(byte));
    vec(byte, 1..8).prop_map(|bytes| Key::new(bytes).expect("a key"))
}

fn item() -> impl Strategy<Value = Item> {
    let prefixes = vec("[a-z]{1,5}", 1..4)
        .prop_map(|all| Scope::Prefixes(all.iter().map(|it| it.as_str().into()).collect()));
    let scope = prop_oneof![Just(Scope::All), prefixes];
    prop_oneof![
        (key(), version()).prop_map(|(key, version)| Item::Delete { key, version }),
        (scope, version()).prop_map(|(scope, version)| Item::Floor { scope, version }),
        version().prop_map(|version| Item::Applied { version }),
        (version(), any::<u64>())
            .prop_map(|(version, at)| Item::Progress { version, at: UnixMicros(at) }),
    ]
}

fn ring_place() -> impl Strategy<Value = RingPlace> {
    let hashing = prop_oneof![Just(Hashing::Ketama), Just(Hashing::Rendezvous), Just(Hashing::Ch3)];
    let node = ("[a-z:.0-9]{1,20}", any::<u32>());
    let node = node.prop_map(|(name, weight)| RingNode { name, weight });
    (hashing, vec(node, 1..4), any::<u16>()).prop_map(|(hashing, nodes, own)| {
        let own = own % u16::try_from(nodes.len()).expect("few");
        RingPlace { hashing, nodes, own }
    })
}

fn message() -> impl Strategy<Value = ToNode> {
    let partition = || (0..PARTITIONS_MAX).prop_map(Partition);
    let continuity = prop_oneof![
        Just(Continuity::Lossless),
        Just(Continuity::NewServer),
        Just(Continuity::SameServer)
    ];
    prop_oneof![
        (any::<(u64, u64)>(), 1..=PARTITIONS_MAX, any::<Option<Proof>>()).prop_map(
            |((stream, ring), partitions, proof)| {
                let stream = StreamId(stream);
                ToNode::Hello(Hello { stream, partitions, ring, proof })
            }
        ),
        vec((partition(), place()), 0..4).prop_map(ToNode::Heads),
        vec(ring_place(), 1..=RINGS_MAX).prop_map(ToNode::Rings),
        (partition(), place()).prop_map(|(partition, at)| ToNode::Begin { partition, at }),
        (any::<u16>(), version(), continuity, version()).prop_map(
            |(epoch, last, continuity, resumed)| {
                ToNode::Epoch(EpochNews { epoch, last, continuity, resumed })
            }
        ),
        ([version(), version(), version(), version()], any::<u16>()).prop_map(
            |([region, primary, highest, echo], epoch)| {
                ToNode::Push(Push { region, primary, highest, echo, epoch })
            }
        ),
        (prop_oneof![Just(Agreement::Close), Just(Agreement::Apart)], any::<u32>())
            .prop_map(|(agreement, steps)| ToNode::Clocks(Finding { agreement, steps })),
        (partition(), place(), place(), vec(item(), 0..12)).prop_map(
            |(partition, from, to, items)| ToNode::Apply(Batch { partition, from, to, items })
        ),
        Just(ToNode::Quarantine),
        Just(ToNode::Statistics),
        (any::<u64>(), 1..=PARTITIONS_MAX, any::<Option<Proof>>()).prop_map(
            |(stream, partitions, proof)| {
                ToNode::Peer(Peer { stream: StreamId(stream), partitions, proof })
            }
        ),
        vec(key(), 1..5).prop_map(ToNode::Copies),
        any::<(Option<u64>, u32)>().prop_map(|(walk, looks)| ToNode::Walk { walk, looks }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(messages in vec(message(), 0..8), cut in any::<proptest::sample::Index>()) {
        let mut bytes = BytesMut::new();
        for message in &messages {
        encode(message, &mut bytes);
    }
        let (before, after) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(decode(&[before, after]), (messages, None));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        decode(&[&bytes]);
        let mut rest = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode_answer(&mut rest) {}
    }
}
