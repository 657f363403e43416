//! [`ListedEpoch`]: an epoch as `/epochs` of the side port lists it, for clients that turn GTIDs into versions.

use serde::{Deserialize, Serialize};

use crate::{
    gtid::{Dialect, Gtid, GtidError, GtidSet},
    record::{EpochStart, Origin},
};

/// One epoch. Fields that a reader does not know are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEpoch {
    /// Name of the source.
    pub source: String,
    /// The number.
    pub epoch: u16,
    /// `mysql`, `mariadb`, or `positions` for a source without GTIDs, whose versions no client can name.
    pub dialect: String,
    /// Whose transactions it numbers: `uuid` or `uuid:tag`; `domain-server`.
    pub origin: String,
    /// The id of the server that writes them.
    pub server_id: u32,
    /// Number of its first transaction.
    pub first: u64,
    /// Everything that was executed before that.
    pub before: String,
    /// Whether it is proven that nothing was lost before it.
    pub lossless: bool,
}

impl From<&EpochStart> for ListedEpoch {
    fn from(start: &EpochStart) -> ListedEpoch {
        let (dialect, origin, server_id) = match &start.origin {
            Origin::Mysql { uuid, tag, server_id } if tag.is_empty() => {
                ("mysql", uuid.to_string(), *server_id)
            }
            Origin::Mysql { uuid, tag, server_id } => {
                ("mysql", format!("{uuid}:{tag}"), *server_id)
            }
            Origin::MariaDb { domain, server_id } => {
                ("mariadb", format!("{domain}-{server_id}"), *server_id)
            }
            Origin::Positions { server_id } => ("positions", String::new(), *server_id),
        };
        ListedEpoch {
            source: start.source.to_string(),
            epoch: start.epoch,
            dialect: dialect.to_owned(),
            origin,
            server_id,
            first: start.first,
            before: start.before.to_string(),
            lossless: start.lossless,
        }
    }
}

impl ListedEpoch {
    /// The epoch; `None` for a source without GTIDs, or of a kind that is not known here.
    pub fn start(&self) -> Result<Option<EpochStart>, GtidError> {
        let dialect = match self.dialect.as_str() {
            "mysql" => Dialect::Mysql,
            "mariadb" => Dialect::MariaDb,
            _ => return Ok(None),
        };
        // An origin is a GTID without its number.
        let separator = if dialect == Dialect::Mysql { ':' } else { '-' };
        let gtid = Gtid::parse(dialect, &format!("{}{separator}1", self.origin))?;
        let origin = match gtid {
            Gtid::Mysql { uuid, tag, .. } => Origin::Mysql { uuid, tag, server_id: self.server_id },
            Gtid::MariaDb { domain, server_id, .. } => Origin::MariaDb { domain, server_id },
        };
        Ok(Some(EpochStart {
            source: self.source.as_str().into(),
            epoch: self.epoch,
            origin,
            first: self.first,
            before: GtidSet::parse(dialect, &self.before)?,
            lossless: self.lossless,
        }))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn listed(dialect: &str, origin: &str, before: &str) -> ListedEpoch {
        ListedEpoch {
            source: "shop".to_owned(),
            epoch: 3,
            dialect: dialect.to_owned(),
            origin: origin.to_owned(),
            server_id: 7,
            first: 12,
            before: before.to_owned(),
            lossless: true,
        }
    }

    #[test]
    fn what_is_listed_is_the_epoch() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        for epoch in [
            listed("mysql", uuid, &format!("{uuid}:1-11")),
            listed("mysql", &format!("{uuid}:blue"), ""),
            listed("mariadb", "0-7", "0-1-11,2-3-4"),
        ] {
            let start = epoch.start().unwrap().unwrap();
            assert_eq!(ListedEpoch::from(&start), epoch);
        }
        assert_eq!(listed("positions", "", "").start(), Ok(None));
        assert!(listed("mysql", "nobody", "").start().is_err());
        let json = serde_json::to_string(&listed("mariadb", "0-7", "0-1-11")).unwrap();
        expect![[r#"{"source":"shop","epoch":3,"dialect":"mariadb","origin":"0-7","server_id":7,"first":12,"before":"0-1-11","lossless":true}"#]]
            .assert_eq(&json);
    }
}
