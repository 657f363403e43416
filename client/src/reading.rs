//! Who may fill a cache: a pure judgement of the session in which a value is read.
//!
//! A value may be stored for others only if it is what the database had committed, read after the lease was given. What
//! is in the way of that has a name here, [`Unfit`]; `docs/which-transaction-may-fill.md` has the reasons.

/// The session in which a value is read. Whoever asks the cache says so, because only he knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One statement that is a transaction by itself.
    Autocommit(Isolation),
    /// Inside a transaction that goes on.
    Transaction {
        /// Its level.
        isolation: Isolation,
        /// Whether it has changed anything so far.
        writes: Writes,
        /// Whether it has read anything so far.
        snapshot: Snapshot,
    },
    /// The value is not for others, whatever the session: it is personal, or an old version on purpose.
    Private,
}

/// A transaction's isolation level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Shows what others have not committed.
    ReadUncommitted,
    /// Each statement has a snapshot of its own.
    ReadCommitted,
    /// The first read takes the snapshot of all.
    RepeatableRead,
    /// As `RepeatableRead`; reads of a transaction that goes on are locking ones.
    Serializable,
}

/// Whether a transaction has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It has not.
    None,
    /// It has, in any table. A prepared XA branch counts, and a temporary table that it fills from others, too.
    Some,
}

/// Whether a transaction can still see what was committed a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// It has read nothing yet.
    NotYet,
    /// It has read, or began `WITH CONSISTENT SNAPSHOT`.
    Opened,
}

/// Why what a session reads must not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It sees its own changes, which may be rolled back: no event would ever delete them.
    #[error("the transaction has written")]
    Wrote,
    /// It sees changes of others that may be rolled back.
    #[error("the session reads what is not committed")]
    Uncommitted,
    /// It sees what was committed before its snapshot, which is older than any lease that is given now.
    #[error("the snapshot is older than the lease")]
    OldSnapshot,
    /// Somebody is writing the key, and a stock memcached keeps nothing that would refuse what is older.
    #[error("the key is being written")]
    Marked,
    /// The reader says so.
    #[error("the value is not for others")]
    Private,
}

impl Reading {
    /// Whether what is read now, with a lease that is taken just before, may be stored.
    pub fn may_fill(self) -> Result<(), Unfit> {
        match self {
            Reading::Private => Err(Unfit::Private),
            Reading::Transaction { writes: Writes::Some, .. } => Err(Unfit::Wrote),
            Reading::Autocommit(Isolation::ReadUncommitted)
            | Reading::Transaction { isolation: Isolation::ReadUncommitted, .. } => {
                Err(Unfit::Uncommitted)
            }
            Reading::Transaction {
                isolation: Isolation::RepeatableRead | Isolation::Serializable,
                snapshot: Snapshot::Opened,
                ..
            } => Err(Unfit::OldSnapshot),
            Reading::Autocommit(_) | Reading::Transaction { .. } => Ok(()),
        }
    }
}

impl Isolation {
    /// By the name that servers have for it: `REPEATABLE-READ`, or with spaces.
    pub fn parse(name: &str) -> Option<Isolation> {
        let levels = [
            ("READ-UNCOMMITTED", Isolation::ReadUncommitted),
            ("READ-COMMITTED", Isolation::ReadCommitted),
            ("REPEATABLE-READ", Isolation::RepeatableRead),
            ("SERIALIZABLE", Isolation::Serializable),
        ];
        let name = name.trim().replace(' ', "-");
        levels.iter().find(|(of, _)| of.eq_ignore_ascii_case(&name)).map(|(_, level)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_fill() {
        use Isolation::{ReadCommitted, ReadUncommitted, RepeatableRead, Serializable};
        let within =
            |isolation, writes, snapshot| Reading::Transaction { isolation, writes, snapshot };
        for (reading, expected) in [
            (Reading::Autocommit(ReadUncommitted), Err(Unfit::Uncommitted)),
            (Reading::Autocommit(ReadCommitted), Ok(())),
            (Reading::Autocommit(RepeatableRead), Ok(())),
            (Reading::Autocommit(Serializable), Ok(())),
            (within(ReadUncommitted, Writes::None, Snapshot::NotYet), Err(Unfit::Uncommitted)),
            (within(ReadCommitted, Writes::None, Snapshot::Opened), Ok(())),
            (within(RepeatableRead, Writes::None, Snapshot::NotYet), Ok(())),
            (within(RepeatableRead, Writes::None, Snapshot::Opened), Err(Unfit::OldSnapshot)),
            (within(Serializable, Writes::None, Snapshot::Opened), Err(Unfit::OldSnapshot)),
            (within(ReadCommitted, Writes::Some, Snapshot::NotYet), Err(Unfit::Wrote)),
            (within(ReadUncommitted, Writes::Some, Snapshot::NotYet), Err(Unfit::Wrote)),
            (within(RepeatableRead, Writes::Some, Snapshot::Opened), Err(Unfit::Wrote)),
            (Reading::Private, Err(Unfit::Private)),
        ] {
            assert_eq!(reading.may_fill(), expected, "{reading:?}");
        }
    }

    #[test]
    fn levels_have_the_servers_names() {
        assert_eq!(Isolation::parse("REPEATABLE-READ"), Some(Isolation::RepeatableRead));
        assert_eq!(Isolation::parse("read uncommitted"), Some(Isolation::ReadUncommitted));
        assert_eq!(Isolation::parse("SNAPSHOT"), None);
    }
}
