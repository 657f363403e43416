//! Commits as versions: [`Commit`] is what a writer's session says of its transaction, [`Epochs`] what that means.

use schemas::{
    epochs::{EpochTable, ListedEpoch, highest_number},
    gtid::{Dialect, Gtid, GtidError, GtidSet, Uuid},
    record::Origin,
    version::Version,
};

/// A transaction that has just been committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    gtid: Gtid,
    /// Everything that its server had afterwards.
    executed: GtidSet,
}

/// What servers say that makes no commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It is no GTID, or no set of them.
    #[error(transparent)]
    Gtid(#[from] GtidError),
    /// It is no server UUID.
    #[error("{0:?} is no server UUID")]
    Uuid(String),
    /// The server has executed nothing of its own, so it is not the one that was written to.
    #[error("the server has no transaction of its own")]
    NotAWriter,
}

impl Commit {
    /// MySQL: `gtid` is what the session tracker said with the commit (`session_track_gtids = OWN_GTID`), `executed` is
    /// `@@global.gtid_executed` of the same server, asked afterwards.
    pub fn mysql(gtid: &str, executed: &str) -> Result<Commit, CommitError> {
        let gtid = Gtid::parse(Dialect::Mysql, gtid)?;
        Ok(Commit { gtid, executed: GtidSet::parse(Dialect::Mysql, executed)? })
    }

    /// MySQL, where the driver has no session tracker: the newest transaction of the server's own UUID, which is the one
    /// that was committed on this connection, or a later one. A version that is too high costs a little; none is missed.
    pub fn mysql_newest(server_uuid: &str, executed: &str) -> Result<Commit, CommitError> {
        let uuid: Uuid = server_uuid
            .parse()
            .map_err(|_| CommitError::Uuid(server_uuid.chars().take(80).collect()))?;
        let executed = GtidSet::parse(Dialect::Mysql, executed)?;
        let origin = Origin::Mysql { uuid, tag: "".into(), server_id: 0 };
        let number = highest_number(&origin, &executed);
        if number == 0 {
            return Err(CommitError::NotAWriter);
        }
        Ok(Commit { gtid: Gtid::Mysql { uuid, tag: "".into(), number }, executed })
    }

    /// MariaDB: `last_gtid` is `@@last_gtid` of the session, `binlog_pos` is `@@global.gtid_binlog_pos`.
    pub fn mariadb(last_gtid: &str, binlog_pos: &str) -> Result<Commit, CommitError> {
        let gtid = Gtid::parse(Dialect::MariaDb, last_gtid)?;
        Ok(Commit { gtid, executed: GtidSet::parse(Dialect::MariaDb, binlog_pos)? })
    }

    /// Its identifier.
    pub fn gtid(&self) -> &Gtid {
        &self.gtid
    }
}

/// The epochs of one source, as `/epochs` of `mcsqueal run` or `mcsqueal invalidator` lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(EpochTable);

/// A list of epochs that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpochsError {
    /// It is not the JSON that is expected.
    #[error("the list of epochs is malformed")]
    Json(#[from] serde_json::Error),
    /// An epoch's identifiers are none.
    #[error("epoch {epoch} is malformed")]
    Epoch { epoch: u16, source: GtidError },
}

impl Epochs {
    /// Reads the list.
    pub fn parse(json: &[u8]) -> Result<Epochs, EpochsError> {
        let listed: Vec<ListedEpoch> = serde_json::from_slice(json)?;
        let mut table = EpochTable::default();
        for epoch in listed {
            let wrong = |source| EpochsError::Epoch { epoch: epoch.epoch, source };
            if let Some(start) = epoch.start().map_err(wrong)? {
                table.learn(start);
            }
        }
        Ok(Epochs(table))
    }

    /// The version of a commit. `None`: its epoch is not announced yet, or what was written is lost.
    pub fn version_of(&self, commit: &Commit) -> Option<Version> {
        self.0.version_of(&commit.gtid, &commit.executed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const NEW: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

    fn epochs() -> Epochs {
        let epoch = |epoch: u16, origin: &str, first: u64, before: &str| {
            format!(
                r#"{{"source":"shop","epoch":{epoch},"dialect":"mysql","origin":"{origin}","server_id":1,"first":{first},
                    "before":"{before}","lossless":true,"later":1}}"#
            )
        };
        let json =
            format!("[{},{}]", epoch(1, OLD, 1, ""), epoch(2, NEW, 1, &format!("{OLD}:1-9")));
        Epochs::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_commit_has_the_version_of_its_epoch() {
        let executed = format!("{OLD}:1-9,{NEW}:1-4");
        let own = Commit::mysql(&format!("{NEW}:3"), &executed).unwrap();
        assert_eq!(epochs().version_of(&own), Version::new(2, 3));
        let newest = Commit::mysql_newest(NEW, &executed).unwrap();
        assert_eq!(epochs().version_of(&newest), Version::new(2, 4));
        assert!(Commit::mysql_newest(NEW, &format!("{OLD}:1-9")).is_err());
        assert!(Commit::mysql_newest("nobody", &executed).is_err());
    }

    #[test]
    fn what_is_of_no_known_epoch_has_none() {
        let lost = Commit::mysql(&format!("{OLD}:10"), &format!("{OLD}:1-10")).unwrap();
        assert_eq!(epochs().version_of(&lost), None);
        let other = "3e11fa47-71ca-11e1-9e33-c80aa9429564";
        let to_come =
            Commit::mysql(&format!("{other}:1"), &format!("{OLD}:1-9,{NEW}:1-4,{other}:1"))
                .unwrap();
        assert_eq!(epochs().version_of(&to_come), None);
        let elsewhere = Commit::mariadb("0-1-5", "0-1-5").unwrap();
        assert_eq!(epochs().version_of(&elsewhere), None);
        assert_eq!(Epochs::default().version_of(&elsewhere), None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for wrong in ["", "{}", "[1]", r#"[{"epoch":1}]"#] {
            assert!(Epochs::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(Epochs::parse(b"[]").unwrap(), Epochs::default());
    }
}
