//! The form of snapshots: what goes in comes out, the bytes of a version stay what they are, and nothing else is taken for them.

use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::{collection::vec, prelude::*};

use super::*;

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![any::<u64>(), 0..5_u64, (1_u64 << 48)..(1 << 48) + 9].prop_map(Version::from_bits)
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u32>(), any::<u64>()).prop_map(|(term, sequence)| Place { term: Term(term), sequence })
}

fn partition() -> impl Strategy<Value = KeptPartition> {
    let missing = prop_oneof![
        Just(KeptMissing::Nothing),
        place().prop_map(KeptMissing::Before),
        place().prop_map(KeptMissing::Hole)
    ];
    (proptest::option::of(place()), version(), missing)
        .prop_map(|(cursor, applied, missing)| KeptPartition { cursor, applied, missing })
}

fn epoch() -> impl Strategy<Value = EpochNews> {
    let continuity = prop_oneof![
        Just(Continuity::Lossless),
        Just(Continuity::NewServer),
        Just(Continuity::SameServer)
    ];
    (any::<u16>(), version(), continuity, version()).prop_map(
        |(epoch, last, continuity, resumed)| EpochNews { epoch, last, continuity, resumed },
    )
}

pub(crate) fn kept() -> impl Strategy<Value = Kept> {
    let prefix = (vec(any::<u8>(), 0..9), version()).prop_map(|(text, at)| (text.into(), at));
    let pairs = || vec((version(), version()), 0..4);
    let micros = any::<u64>().prop_map(Duration::from_micros);
    let pending = vec((any::<u64>().prop_map(Nonce), micros), 0..3);
    let mark = (any::<u64>(), pending, vec(version(), 0..3))
        .prop_map(|(hash, pending, named)| KeptMark { hash, pending, named });
    let lists = (
        vec(partition(), 1..5),
        vec(prefix, 0..4),
        pairs(),
        vec(epoch(), 0..4),
        pairs(),
        vec((any::<u64>(), version()), 0..9),
        vec(mark, 0..4),
    );
    let versions = (version(), version(), version(), version());
    (any::<u16>(), versions, lists).prop_map(|(epoch, versions, lists)| {
        let (serve_floor, fill_floor, age_floor, highest) = versions;
        let (partitions, prefix_floors, cuts, epochs, proofs, tombstones, marks) = lists;
        Kept {
            partitions,
            serve_floor,
            prefix_floors,
            cuts,
            fill_floor,
            epoch,
            epochs,
            age_floor,
            highest,
            proofs,
            tombstones,
            marks,
        }
    })
}

fn payload(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

proptest! {
    #[test]
    fn rules_come_back(before in kept()) {
        let bytes = payload(|out| put_rules(&before, out));
        let mut after = rules(&bytes).expect("what was written");
        after.tombstones = tombstones(&payload(|out| put_tombstones(&before.tombstones, out))).expect("likewise");
        after.marks = marks(&payload(|out| put_marks(&before.marks, out))).expect("likewise");
        prop_assert_eq!(&after, &before);
        // Nothing that is shorter is taken for the whole.
        for end in 0..bytes.len() {
            prop_assert!(rules(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn entries_come_back(
        lane_number in any::<u16>(),
        entries_before in vec((vec(any::<u8>(), 1..=255), vec(any::<u8>(), 0..300), any::<(u32, u32, u32, u64)>(), version(), 0..32_u8), 0..9),
    ) {
        let mut bytes = payload(|out| put_lane(lane_number, out));
        for (key, value, (flags, expiry, used, cas), filled, bits) in &entries_before {
            let (flags, expiry, used, cas, filled, bits) = (*flags, *expiry, *used, *cas, *filled, Bits(*bits));
            put_item(&Item { key, value: &[], flags, expiry, used, cas, filled, bits }, value.len(), &mut bytes);
            bytes.extend_from_slice(value);
        }
        let mut after = Vec::new();
        entries(&bytes, |it| {
            let numbers = (it.flags, it.expiry, it.used, it.cas);
            after.push((it.key.to_vec(), it.value.to_vec(), numbers, it.filled, it.bits.0));
        }).expect("what was written");
        prop_assert_eq!((lane(&bytes), after), (Ok(lane_number), entries_before));
    }

    #[test]
    fn anything_else_is_no_panic(bytes in vec(any::<u8>(), 0..200)) {
        let read = (header(&bytes).is_ok(), rules(&bytes).is_ok(), marks(&bytes).is_ok());
        let more = (tombstones(&bytes).is_ok(), entries(&bytes, |_| {}).is_ok(), end(&bytes).is_ok());
        std::hint::black_box((read, more));
    }
}

/// Every byte of a block counts, and its number.
#[test]
fn a_block_is_known_by_its_checksum() {
    let payload = b"some payload".to_vec();
    let sealed = head(Kind::Entries, 7, &payload);
    let announced = Announced::read(sealed).expect("a head");
    assert_eq!((announced.kind, announced.payload_bytes), (Kind::Entries, payload.len()));
    assert_eq!(announced.check(7, &payload), Ok(()));
    assert!(announced.check(8, &payload).is_err());
    for at in 0..payload.len() {
        let mut damaged = payload.clone();
        damaged[at] ^= 1;
        assert!(announced.check(7, &damaged).is_err());
    }
    for at in 0..sealed.len() {
        let mut damaged = sealed;
        damaged[at] ^= 1;
        let taken = Announced::read(damaged);
        let taken = taken.is_ok_and(|it| it.payload_bytes == 12 && it.check(7, &payload).is_ok());
        assert!(!taken, "byte {at} of a head");
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        out.push_str(if at > 0 && at % 32 == 0 { "\n" } else { "" });
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

fn check(bytes: &[u8], expect: Expect) {
    expect.assert_eq(&hex(bytes));
}

fn at(epoch: u16, number: u64) -> Version {
    Version::new(epoch, number).expect("small")
}

fn some_place(term: u32, sequence: u64) -> Place {
    Place { term: Term(term), sequence }
}

/// What stays readable for as long as the number of the format does.
#[test]
fn a_header_of_version_2_is_this() {
    check(MAGIC, expect!["6d6373717565616c20736e617073686f7420320a"]);
    let taken = Times { wall: 1, uptime: 2, boot: "boot".to_owned() };
    let source = Some(Source { stream: StreamId(0xaa), ring: 3 });
    let told = Header {
        copied: Copied::Exactly,
        taken,
        cas: 4,
        flush_at: None,
        source,
        items: 5,
        bytes: 6,
        node: "n1".to_owned(),
    };
    let bytes = payload(|out| put_header(&told, out));
    assert_eq!(header(&bytes).as_ref(), Ok(&told));
    check(
        &bytes,
        expect![[r"
        01010000000000000002000000000000000400626f6f740400000000000000ff
        ffffffffffffff01aa0000000000000003000000000000000500000000000000
        060000000000000002006e31"]],
    );
    check(&head(Kind::Header, 0, &bytes), expect!["4c0000000128983afcca644a00"]);
}

#[test]
fn rules_of_version_2_are_this() {
    let kept = Kept {
        partitions: vec![
            KeptPartition::default(),
            KeptPartition {
                cursor: Some(some_place(1, 2)),
                applied: at(1, 9),
                missing: KeptMissing::Hole(some_place(1, 1)),
            },
        ],
        serve_floor: at(0, 1),
        prefix_floors: vec![(b"a:".as_slice().into(), at(1, 2))],
        cuts: vec![(at(0, 3), at(1, 0))],
        fill_floor: at(0, 4),
        epoch: 1,
        epochs: vec![EpochNews {
            epoch: 1,
            last: at(0, 5),
            continuity: Continuity::NewServer,
            resumed: Version::ZERO,
        }],
        age_floor: at(0, 6),
        highest: at(0, 7),
        proofs: vec![(at(0, 8), at(0, 6))],
        ..Kept::default()
    };
    check(
        &payload(|out| put_rules(&kept, out)),
        expect![[r"
            0100000000000000040000000000000001000600000000000000070000000000
            0000020000000000000000000000000001010000000200000000000000090000
            000000010002010000000100000000000000010000000200613a020000000000
            0100010000000300000000000000000000000000010001000000010005000000
            0000000001000000000000000001000000080000000000000006000000000000
            00"]],
    );
    check(
        &payload(|out| put_tombstones(&[(1, at(1, 2))], out)),
        expect!["01000000000000000200000000000100"],
    );
}

#[test]
fn marks_and_entries_of_version_2_are_this() {
    let mark = KeptMark {
        hash: 1,
        pending: vec![(Nonce(2), Duration::from_micros(3))],
        named: vec![at(1, 4)],
    };
    check(
        &payload(|out| put_marks(&[mark], out)),
        expect![[r"
        0100000000000000010000000200000000000000030000000000000001000000
        0400000000000100"]],
    );
    let item = Item {
        key: b"key",
        value: b"",
        flags: 1,
        expiry: 2,
        used: 3,
        cas: 4,
        filled: at(1, 5),
        bits: Bits::FETCHED.with(Bits::HOT),
    };
    let entry = payload(|out| {
        put_lane(1, out);
        put_item(&item, 5, out);
        out.extend_from_slice(b"value");
    });
    check(
        &entry,
        expect![[r"
        0100110305000000010000000200000003000000040000000000000005000000
        000001006b657976616c7565"]],
    );
    check(&payload(|out| put_end(1, out)), expect!["0100000000000000"]);
}
