//! `mcsqueal explain --diff`: two rules files, asked about the same real changes of the binlog.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use anyhow::anyhow;
use binlog::assemble::Change;
use schemas::key::Key;
use tailer::map::{Mapped, Mapper};

use crate::{
    args::ExplainArgs,
    failure::Failure,
    history::{self, Known},
    invalidate::say,
    load, log,
    stream::{From, block_on},
};

/// Keys that are shown of each rule and side.
const SHOWN_MAX: usize = 5;

/// Runs the command. Fails if the two files make different keys.
pub(crate) fn diff(args: &ExplainArgs, old: &Path, new: &Path) -> Result<(), Failure> {
    let config = args.config.as_deref();
    let config = config.ok_or_else(|| Failure::Config(anyhow!("--diff needs --config")))?;
    let (region, _) = load::region(config)?;
    let (old, new) = (load::rules(old)?, load::rules(new)?);
    let settings = history::binlog_settings(config, &region)?;
    let rows_max = args.rows_max;
    block_on(async {
        let mut mappers = Vec::new();
        for rules in [old, new] {
            mappers.push(Known::ask(&settings, &rules).await?.mapper(Arc::new(rules)));
        }
        let mut sides = Sides::new(mappers, rows_max);
        let reader = log::reader(config, &region).await?;
        let from = history::begin(&reader, args.from).await?;
        let to = history::end(&reader, From::End).await?;
        history::read_binlog(&settings, &from, &to, &mut |change| sides.take(change)).await?;
        say(&mut io::stdout().lock(), &sides.report())?;
        if sides.is_same() { Ok(()) } else { Err(Failure::Said) }
    })
}

/// Both sides, and what only one of them makes.
struct Sides {
    /// Of the old rules, and of the new ones.
    mappers: Vec<Mapper>,
    rows_left: u64,
    rows: u64,
    /// Keys of the open transaction, by side, with the rule that made them.
    open: [BTreeMap<Key, Arc<str>>; 2],
    same: u64,
    /// By side and rule.
    only: [BTreeMap<Arc<str>, Only>; 2],
    floors: [u64; 2],
}

/// What one rule makes alone.
#[derive(Debug, Default)]
struct Only {
    count: u64,
    shown: BTreeSet<Key>,
}

impl Sides {
    fn new(mappers: Vec<Mapper>, rows_max: u64) -> Sides {
        Sides {
            mappers,
            rows_left: rows_max,
            rows: 0,
            open: Default::default(),
            same: 0,
            only: Default::default(),
            floors: [0; 2],
        }
    }

    fn take(&mut self, change: &Change<'_>) -> ControlFlow<()> {
        if matches!(change, Change::Commit(_) | Change::Rollback(_)) {
            self.close();
            return if self.rows < self.rows_left {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
        }
        let mut rows = 0;
        for (side, mapper) in self.mappers.iter_mut().enumerate() {
            let mut each = |mapped: Mapped<'_>| match mapped {
                Mapped::Key { key, .. } => {
                    if let Some(open) = self.open.get_mut(side) {
                        open.insert(key.key.to_key(), Arc::clone(key.rule));
                    }
                }
                Mapped::Floor { .. } => {
                    if let Some(floors) = self.floors.get_mut(side) {
                        *floors += 1;
                    }
                }
                Mapped::Null { .. } | Mapped::Unusable { .. } => {}
            };
            match change {
                Change::Rows(changed) => rows = mapper.rows(changed, &mut each).max(rows),
                other => history::map(mapper, other, &mut each),
            }
        }
        self.rows += rows;
        ControlFlow::Continue(())
    }

    /// What one transaction means to both.
    fn close(&mut self) {
        let [old, new] = std::mem::take(&mut self.open);
        self.same += old.keys().filter(|key| new.contains_key(*key)).count() as u64;
        let [only_old, only_new] = &mut self.only;
        for (own, other, only) in [(&old, &new, only_old), (&new, &old, only_new)] {
            for (key, rule) in own.iter().filter(|(key, _)| !other.contains_key(*key)) {
                let only = only.entry(Arc::clone(rule)).or_default();
                only.count += 1;
                if only.shown.len() < SHOWN_MAX {
                    only.shown.insert(key.clone());
                }
            }
        }
    }

    fn is_same(&self) -> bool {
        self.only.iter().all(BTreeMap::is_empty) && self.floors[0] == self.floors[1]
    }

    fn report(&self) -> String {
        let mut text = format!(
            "{} changed rows of mapped tables; {} keys are the same by both files\n",
            self.rows, self.same
        );
        for (sign, name, only) in [("-", "old", &self.only[0]), ("+", "new", &self.only[1])] {
            for (rule, Only { count, shown }) in only {
                text.push_str(&format!(
                    "{sign} {count} keys only by the {name} file, rule {rule}\n"
                ));
                for key in shown {
                    text.push_str(&format!("{sign}   {key}\n"));
                }
            }
        }
        if self.floors[0] != self.floors[1] {
            text.push_str(&format!(
                "floors (keys that cannot be listed): {} by the old file, {} by the new one\n",
                self.floors[0], self.floors[1]
            ));
        }
        text
    }
}
