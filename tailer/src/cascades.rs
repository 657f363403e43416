//! [`Cascades`]: rows that a foreign key changes without a trace in the binlog (MariaDB, and MySQL where InnoDB carries
//! out foreign keys itself). What follows from a change of a parent is known from the graph of foreign keys alone, so it
//! becomes a floor over the keys of all tables behind it. Pure.
//!
//! The graph is the server's of when we connected. A statement that may change it ends the connection, and the next one
//! reads it anew.

use std::collections::BTreeSet;

use binlog::{assemble::Rows, layout::Layout, table_map::TableMap};
use schemas::{
    record::{Operation, Scope},
    rules::{Rule, Rules},
};

use crate::scope::{self, ScopeSum};

/// A table: its database and its name.
pub type Table = (String, String);

/// A foreign key that changes rows of `child` when rows of `parent` change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cascade {
    /// The constraint.
    pub name: String,
    /// Whose rows change.
    pub child: Table,
    /// Whose changes do that.
    pub parent: Table,
    /// The columns of the parent that it refers to.
    pub columns: Vec<String>,
    /// Whether deletes do.
    pub on_delete: bool,
    /// Whether updates of `columns` do.
    pub on_update: bool,
}

/// The foreign keys of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cascades {
    all: Vec<Cascade>,
}

/// What the rows of one table change elsewhere.
#[derive(Debug)]
pub(crate) struct Effects {
    on_delete: Option<Scope>,
    on_update: Vec<Reference>,
    /// Locates the columns of `on_update`; without it, each update counts.
    layout: Option<Layout>,
}

#[derive(Debug)]
struct Reference {
    /// Indexes into the layout's columns.
    columns: Vec<usize>,
    scope: Scope,
}

impl Cascades {
    pub(crate) fn new(all: Vec<Cascade>) -> Cascades {
        Cascades { all }
    }

    /// What rows of the table of `map` change in tables that rules are about; `None` if nothing.
    pub(crate) fn of(&self, rules: &Rules, map: &TableMap) -> Option<Effects> {
        let is_parent = |cascade: &&Cascade| is(&cascade.parent, &map.schema, &map.table);
        let mut on_delete = ScopeSum::default();
        let (mut on_update, mut columns) = (Vec::new(), Vec::new());
        let mut known = true;
        for cascade in self.all.iter().filter(is_parent) {
            let Some(scope) = self.behind(rules, cascade) else { continue };
            if cascade.on_delete {
                drop(on_delete.add(&scope)); // The sum is what counts.
            }
            if cascade.on_update {
                let mut places = Vec::new();
                for name in &cascade.columns {
                    let Some(column) = map.column(name) else {
                        known = false;
                        continue;
                    };
                    places.push(columns.iter().position(|&at| at == column).unwrap_or_else(|| {
                        columns.push(column);
                        columns.len().saturating_sub(1)
                    }));
                }
                on_update.push(Reference { columns: places, scope });
            }
        }
        let on_delete = on_delete.scope();
        if on_delete.is_none() && on_update.is_empty() {
            return None;
        }
        let layout = Layout::compile(map, &columns).ok().filter(|_| known);
        Some(Effects { on_delete, on_update, layout })
    }

    /// The keys of every table that a cascade can reach.
    fn behind(&self, rules: &Rules, first: &Cascade) -> Option<Scope> {
        let (mut reached, mut next) = (BTreeSet::new(), vec![&first.child]);
        while let Some(table) = next.pop() {
            if reached.insert(table) {
                let further = self.all.iter().filter(|cascade| cascade.parent == *table);
                next.extend(further.map(|cascade| &cascade.child));
            }
        }
        let is_behind =
            |rule: &&Rule| reached.iter().any(|(schema, name)| rule.matches(schema, name));
        scope::of_rules(rules.iter().filter(is_behind))
    }
}

impl Effects {
    /// Hands out the keys that changes of these rows make stale elsewhere, each scope once.
    pub(crate) fn rows(&self, rows: &Rows<'_>, each: &mut dyn FnMut(&Scope)) {
        match rows.operation {
            Operation::Insert => {}
            Operation::Delete => self.on_delete.iter().for_each(each),
            Operation::Update => {
                let mut hit = vec![self.layout.is_none(); self.on_update.len()];
                if let Some(layout) = &self.layout {
                    let walked = layout.walk(rows, &mut |images| {
                        for (hit, reference) in hit.iter_mut().zip(&self.on_update) {
                            *hit |= reference.columns.iter().any(|&at| images.changed(at));
                        }
                    });
                    if walked.is_err() {
                        hit.fill(true);
                    }
                }
                let hit = hit.into_iter().zip(&self.on_update).filter(|(hit, _)| *hit);
                hit.for_each(|(_, reference)| each(&reference.scope));
            }
        }
    }
}

/// Whether a statement can change the graph: it makes a foreign key, or gives a table another name.
pub(crate) fn may_change_graph(statement: &str) -> bool {
    let has = |word: &[u8]| {
        statement.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
    };
    has(b"REFERENCES") || has(b"RENAME")
}

fn is(table: &Table, schema: &str, name: &str) -> bool {
    table.0 == schema && table.1 == name
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const RULES: &str = r#"
[[rule]]
table = "shop.b"
keys = ["b:{id}"]

[[rule]]
table = "shop.d"
keys = ["d:{id}"]
"#;

    fn cascade(parent: &str, child: &str, on: &str) -> Cascade {
        let table = |name: &str| ("shop".to_owned(), name.to_owned());
        Cascade {
            name: "f".to_owned(),
            child: table(child),
            parent: table(parent),
            columns: vec!["id".to_owned()],
            on_delete: on.contains("delete"),
            on_update: on.contains("update"),
        }
    }

    fn check(table: &str, expect: Expect) {
        let cascades = Cascades::new(vec![
            cascade("a", "b", "delete"),
            cascade("b", "c", "delete update"),
            cascade("c", "d", "update"),
            cascade("d", "d", "delete update"),
            cascade("x", "y", "delete update"),
        ]);
        let rules = Rules::parse("rules.toml", RULES).unwrap();
        let map = TableMap {
            table_id: 1,
            schema: "shop".into(),
            table: table.into(),
            columns: Vec::new(),
        };
        let shown = cascades.of(&rules, &map).map_or_else(String::new, |effects| {
            let updates: Vec<&Scope> = effects.on_update.iter().map(|one| &one.scope).collect();
            format!("delete {:?}, update {updates:?}", effects.on_delete)
        });
        expect.assert_eq(&shown);
    }

    #[test]
    fn everything_behind_a_table_counts() {
        check("a", expect![[r#"delete Some(Prefixes(["b:", "d:"])), update []"#]]);
        check("b", expect![[r#"delete Some(Prefixes(["d:"])), update [Prefixes(["d:"])]"#]]);
        check("c", expect![[r#"delete None, update [Prefixes(["d:"])]"#]]);
        check("d", expect![[r#"delete Some(Prefixes(["d:"])), update [Prefixes(["d:"])]"#]]);
        check("x", expect![""]);
        check("other", expect![""]);
    }

    #[test]
    fn statements_that_change_the_graph() {
        assert!(may_change_graph("ALTER TABLE a ADD FOREIGN KEY (b) references c (d)"));
        assert!(may_change_graph("rename table a to b"));
        assert!(!may_change_graph("TRUNCATE TABLE a"));
    }
}
