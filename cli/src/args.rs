//! The command line, and its help.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::{
    node::NodeArgs,
    router::{RouteCommand, RouterArgs},
    stream::{self, From},
};

/// Keeps caches honest: tails the MySQL or MariaDB binlog, maps changed rows to cache keys by rules,
/// and deletes these keys from every cache node. Nothing is lost: not in a crash, not while a node is away.
#[derive(Debug, Parser)]
#[command(name = "mcsqueal", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run tailer, stream and invalidator in one process, until SIGTERM or SIGINT
    Run(RunArgs),
    /// Deliver a stream on Kafka that is written elsewhere, also a copy of it, until SIGTERM or SIGINT
    Invalidator(RunArgs),
    /// Say what is wrong with configuration, rules, server settings and grants, and the SQL that mends it
    Check(CheckArgs),
    /// Run a cache node, which speaks memcached's protocol
    Node(Box<NodeArgs>),
    /// Run a router: the memcached protocol in front of many nodes
    Router(RouterArgs),
    /// Say where a router would send a request
    #[command(subcommand)]
    Route(RouteCommand),
    /// Measure whether what changes is gone from the caches: from the binlog, the nodes and the database alone
    Auditor(AuditorArgs),
    /// Show which rules a row change fires and which keys result; or what feeds a key
    Explain(ExplainArgs),
    /// Invalidate keys by hand, through the stream
    Invalidate(InvalidateArgs),
    /// Begin an epoch by hand, after a database had transactions that the others never got
    Epoch(EpochArgs),
    /// Invalidate again what was invalidated before, on nodes of your choice
    Replay(ReplayArgs),
    /// Fill caches with the keys of a list, from warm nodes or from the database
    Warm(WarmArgs),
    /// Look at the stream between tailer and invalidators
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Publish clusters and rules to all processes of a region, and see which process runs what
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON Schema of a configuration file, for editors
    Schema(SchemaArgs),
}

/// What all processes of a region run.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Publish the clusters and rules of a region file; every process of the region takes them up
    Push(PushArgs),
    /// Which process runs which version
    Status(StatusArgs),
    /// Take the published version back: every process runs its own files again
    Withdraw(StatusArgs),
}

/// Clusters, the grace at a stop, and the rules travel; nothing else of the file does, so no secret ever does. What names files
/// (secrets, certificates) names them on each machine. A process refuses what it cannot take up, goes on as before, and says so.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal config push --config shop.toml
  mcsqueal config status --config shop.toml

Exit status: 0 published, 1 failed, 64 bad flags or configuration.")]
pub(crate) struct PushArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Only say what would be published
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The stream of a region.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal config status --config shop.toml
  mcsqueal config withdraw --config shop.toml

Exit status: 0 done, and all processes that answer run the same; 1 failed, or some do not; 64 bad flags or configuration.")]
pub(crate) struct StatusArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// What a configuration file may have, as JSON Schema.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal schema region > region.schema.json

An editor that knows TOML (Taplo, Even Better TOML) then completes and checks a file that begins with
  #:schema region.schema.json")]
pub(crate) struct SchemaArgs {
    /// Which file
    pub(crate) of: SchemaOf,
}

/// A kind of configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// Where everything is
    Region,
    /// Which row feeds which keys
    Rules,
    /// A cache node
    Node,
    /// A router
    Router,
}

/// Looks at the stream; changes nothing.
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Print records and keys, from some place on
    Tail(TailArgs),
    /// Read a range and check terms, sequences, epochs and progress
    Verify(VerifyArgs),
}

/// The stream, decoded: one line per key, and one per floor, epoch and term.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal stream tail --config shop.toml --from 15m --prefix user:
  mcsqueal stream tail --config shop.toml --from 2026-01-31T12:00:00Z --table shop.orders --json
  mcsqueal stream tail --config shop.toml --from end --follow

A line is: time, partition@place, version, operation, table, rule, key.
Exit status: 0 printed, 1 failed, 64 bad flags or configuration.")]
pub(crate) struct TailArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// start, end, a time (15m ago: 15m, or UTC: 2026-01-31T12:00:00Z), a version (3.1234) or a place (7:4711)
    #[arg(long, value_name = "WHERE", default_value = "start")]
    pub(crate) from: From,
    /// Go on with what comes
    #[arg(long)]
    pub(crate) follow: bool,
    /// One partition only
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u16>,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Show progress records too
    #[arg(long)]
    pub(crate) progress: bool,
    /// Stop after so many lines
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which keys.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Filters {
    /// This key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Keys that begin with this
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Keys that this matches
    #[arg(long, value_name = "REGEX")]
    pub(crate) regex: Option<String>,
    /// Keys of this table
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(crate) table: Option<String>,
    /// Keys of this rule
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
}

/// Reads up to the present ends, and says what is not as it must be.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal stream verify --config shop.toml
  mcsqueal stream verify --config shop.toml --from 2h

Exit status: 0 all is as it must be, 1 it is not, 64 bad flags or configuration.")]
pub(crate) struct VerifyArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// As for `stream tail`
    #[arg(long, value_name = "WHERE", default_value = "start")]
    pub(crate) from: From,
}

/// Tailer, stream and invalidator in one process.
///
/// Resumes where the stream has acknowledged; the first start begins at the server's present position.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  MCSQUEAL_SOURCE_PASSWORD=secret mcsqueal run --config region-configs/shop.toml
  mcsqueal run --config shop.toml --log-format json --log 'info,mcsqueal_lane=debug'
  mcsqueal run --config shop.toml --nodes mcsqueal      # nothing else to install
  mcsqueal invalidator --config shop-kafka.toml --instance $HOSTNAME   # one of several that share the work
  curl -s http://127.0.0.1:9610/health

Exit status: 0 stopped by a signal, 1 failed, 64 bad configuration, rules or server settings.")]
pub(crate) struct RunArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Who serves the nodes that the region file names: somebody else, or this process as well
    #[arg(long, value_enum, default_value_t = Nodes::Elsewhere)]
    pub(crate) nodes: Nodes,
    /// A name for this process among all that deliver this region from Kafka: one that is back under its name within
    /// `share_timeout_ms` gets its own partitions again, and nobody else hears of it
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Write `http=ADDRESS` here once everything is bound and opened
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How log lines look, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or levels by target as in `RUST_LOG`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Nodes {
    /// They run already.
    Elsewhere,
    /// A cache node at each address, which must be of this machine.
    Mcsqueal,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Measures whether what changes is gone from the caches.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal auditor --config shop.toml                # until SIGTERM or SIGINT; metrics at auditor.listen
  mcsqueal auditor --config shop.toml --for 60s      # changes of a minute, then until all of them are judged

It reads the binlog by itself, never our stream, and maps rows by the rules on its own account. Each sampled key is looked
at on every node that should hold it, 1, 10 and 60 s after a change (`[auditor]` of the region file). Verdicts: in flight
(still there at the first look), late (at the second), lost (at the last), wrong rule, resurrected; all but the first are red.

Exit status: 0 green, 1 red or failed, or with --for nothing was judged, 64 bad flags or configuration.")]
pub(crate) struct AuditorArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Take changes for so long (90s, 15m, 2h), judge them, print a table and end
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub(crate) length: Option<Duration>,
    /// Write `http=ADDRESS` here once the binlog is about to be read
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How log lines look, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or levels by target as in `RUST_LOG`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

fn length(text: &str) -> Result<Duration, String> {
    stream::length(text).ok_or_else(|| "give a number with s, m, h or d behind it: 90s".to_owned())
}

/// Checks everything that could hide changes, before it does.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal check --config region-configs/shop.toml
  mcsqueal check --config region-configs/shop.toml --offline   # the files alone

Exit status: 0 nothing in the way (warnings may be), 1 the server cannot be asked,
64 the configuration, the rules or a server setting must change first.")]
pub(crate) struct CheckArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Check the files only, ask no server
    #[arg(long)]
    pub(crate) offline: bool,
}

/// A row change in, rules and keys out. Or, with --key: which rules and tables feed that key.
#[derive(Debug, ClapArgs)]
#[command(after_help = r#"Examples:
  mcsqueal explain --rules shop.rules.toml --table shop.users --after '{"id": 1, "email": "Ann@example.com"}'
  mcsqueal explain --rules shop.rules.toml --table shop.users \
      --before '{"id": 1, "email": "ann@old.com"}' --after '{"id": 1, "email": "ann@new.com"}'
  mcsqueal explain --rules shop.rules.toml --key user:1
  mcsqueal explain --config shop.toml --diff old.rules.toml new.rules.toml --from 1h

Columns are JSON strings, numbers or null, in the text form that keys use."#)]
pub(crate) struct ExplainArgs {
    /// Rules file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "config",
        required_unless_present = "config"
    )]
    pub(crate) rules: Option<PathBuf>,
    /// Region file, which names the rules file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Table of the changed row
    #[arg(
        long,
        value_name = "SCHEMA.TABLE",
        conflicts_with = "key",
        required_unless_present_any = ["key", "diff"]
    )]
    pub(crate) table: Option<String>,
    /// The row before the change (UPDATE, DELETE), as a JSON object
    #[arg(long, value_name = "JSON", requires = "table")]
    pub(crate) before: Option<String>,
    /// The row after the change (INSERT, UPDATE), as a JSON object
    #[arg(long, value_name = "JSON", requires = "table")]
    pub(crate) after: Option<String>,
    /// A cache key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Which keys of real changes two rules files make that the other does not; asks the source of the region file
    #[arg(
        long,
        num_args = 2,
        value_names = ["OLD", "NEW"],
        requires = "config",
        conflicts_with_all = ["key", "table", "rules"]
    )]
    pub(crate) diff: Option<Vec<PathBuf>>,
    /// With --diff: since when; as for `stream tail`
    #[arg(long, value_name = "WHERE", default_value = "15m", requires = "diff")]
    pub(crate) from: From,
    /// With --diff: so many changed rows at most
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "diff")]
    pub(crate) rows_max: u64,
}

/// The first command of an incident: removes keys from every node of every region, through the stream.
///
/// Whoever leads the stream appends them, at the newest version that it has: what was filled before is gone, and what
/// is filled from then on stays.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal invalidate --config shop.toml user:1 user:2
  mcsqueal invalidate --config shop.toml --prefix user: --dry-run
  mcsqueal invalidate --config shop.toml --table shop.orders --yes

Exit status: 0 in the stream, 1 failed or not there yet, 64 bad flags or configuration.")]
pub(crate) struct InvalidateArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Cache keys
    #[arg(value_name = "KEY", required_unless_present_any = ["prefix", "table"])]
    pub(crate) keys: Vec<String>,
    /// Every key that begins with this; may be given again
    #[arg(long, value_name = "TEXT", conflicts_with = "keys")]
    pub(crate) prefix: Vec<String>,
    /// Every key that the rules make of this table
    #[arg(long, value_name = "SCHEMA.TABLE", conflicts_with_all = ["keys", "prefix"])]
    pub(crate) table: Option<String>,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ask nothing
    #[arg(long)]
    pub(crate) yes: bool,
    /// How long to wait until it is in the stream
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
}

/// Says that transactions may have been lost that readers have seen, where nobody but you can know.
///
/// A promotion that a tailer sees does this by itself. It cannot see what a server wrote while no tailer was connected to it,
/// or what somebody wrote on a replica, once that server is rebuilt: values that were read there stay in caches, and no delete
/// will name them. Take the server out of service first, then run this, then rebuild it.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal epoch --config shop.toml
  mcsqueal epoch --config shop.toml --yes --wait 60

Exit status: 0 it has begun, 1 failed or not there yet, 64 bad flags or configuration.")]
pub(crate) struct EpochArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Ask nothing
    #[arg(long)]
    pub(crate) yes: bool,
    /// How long to wait until it has begun
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) wait: u64,
}

/// Deletes again, on the nodes, what the stream says was invalidated in a range of time, versions or places.
///
/// It counts first, and asks where there is much. Ctrl-C, or a stop file, ends it between two batches; the same command
/// goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal replay --config shop.toml --from 2h --dry-run
  mcsqueal replay --config shop.toml --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z --table shop.users
  mcsqueal replay --config shop.toml --from 1.5000 --to 1.6000 --node 10.0.0.7:11211 --rate 5000
  mcsqueal replay --config shop.toml --from 1d --remap --yes      # by the rules of today, from the binlog

Exit status: 0 done, 1 failed or stopped, 64 bad flags or configuration.")]
pub(crate) struct ReplayArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// As for `stream tail`
    #[arg(long, value_name = "WHERE")]
    pub(crate) from: From,
    /// Likewise; `end` is where the stream ends now
    #[arg(long, value_name = "WHERE", default_value = "end")]
    pub(crate) to: From,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Nodes of this cluster only
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// This node only
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) node: Option<String>,
    /// Keys per second, at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) rate: u32,
    /// Make the keys anew from the binlog, by the rules of the region file
    #[arg(long)]
    pub(crate) remap: bool,
    /// Count, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ask before more keys than this
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) confirm_above: u64,
    /// Ask nothing
    #[arg(long)]
    pub(crate) yes: bool,
    /// Where it is kept how far the replay is, until it is done
    #[arg(long, value_name = "FILE", default_value = "mcsqueal-replay.json")]
    pub(crate) state: PathBuf,
    /// Stop as soon as this file is there [default: the state file with `.stop` behind]
    #[arg(long, value_name = "FILE")]
    pub(crate) stop_file: Option<PathBuf>,
}

/// Fills the nodes of a cluster with the keys of a list, before somebody asks for them.
///
/// From the nodes of a warm cluster, which give their values with versions; or from the database, with a lease for each key. The nodes
/// refuse what may be stale. Ctrl-C ends it between two batches; the same command goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  mcsqueal warm --config shop.toml --cluster new --keys hot.txt --from-peer main --dry-run
  mcsqueal warm --config shop.toml --cluster new --keys hot.txt --from-peer main --rate 20000
  mcsqueal warm --config shop.toml --keys hot.txt --from-db \\
      --select 'SELECT profile FROM shop.users WHERE id = {id}' --ttl 3600 --rate 200

A statement's places are columns, as the rules make keys of them: with keys = [\"user:{id}\"], the {id} of user:7 is 7.
What is cached is the first column of the first row.

Exit status: 0 done, 1 failed or stopped, 64 bad flags or configuration.")]
pub(crate) struct WarmArgs {
    /// Region file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// File with a key on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// The cluster that is filled [default: the first one]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Copy from the nodes of this cluster
    #[arg(long, value_name = "NAME", required_unless_present = "from_db")]
    pub(crate) from_peer: Option<String>,
    /// Read the database, with a lease for each key that is missing
    #[arg(long, conflicts_with = "from_peer", requires = "select")]
    pub(crate) from_db: bool,
    /// With --from-db: the statement that finds the value
    #[arg(long, value_name = "SELECT", requires = "from_db")]
    pub(crate) select: Option<String>,
    /// With --from-db: how long values live, in seconds; 0: for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) ttl: u32,
    /// Keys per second, at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) rate: u32,
    /// Say what would be done, and fill nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where it is kept how far it is, until it is done
    #[arg(long, value_name = "FILE", default_value = "mcsqueal-warm.json")]
    pub(crate) state: PathBuf,
}
