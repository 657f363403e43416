//! Each kind of change, and its outcome: exact keys, or a floor with its scope and reason. `changes.mysql.txt` and
//! `changes.mariadb.txt` tell them all.

use std::time::Duration;

use e2e::servers::{Database, Kind};
use expect_test::expect_file;
use tokio::time::sleep;

use super::{
    book::Book,
    tailing::{TRANSACTION_KEYS_MAX, Tailing, database, tables},
};
use crate::support::{Lab, enter, is_long};

/// Servers give up the prepared transactions of a session that has ended.
const LET_GO: Duration = Duration::from_millis(500);

/// A server, a tailer in front of it, and what came of everything so far.
struct Bench {
    tailing: Tailing,
    database: Database,
    told: String,
    _lab: Lab,
}

impl Bench {
    async fn start(test: &str, kind: Kind, options: &[&str]) -> Option<Bench> {
        let lab = enter(test, &[kind.name()]).await?;
        let database = database(&lab, kind, options).await;
        tables(&database).await;
        let tailing = Tailing::start(&database.address(), &Book::default()).await;
        Some(Bench { tailing, database, told: String::new(), _lab: lab })
    }

    /// Runs statements in a session of their own, and tells what came of them.
    async fn tell(&mut self, what: &str, statements: &[&str]) {
        let outcome = self.tailing.outcome(&self.database, statements).await;
        self.told += &format!("# {what}\n{outcome}\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_mysql() {
    let Some(mut bench) = Bench::start("changes_of_mysql", Kind::Mysql, &[]).await else { return };
    rows(&mut bench).await;
    compressed_transactions(&mut bench).await;
    row_images(&mut bench).await;
    partial_json(&mut bench).await;
    definitions(&mut bench).await;
    statements(&mut bench).await;
    xa(&mut bench).await;
    cascades(&mut bench).await;
    sizes(&mut bench).await;
    expect_file!["changes.mysql.txt"].assert_eq(&bench.told);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_mariadb() {
    let Some(mut bench) = Bench::start("changes_of_mariadb", Kind::Mariadb, &[]).await else {
        return;
    };
    rows(&mut bench).await;
    compressed_events(&mut bench).await;
    row_images(&mut bench).await;
    let nodup = [
        "SET SESSION binlog_row_image = FULL_NODUP",
        "UPDATE users SET name = 'nodup' WHERE id = 11",
        "UPDATE users SET email = 'dup@no' WHERE id = 11",
    ];
    bench.tell("row image FULL_NODUP", &nodup).await;
    definitions(&mut bench).await;
    statements(&mut bench).await;
    xa(&mut bench).await;
    cascades(&mut bench).await;
    sizes(&mut bench).await;
    expect_file!["changes.mariadb.txt"].assert_eq(&bench.told);
}

/// As all MySQL servers before 9.6 are, which do not have the option: the storage engine follows foreign keys, and the binlog has nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn cascades_of_mysql_that_only_the_engine_sees() {
    let test = "cascades_of_mysql_that_only_the_engine_sees";
    let native = ["--loose-innodb-native-foreign-keys=ON"];
    let Some(mut bench) = Bench::start(test, Kind::Mysql, &native).await else { return };
    cascades(&mut bench).await;
    expect_file!["cascades.native.txt"].assert_eq(&bench.told);
}

async fn rows(bench: &mut Bench) {
    let rows = [
        "INSERT INTO users VALUES (1, 'a@b', 'A', ''), (2, NULL, 'B', NULL)",
        "UPDATE users SET email = 'c@d' WHERE id = 1",
        "UPDATE users SET id = 3 WHERE id = 2",
        "DELETE FROM users WHERE id = 3",
        "INSERT INTO other VALUES (1, 1)",
    ];
    bench.tell("rows", &rows).await;
    let taken_back = [
        "START TRANSACTION",
        "INSERT INTO users VALUES (4, 'x', '', '')",
        "SAVEPOINT s",
        "INSERT INTO users VALUES (5, 'y', '', '')",
        "ROLLBACK TO s",
        "INSERT INTO users VALUES (6, 'z', '', '')",
        "COMMIT",
        "START TRANSACTION",
        "INSERT INTO users VALUES (7, 'w', '', '')",
        "ROLLBACK",
    ];
    bench.tell("what a savepoint or a rollback takes back was never there", &taken_back).await;
}

async fn compressed_transactions(bench: &mut Bench) {
    let small = [
        "SET SESSION binlog_transaction_compression = ON",
        "INSERT INTO users VALUES (21, 'zip', REPEAT('z', 50), NULL)",
        "START TRANSACTION",
        "UPDATE users SET email = 'zap' WHERE id = 21",
        "INSERT INTO orders VALUES (21, 21, 0)",
        "COMMIT",
    ];
    bench.tell("compressed transactions", &small).await;
    let large = [
        "SET SESSION binlog_transaction_compression = ON, cte_max_recursion_depth = 100000",
        "INSERT INTO blobs WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500) \
         SELECT 1000 + n, RANDOM_BYTES(1024) FROM n",
        "DELETE FROM blobs WHERE id >= 1000",
    ];
    bench.tell("a compressed transaction that is read in parts", &large).await;
}

async fn compressed_events(bench: &mut Bench) {
    let on = ["SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10"];
    bench.database.run(&on).await.expect("compression");
    let statements = [
        "INSERT INTO users VALUES (301, 'c@d', REPEAT('x', 50), REPEAT('y', 5000))",
        "UPDATE users SET email = 'e@f' WHERE id = 301",
        "DELETE FROM users WHERE id = 301",
        "TRUNCATE TABLE orders",
    ];
    bench.tell("compressed rows and statements", &statements).await;
    bench.database.run(&["SET GLOBAL log_bin_compress = OFF"]).await.expect("no compression");
}

async fn row_images(bench: &mut Bench) {
    let noblob = [
        "INSERT INTO users VALUES (11, 'm@n', 'M', 'bio'), (12, 'o@p', 'O', 'bio')",
        "INSERT INTO blobs VALUES (24, '')",
        "SET SESSION binlog_row_image = NOBLOB",
        "UPDATE users SET name = 'noblob' WHERE id = 11",
    ];
    bench.tell("row image NOBLOB", &noblob).await;
    let exact = [
        "SET SESSION binlog_row_image = MINIMAL",
        "UPDATE blobs SET body = 'm' WHERE id = 24",
        "INSERT INTO blobs VALUES (25, '')",
        "DELETE FROM blobs WHERE id = 25",
    ];
    bench.tell("row image MINIMAL, keys of the primary key", &exact).await;
    let floor =
        ["SET SESSION binlog_row_image = MINIMAL", "UPDATE users SET email = 'q@r' WHERE id = 12"];
    bench.tell("row image MINIMAL, keys of a column whose old value is not there", &floor).await;
}

async fn partial_json(bench: &mut Bench) {
    let statements = [
        "INSERT INTO docs VALUES (1, '{\"a\": 1, \"b\": \"0123456789\"}', '{\"c\": [1, 2]}', 1)",
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
        "UPDATE docs SET j = JSON_SET(j, '$.a', 2) WHERE id = 1",
        "UPDATE docs SET id = 2, n = 2, j = JSON_REMOVE(j, '$.b')",
        "UPDATE docs SET id = 3, j = JSON_SET(j, '$.a', 3), k = JSON_SET(k, '$.c[0]', 5)",
        "UPDATE docs SET id = 4, k = '[]'",
        "SET SESSION binlog_row_image = MINIMAL",
        "UPDATE docs SET k = JSON_ARRAY_APPEND(k, '$', 5)",
    ];
    bench.tell("partial updates of JSON", &statements).await;
}

async fn definitions(bench: &mut Bench) {
    bench.tell("TRUNCATE", &["TRUNCATE TABLE orders"]).await;
    bench.tell("ALTER", &["ALTER TABLE orders ADD COLUMN extra INT FIRST"]).await;
    bench.tell("rows after ALTER", &["INSERT INTO orders VALUES (0, 31, 32, 0)"]).await;
    let ghost = [
        "CREATE TABLE _orders_gho LIKE orders",
        "INSERT INTO _orders_gho SELECT * FROM orders",
        "RENAME TABLE orders TO _orders_del, _orders_gho TO orders",
        "DROP TABLE _orders_del",
    ];
    bench.tell("an online change with a ghost table", &ghost).await;
    let partitions = [
        "CREATE TABLE new_parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
        "INSERT INTO new_parts VALUES (1), (12)",
        "ALTER TABLE new_parts TRUNCATE PARTITION p0",
        "ALTER TABLE new_parts REMOVE PARTITIONING",
    ];
    bench.tell("a table made after the start, with partitions", &partitions).await;
    let select = ["CREATE TABLE new_copy AS SELECT id FROM users WHERE id < 5"];
    bench.tell("CREATE TABLE .. SELECT", &select).await;
    bench.tell("DROP", &["DROP TABLE new_copy, new_parts"]).await;
    let harmless = [
        "CREATE TEMPORARY TABLE orders (id INT)",
        "DROP TEMPORARY TABLE orders",
        "CREATE INDEX by_name ON users (name)",
        "ANALYZE TABLE users",
    ];
    bench.tell("what changes no rows", &harmless).await;
    let unnamed = [
        "SET GLOBAL binlog_row_metadata = MINIMAL",
        "INSERT INTO users VALUES (33, 'un@named', '', '')",
        "SET GLOBAL binlog_row_metadata = FULL",
    ];
    bench.tell("rows without the names of their columns", &unnamed).await;
}

async fn statements(bench: &mut Bench) {
    let statements = [
        "SET SESSION binlog_format = STATEMENT",
        "UPDATE orders SET state = state + 1",
        "DELETE FROM other",
        "INSERT INTO other VALUES (1, 1)",
    ];
    bench.tell("statements logged as statements", &statements).await;
    // Relative to the folder of the session's database.
    let named = [
        "/* mcsqueal: a:1 b%20:2 c%3a3 */ UPDATE other SET a = a + 1",
        "INSERT INTO other VALUES (2, 2) /* mcsqueal: d:4 */, (3, LENGTH('/* mcsqueal: e:5 */'))",
        "UPDATE other SET a = a /* mcsqueal: nothing:6 */",
        "SET SESSION binlog_format = STATEMENT",
        "DELETE FROM other /* mcsqueal: f:7 */ WHERE id > 1",
    ];
    bench.tell("keys that statements name", &named).await;
    let file = bench.database.data().join("shop").join("load.txt");
    std::fs::write(&file, "0\t41\t42\t0\n").expect("a file to load");
    let load = "LOAD DATA INFILE 'load.txt' REPLACE INTO TABLE orders";
    bench.tell("LOAD DATA", &[load]).await;
    let logged = ["SET SESSION binlog_format = STATEMENT", load];
    bench.tell("LOAD DATA logged as a statement", &logged).await;
}

/// Published when it is prepared, and again when it is committed: in between, the cache can be filled with what was.
async fn xa(bench: &mut Bench) {
    let prepare = [
        "XA START 'x'",
        "INSERT INTO users VALUES (51, 'xa', '', '')",
        "XA END 'x'",
        "XA PREPARE 'x'",
    ];
    bench.tell("XA PREPARE", &prepare).await;
    // A server lets go of it some time after the session has ended.
    sleep(LET_GO).await;
    bench.tell("XA COMMIT", &["XA COMMIT 'x'"]).await;
    let back = [
        "XA START 'back', 'branch', 7",
        "UPDATE users SET name = 'xb' WHERE id = 51",
        "XA END 'back', 'branch', 7",
        "XA PREPARE 'back', 'branch', 7",
    ];
    bench.tell("another one is prepared", &back).await;
    sleep(LET_GO).await;
    bench.tell("XA ROLLBACK", &["XA ROLLBACK 'back', 'branch', 7"]).await;
    let floor = ["XA START 'f'", "DELETE FROM users WHERE id = 51", "XA END 'f'", "XA PREPARE 'f'"];
    bench.tell("one is prepared before a tailer starts", &floor).await;
    bench.tailing = Tailing::start(&bench.database.address(), &bench.tailing.book.clone()).await;
    bench.tell("XA COMMIT of what nobody remembers", &["XA COMMIT 'f'"]).await;
    let one_phase = [
        "XA START 'y'",
        "INSERT INTO users VALUES (52, 'xa', '', '')",
        "XA END 'y'",
        "XA COMMIT 'y' ONE PHASE",
    ];
    bench.tell("XA COMMIT ONE PHASE", &one_phase).await;
}

async fn cascades(bench: &mut Bench) {
    let rows = [
        "INSERT INTO parents VALUES (1, 1), (2, 2), (3, 3)",
        "INSERT INTO children VALUES (11, 1), (12, 2), (13, 3)",
        "INSERT INTO grandchildren VALUES (111, 11), (112, 12)",
    ];
    bench.tell("rows of tables with foreign keys", &rows).await;
    let update = ["UPDATE parents SET code = 20 WHERE id = 2"];
    bench.tell("an update that cascades", &update).await;
    bench.tell("a delete that cascades", &["DELETE FROM parents WHERE id = 1"]).await;
    let no_cascade = ["UPDATE parents SET id = 30 WHERE id = 3"];
    bench.tell("an update of a column that nothing refers to", &no_cascade).await;
    let later = [
        "CREATE TABLE new_kids (id INT PRIMARY KEY, parent INT, \
         FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE)",
        "INSERT INTO new_kids VALUES (7, 2)",
    ];
    bench.tell("a foreign key that is made after the start", &later).await;
    let delete = ["DELETE FROM parents WHERE id = 2"];
    bench.tell("a delete that cascades along it", &delete).await;
}

async fn sizes(bench: &mut Bench) {
    let huge = [
        "SET @huge = REPEAT('x', 40 << 20)",
        "INSERT INTO blobs VALUES (61, @huge)",
        "UPDATE blobs SET body = CONCAT(SUBSTR(@huge, 2), 'y') WHERE id = 61",
    ];
    bench.database.run(&["SET GLOBAL max_allowed_packet = 67108864"]).await.expect("a setting");
    bench.tell("an event of 80 MiB", &huge).await;
    let rows: Vec<String> =
        (0..TRANSACTION_KEYS_MAX + 500).map(|id| format!("({})", 10_000 + id)).collect();
    let insert = format!("INSERT INTO blobs (id) VALUES {}", rows.join(","));
    bench.tell("a transaction with more keys than are listed", &[&insert]).await;
    // Ten million in a long run.
    let count = if is_long() { 10_000_000 } else { 100_000 };
    let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
        SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let number =
        "a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d + 1000000 * h.d";
    let rows = format!(
        "INSERT INTO blobs (id) SELECT n + 20000 FROM (SELECT {number} n FROM {digits} a, {digits} b, {digits} c, {digits} e, \
         {digits} f, {digits} g, {digits} h) numbers WHERE n < {count}"
    );
    let outcome = bench.tailing.outcome(&bench.database, &[&rows]).await;
    let floor =
        "floor blob:: the transaction has more keys than transaction_keys_max\ncounted as size: 1";
    let listed = format!("{TRANSACTION_KEYS_MAX} keys from blob:2");
    assert!(outcome.starts_with(&listed) && outcome.ends_with(floor), "{outcome}");
}
