//! A real server, and the transactions that are measured.

use anyhow::{Context, Result};
use e2e::servers::{Database, DatabaseOptions, Durability, Kind, Servers};
use mysql_async::prelude::Queryable;
use schemas::gtid::{Dialect, GtidSet};

/// The table of most phases: what a row of an ordinary application looks like.
const TABLES: [&str; 5] = [
    "CREATE DATABASE bench",
    "CREATE TABLE bench.u (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60), email VARCHAR(100), bio TEXT, \
     state TINYINT, balance DECIMAL(12,2), seen DATETIME(6), changed TIMESTAMP(3) NULL, kind ENUM('a','b','c'), \
     parent BIGINT, country CHAR(2), score DOUBLE)",
    "CREATE TABLE bench.seed LIKE bench.u",
    "CREATE TABLE bench.blobs (id BIGINT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)",
    "CREATE TABLE bench.noise (id BIGINT AUTO_INCREMENT PRIMARY KEY, body VARBINARY(1000))",
];
/// The rules of all phases.
pub(super) const RULES: &str = r#"
[[rule]]
table = "bench.u"
keys = ["user:{id}"]

[[rule]]
table = "bench.wide"
keys = ["wide:{id}"]

[[rule]]
table = "bench.blobs"
keys = ["blob:{id}"]

[[rule]]
table = "bench.noise"
keys = ["noise:{id}"]
"#;
/// Rows of one bulk statement.
const BULK_ROWS: u32 = 1000;

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Statements of [`BULK_ROWS`] rows.
    pub(super) bulk_statements: u32,
    pub(super) oltp_transactions: u32,
    pub(super) wide_rows: u32,
    pub(super) blobs: u32,
}

/// A part of the backlog: one kind of transaction, in binlog files of its own.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// What the server had executed before and after.
    pub(super) before: GtidSet,
    pub(super) after: GtidSet,
    /// Keys that come of it, at least.
    pub(super) keys: u64,
    /// The files' names.
    pub(super) names: Vec<String>,
    /// The files' contents, each from its magic number on.
    pub(super) files: Vec<Vec<u8>>,
}

impl Phase {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }
}

/// A server with its tables.
pub(super) async fn server(servers: &Servers, more: &[&str]) -> Result<Database> {
    let mut options = DatabaseOptions { durability: Durability::Memory, more: Vec::new() };
    options.more.extend(more.iter().map(|&option| option.to_owned()));
    let database = servers.database(Kind::Mysql, &options).await.context("start a server")?;
    database.run(&TABLES).await.context("make tables")?;
    let columns: Vec<String> =
        (1..100).map(|at| format!("c{at} VARCHAR(20) DEFAULT 'value {at}'")).collect();
    let wide = format!(
        "CREATE TABLE bench.wide (id BIGINT AUTO_INCREMENT PRIMARY KEY, {})",
        columns.join(", ")
    );
    let rows: Vec<String> = (0..BULK_ROWS)
        .map(|at| {
            format!(
                "('name of {at}', 'someone.{at}@example.com', 'some text about nothing in particular, {at}', 1, \
                 {at}.50, NOW(6), NOW(3), 'b', {at}, 'CH', {at}.25)"
            )
        })
        .collect();
    let seed = format!("INSERT INTO bench.seed ({COLUMNS}) VALUES {}", rows.join(", "));
    database.run(&[&wide, &seed]).await.context("fill tables")?;
    Ok(database)
}

const COLUMNS: &str =
    "name, email, bio, state, balance, seen, changed, kind, parent, country, score";

/// Writes all phases.
pub(super) async fn phases(database: &Database, size: Size) -> Result<Vec<Phase>> {
    let oltp = "UPDATE bench.u SET score = score + 1, seen = NOW(6) WHERE id = @at + 1".to_owned();
    let wide = format!(
        "INSERT INTO bench.wide (c1) SELECT name FROM bench.seed LIMIT {}",
        BULK_ROWS.min(size.wide_rows)
    );
    let blobs =
        "INSERT INTO bench.blobs (body) VALUES (REPEAT('0123456789abcdef', 262144))".to_owned();
    Ok(vec![
        bulk(database, size.bulk_statements).await?,
        phase(database, "oltp", size.oltp_transactions, Keys::Some, &oltp).await?,
        phase(
            database,
            "wide",
            size.wide_rows.div_ceil(BULK_ROWS),
            Keys::Each(BULK_ROWS.min(size.wide_rows)),
            &wide,
        )
        .await?,
        phase(database, "blobs", size.blobs, Keys::Each(1), &blobs).await?,
    ])
}

/// Statements of many rows each.
pub(super) async fn bulk(database: &Database, statements: u32) -> Result<Phase> {
    let insert = format!("INSERT INTO bench.u ({COLUMNS}) SELECT {COLUMNS} FROM bench.seed");
    phase(database, "bulk", statements, Keys::Each(BULK_ROWS), &insert).await
}

/// What a statement makes.
#[derive(Clone, Copy, Debug)]
enum Keys {
    Each(u32),
    /// It may meet a gap between the ids.
    Some,
}

/// Runs `statement` `times` times.
async fn phase(
    database: &Database,
    phase: &'static str,
    times: u32,
    keys: Keys,
    statement: &str,
) -> Result<Phase> {
    let keys = match keys {
        Keys::Each(keys) => u64::from(times) * u64::from(keys),
        Keys::Some => u64::from(times) / 2,
    };
    let mut conn = database.connect().await?;
    conn.query_drop("FLUSH BINARY LOGS").await.context("begin a file")?;
    let before = executed(database).await?;
    let old = binlogs(database)?.len();
    conn.query_drop("USE bench").await?;
    conn.query_drop("DROP PROCEDURE IF EXISTS again").await?;
    conn.query_drop(format!(
        "CREATE PROCEDURE again() BEGIN SET @at = 0; WHILE @at < {times} DO {statement}; SET @at = @at + 1; \
         END WHILE; END"
    ))
    .await
    .context("make a loop")?;
    conn.query_drop("CALL again()").await.with_context(|| format!("write {phase}"))?;
    conn.query_drop("FLUSH BINARY LOGS").await.context("end a file")?;
    let after = executed(database).await?;
    let all = binlogs(database)?;
    // The last one has just begun.
    let files = || all.iter().take(all.len() - 1).skip(old - 1);
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let names = files().map(name).collect();
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("read {}", path.display()))
    };
    let files = files().map(read).collect::<Result<Vec<_>>>()?;
    conn.disconnect().await.context("disconnect")?;
    Ok(Phase { name: phase, before, after, keys, names, files })
}

/// What the server has executed.
pub(super) async fn executed(database: &Database) -> Result<GtidSet> {
    let mut conn = database.connect().await?;
    let executed: Option<String> = conn.query_first("SELECT @@global.gtid_executed").await?;
    conn.disconnect().await?;
    GtidSet::parse(Dialect::Mysql, &executed.unwrap_or_default()).context("a set of transactions")
}

/// The binlog files, oldest first.
fn binlogs(database: &Database) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(database.data()).context("list the data directory")? {
        let path = entry.context("list the data directory")?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("binlog.").unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
