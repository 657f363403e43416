//! [`Disguises`]: columns of MariaDB that a binlog shows as BINARY: UUID, INET4, INET6. Their text form is another one, so
//! it must be known which they are. Pure.
//!
//! They are the catalogue's of when we connected. A statement that may change them ends the connection, and the next one
//! asks anew. Between that statement and the answer lies no row: those before it are covered by the floor that it raises
//! itself, whatever they were taken for.

use binlog::table_map::{Disguise, TableMap};

/// A column that is not what it seems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disguised {
    /// Database and name of its table.
    pub table: (String, String),
    /// Its name.
    pub column: String,
    /// What it is.
    pub is: Disguise,
}

/// Those of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disguises {
    all: Vec<Disguised>,
}

impl Disguises {
    pub(crate) fn new(all: Vec<Disguised>) -> Disguises {
        Disguises { all }
    }

    /// The table map with what is known of its columns; `None` if that is nothing.
    pub(crate) fn applied(&self, map: &TableMap) -> Option<TableMap> {
        let is_here = |one: &&Disguised| one.table.0 == *map.schema && one.table.1 == *map.table;
        let mut known = None;
        for one in self.all.iter().filter(is_here) {
            let map = known.get_or_insert_with(|| map.clone());
            if let Some(column) = map.column(&one.column).and_then(|at| map.columns.get_mut(at)) {
                column.disguise = one.is;
            }
        }
        known
    }

    /// Whether other columns may be disguised after `statement`.
    pub(crate) fn may_change(&self, statement: &str) -> bool {
        let has = |word: &str| {
            let mut windows = statement.as_bytes().windows(word.len());
            windows.any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
        };
        has("UUID") || has("INET4") || has("INET6") || {
            !self.all.is_empty() && ["ALTER", "CREATE", "RENAME"].into_iter().any(has)
        }
    }
}

/// From `data_type` of the catalogue.
pub(crate) fn of_type(kind: &str) -> Disguise {
    match kind {
        "uuid" => Disguise::Uuid,
        "inet4" => Disguise::Inet4,
        "inet6" => Disguise::Inet6,
        _ => Disguise::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_may_change_them() {
        let table = ("shop".to_owned(), "t".to_owned());
        let one = Disguised { table, column: "u".to_owned(), is: Disguise::Uuid };
        let (none, some) = (Disguises::default(), Disguises::new(vec![one]));
        for (statement, with_none, with_some) in [
            ("create table t (u uuid)", true, true),
            ("ALTER TABLE t ADD i INET6", true, true),
            ("ALTER TABLE t MODIFY u BINARY(16)", false, true),
            ("RENAME TABLE t TO s", false, true),
            ("TRUNCATE t", false, false),
        ] {
            assert_eq!(none.may_change(statement), with_none, "{statement}");
            assert_eq!(some.may_change(statement), with_some, "{statement}");
        }
    }
}
