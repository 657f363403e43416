//! Versions against an obvious model, and the cases that the model does not show.

use proptest::prelude::*;
use schemas::gtid::{Dialect, Uuid};

use super::*;

fn origin(server_id: u32) -> Origin {
    Origin::MariaDb { domain: 0, server_id }
}

fn set(text: &str) -> GtidSet {
    GtidSet::parse(Dialect::MariaDb, text).unwrap()
}

fn fresh() -> Epochs {
    Epochs::resume("s".into(), None, Version::ZERO)
}

proptest! {
    /// The model: the epoch is the number of breaks so far, and a break is another origin or a number that is not
    /// higher. Wherever a tailer starts again from what was published, nothing changes.
    #[test]
    fn epochs_count_breaks(steps in prop::collection::vec((1..3_u32, 1..6_u64, any::<bool>()), 1..40)) {
        let mut epochs = fresh();
        let (mut epoch, mut before, mut version) = (0, None, Version::ZERO);
        for (server, number, restarts) in steps {
            if restarts {
                epochs = Epochs::resume("s".into(), epochs.current().cloned(), version);
                epochs.connected(9);
            }
            let breaks = before.is_none_or(|(old, last)| old != server || number <= last);
            epoch += u16::from(breaks);
            let numbered = epochs.number(&origin(server), number, &set("")).unwrap();
            prop_assert_eq!(numbered.version, Version::new(epoch, number).unwrap());
            prop_assert!(numbered.version > version);
            prop_assert_eq!(numbered.opens.as_ref().map(|start| (start.epoch, start.first)), breaks.then_some((epoch, number)));
            (before, version) = (Some((server, number)), numbered.version);
        }
    }
}

#[test]
fn an_epoch_that_was_announced_is_used_after_a_restart() {
    let mut epochs = fresh();
    epochs.number(&origin(1), 5, &set("")).unwrap();
    let old = Version::new(1, 5).unwrap();
    epochs.number(&origin(2), 3, &set("0-1-5")).unwrap();
    // The announcement is durable; the transaction is not.
    let mut epochs = Epochs::resume("s".into(), epochs.current().cloned(), old);
    let numbered = epochs.number(&origin(2), 3, &set("0-1-5")).unwrap();
    assert_eq!(numbered, Numbered { version: Version::new(2, 3).unwrap(), opens: None });
}

#[test]
fn only_a_server_that_never_went_away_loses_nothing() {
    let opens = |epochs: &mut Epochs, server, number| {
        epochs.number(&origin(server), number, &set("")).unwrap().opens
    };
    let mut epochs = fresh();
    epochs.connected(1);
    assert!(opens(&mut epochs, 1, 1).unwrap().lossless, "nothing was before");
    assert!(
        opens(&mut epochs, 2, 1).unwrap().lossless,
        "server 1 wrote, and is the one that we read from"
    );
    assert!(!opens(&mut epochs, 3, 1).unwrap().lossless, "server 2 wrote, and may have more");
    epochs.connected(3);
    assert!(!opens(&mut epochs, 1, 1).unwrap().lossless, "server 3 was away");
}

#[test]
fn gaps() {
    let mut epochs = fresh();
    epochs.number(&origin(1), 5, &set("")).unwrap();
    let check = |executed: &str, floor: (u16, u64), next: (u32, u64), version: (u16, u64)| {
        let mut epochs = epochs.clone();
        assert_eq!(
            epochs.gap(&set("0-1-5"), &set(executed)),
            Version::new(floor.0, floor.1).unwrap(),
            "{executed}"
        );
        let restarted = Epochs::resume(
            "s".into(),
            epochs.current().cloned(),
            Version::new(floor.0, floor.1).unwrap(),
        );
        for mut epochs in [epochs, restarted] {
            let numbered = epochs.number(&origin(next.0), next.1, &set(executed)).unwrap();
            assert_eq!(numbered.version, Version::new(version.0, version.1).unwrap(), "{executed}");
        }
    };
    check("0-1-9", (1, 9), (1, 10), (1, 10)); // The same server, further on.
    check("0-2-9", (2, 0), (2, 10), (2, 10)); // Somebody else wrote since.
    check("0-1-9,7-1-1", (2, 0), (1, 10), (2, 10)); // Something else, too.
    check("0-1-3", (2, 0), (1, 4), (2, 4)); // It went back.
    check("", (2, 0), (1, 1), (2, 1));
}

#[test]
fn numbers_without_gtids() {
    let at = |file: &str, offset| FilePosition { file: file.into(), offset };
    let number = |at: &FilePosition| origin_of(None, 1, Some(at)).1;
    assert_eq!(number(&at("bin.000002", 4)), (2 << 32) | 5);
    assert!(number(&at("bin.000002", 0xffff_fffe)) < number(&at("bin.000003", 4)));
    assert!(Version::new(1, number(&at("bin.065535", 0xffff_fffe))).is_some());
    let gtid = Gtid::Mysql { uuid: Uuid([1; 16]), tag: "blue".into(), number: 7 };
    let expected = Origin::Mysql { uuid: Uuid([1; 16]), tag: "blue".into(), server_id: 3 };
    assert_eq!(origin_of(Some(&gtid), 3, None), (expected, 7));
}

#[test]
fn what_does_not_fit_is_said() {
    let mut epochs = fresh();
    let too_large = 1 << 48;
    assert_eq!(
        epochs.number(&origin(1), too_large, &set("")),
        Err(EpochError::NumberTooLarge { number: too_large })
    );
    let last = EpochStart {
        source: "s".into(),
        epoch: u16::MAX,
        origin: origin(1),
        first: 1,
        before: set(""),
        lossless: true,
    };
    let mut epochs = Epochs::resume("s".into(), Some(last), Version::new(u16::MAX, 7).unwrap());
    assert!(epochs.number(&origin(1), 8, &set("")).is_ok());
    assert_eq!(epochs.number(&origin(1), 8, &set("")), Err(EpochError::Exhausted));
}

#[test]
fn a_vouch_ends_when_another_has_written() {
    let at = |epochs: &mut Epochs, server, number, before: &str| {
        epochs.number(&origin(server), number, &set(before)).unwrap().opens.unwrap().lossless
    };
    let connected = || {
        let mut epochs = fresh();
        epochs.connected(1);
        assert!(at(&mut epochs, 1, 1, ""));
        epochs.connected(2);
        epochs.vouch(2, set("0-1-5"));
        epochs
    };
    assert!(at(&mut connected(), 2, 6, "0-1-5"), "it has what server 1 had");
    // Server 2 has become a replica of server 3, and then the primary once more.
    let mut epochs = connected();
    assert!(!at(&mut epochs, 3, 6, "0-1-5"));
    assert!(!at(&mut epochs, 2, 9, "0-3-8"), "server 3 may have shown more");
}

/// Several writers: numbers are counted as transactions come, whoever wrote them, and rise until an epoch is opened.
#[test]
fn in_the_order_of_the_binlog_they_count() {
    let mut epochs = fresh().ordered(Order::Binlog);
    let version = |epochs: &mut Epochs, server, number| {
        epochs.number(&origin(server), number, &set("")).unwrap().version
    };
    let at = |epoch, sequence| Version::new(epoch, sequence).unwrap();
    assert_eq!(version(&mut epochs, 1, 700), at(1, 1));
    assert_eq!(version(&mut epochs, 2, 5), at(1, 2));
    assert_eq!(version(&mut epochs, 1, 701), at(1, 3));
    epochs.open(origin(2), 1, set(""), Proof::Lossless).unwrap();
    assert_eq!(version(&mut epochs, 1, 701), at(2, 1), "it comes again, in another order");
    assert_eq!(
        epochs.gap(&set("0-1-701"), &set("0-1-705")),
        at(3, 0),
        "who knows how many they were"
    );
    assert!(version(&mut epochs, 1, 706) > at(3, 0));
}
