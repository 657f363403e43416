//! The demo's command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::servers::{Kind, NodeKind};

/// A small shop on a private database and private cache nodes, with mcsqueal deleting stale keys.
///
/// Readers look aside (get; on a miss SELECT and set), writers change rows and leave the caches alone.
/// One fill in a hundred sleeps up to a second between SELECT and set: the classic race. At the end
/// every cached value is compared with the database. A short phase before shows the same shop without
/// mcsqueal, where each writer deletes the keys of what it changed, once, right after COMMIT.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "demo",
    bin_name = "cargo xtask demo",
    max_term_width = 100,
    after_help = "\
Examples:
  cargo xtask demo                          # 30 seconds, and a summary
  cargo xtask demo --seconds 120 --database mariadb
  cargo xtask demo --nodes mcsqueal         # our own cache nodes instead of memcached
  cargo xtask demo --with kafka             # the stream on a real Kafka
  cargo xtask demo --naive                  # without mcsqueal: shows the stale values that remain
  cargo xtask demo --json figures.json --seed 7

Exit status: 0 no cached value is stale or was read more than 5 seconds too late, 1 one is or was (or
something failed), 64 wrong options.
With --naive stale values are what you came for, and the status is 0."
)]
pub(super) struct Args {
    /// How long the shop is open
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) seconds: u64,
    /// No mcsqueal at all: writers delete each key once, right after COMMIT
    #[arg(long)]
    pub(super) naive: bool,
    /// Which database server; the first that this machine has, if not given
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<Dialect>,
    /// Where the stream is kept
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t = Backend::Embedded)]
    pub(super) with: Backend,
    /// The cache nodes: `memcached` or `mcsqueal`, how many, or both as in mcsqueal:5
    #[arg(long, value_name = "KIND:N", default_value = "memcached:3", value_parser = NodeChoice::parse)]
    pub(super) nodes: NodeChoice,
    /// Decides what customers do
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Write the figures here too
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

/// `--database`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Dialect {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

/// `--with`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// A file.
    Embedded,
    /// A private Kafka.
    Kafka,
}

impl Dialect {
    pub(super) fn kind(self) -> Kind {
        match self {
            Dialect::Mysql => Kind::Mysql,
            Dialect::Mariadb => Kind::Mariadb,
        }
    }
}

/// `--nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeChoice {
    pub(super) kind: NodeKind,
    pub(super) count: u8,
}

impl NodeChoice {
    const COUNT: u8 = 3;
    const COUNT_MAX: u8 = 16;

    fn parse(text: &str) -> Result<NodeChoice, String> {
        let (kind, count) = match text.split_once(':') {
            Some((kind, count)) => (kind, Some(count)),
            None if text.starts_with(|first: char| first.is_ascii_digit()) => {
                ("memcached", Some(text))
            }
            None => (text, None),
        };
        let kind = match kind {
            "memcached" => NodeKind::Memcached,
            "mcsqueal" => NodeKind::Mcsqueal,
            other => return Err(format!("{other:?} is neither memcached nor mcsqueal")),
        };
        let count = count.map_or(Ok(NodeChoice::COUNT), str::parse);
        let count = count.map_err(|err| err.to_string())?;
        if (1..=NodeChoice::COUNT_MAX).contains(&count) {
            Ok(NodeChoice { kind, count })
        } else {
            Err(format!("there can be 1 to {} nodes", NodeChoice::COUNT_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn nodes_have_a_kind_and_a_count() {
        let choice = |kind, count| Ok(NodeChoice { kind, count });
        assert_eq!(NodeChoice::parse("4"), choice(NodeKind::Memcached, 4));
        assert_eq!(NodeChoice::parse("mcsqueal"), choice(NodeKind::Mcsqueal, 3));
        assert_eq!(NodeChoice::parse("mcsqueal:1"), choice(NodeKind::Mcsqueal, 1));
        for wrong in ["0", "17", "redis", "mcsqueal:", "mcsqueal:0"] {
            assert!(NodeChoice::parse(wrong).is_err(), "{wrong}");
        }
    }
}
