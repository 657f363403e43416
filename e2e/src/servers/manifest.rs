//! What servers this machine has: the JSON file that `cargo xtask` writes and names in
//! `MCSQUEAL_SERVERS`. `xtask/src/servers/manifest.rs` owns the format; this reads the part that is used here.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::Path};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

/// The two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Kind {
    /// Its name in the manifest, in options and in `MCSQUEAL_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mysql => "mysql",
            Kind::Mariadb => "mariadb",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Mysql => "MySQL",
            Kind::Mariadb => "MariaDB",
        })
    }
}

/// Programs that can be started, each an argument vector to which more arguments are added.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    programs: BTreeMap<String, Program>,
}

/// One program of the manifest.
#[derive(Clone, Debug)]
pub struct Program {
    /// As the program says it.
    pub version: String,
    /// How it is started on this machine: the program itself comes last.
    pub argv: Vec<OsString>,
    /// Options that its place on this machine needs.
    pub args: Vec<OsString>,
    /// Where MariaDB keeps the SQL that makes the system tables.
    pub share: Option<OsString>,
}

/// The variable that names the manifest.
pub const MANIFEST_ENV: &str = "MCSQUEAL_SERVERS";

impl Manifest {
    /// Reads the manifest that the environment names; an empty one if it names none.
    pub fn from_env() -> Result<Manifest> {
        match std::env::var_os(MANIFEST_ENV) {
            None => Ok(Manifest::default()),
            Some(path) => Manifest::read(Path::new(&path)),
        }
    }

    /// Reads a manifest.
    pub fn read(path: &Path) -> Result<Manifest> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("read the server manifest {}", path.display()))?;
        Manifest::parse(&text)
            .with_context(|| format!("parse the server manifest {}", path.display()))
    }

    fn parse(text: &str) -> Result<Manifest> {
        let root: Value = serde_json::from_str(text)?;
        let root = root.as_object().ok_or_else(|| anyhow!("it must be an object"))?;
        let mut programs = BTreeMap::new();
        for (name, value) in root {
            if let Some(argv) = value.get("argv") {
                let argv = strings(argv).with_context(|| format!("{name}.argv"))?;
                let text = |key: &str| value.get(key).and_then(Value::as_str);
                let version = text("version").unwrap_or("unknown").to_owned();
                let args = value.get("args").map_or(Ok(Vec::new()), strings);
                let args = args.with_context(|| format!("{name}.args"))?;
                let share = text("share").map(OsString::from);
                programs.insert(name.clone(), Program { version, argv, args, share });
            }
        }
        Ok(Manifest { programs })
    }

    /// The program called `name`: `mysql`, `mariadb`, `memcached`, `mysqlbinlog`, `mariadb-binlog`,
    /// `python`.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.get(name)
    }

    /// The first dialect that this machine has a server of.
    pub fn some_database(&self) -> Option<Kind> {
        [Kind::Mysql, Kind::Mariadb].into_iter().find(|kind| self.program(kind.name()).is_some())
    }
}

impl Program {
    /// The whole command line of a database program: no option files, what its place needs, and `more`.
    pub fn command<I: Into<OsString>>(&self, more: impl IntoIterator<Item = I>) -> Vec<OsString> {
        let mut argv = self.argv.clone();
        argv.push("--no-defaults".into()); // Must be the first option.
        argv.extend(self.args.iter().cloned());
        argv.extend(more.into_iter().map(Into::into));
        argv
    }
}

fn strings(value: &Value) -> Result<Vec<OsString>> {
    let items = value.as_array().ok_or_else(|| anyhow!("must be a list"))?;
    let text = |item: &Value| item.as_str().map(OsString::from);
    items.iter().map(|item| text(item).ok_or_else(|| anyhow!("must be text"))).collect()
}
