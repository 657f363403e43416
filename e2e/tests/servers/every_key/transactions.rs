//! Random transactions over the shop's tables and one with more column types, texts that make no key included.

use anyhow::{Context, Result, bail};
use e2e::random::Random;
use mysql_async::{Conn, Error, Value, prelude::Queryable};

/// A table whose keys are made of NULLs, decimals, and signed and very large numbers.
pub(super) const ZOO: &str = "CREATE TABLE shop.zoo (id BIGINT UNSIGNED PRIMARY KEY, tag VARCHAR(300) NULL, \
     amount DECIMAL(12, 2) NULL, size INT NOT NULL, note TEXT NULL) ENGINE=InnoDB CHARACTER SET utf8mb4";

/// Its rules, after those of the shop.
pub(super) const ZOO_RULES: &str = r#"
[[rule]]
table = "shop.zoo"
keys = ["zoo:{id}", "zoo-tag:{tag}", "zoo-tag-or:{tag|default:none}"]

[[rule]]
table = '/shop\.zo+/'
columns = ["amount"]
keys = ["zoo-size:{size}:{amount}"]
"#;

/// Ids are drawn from a few hundred, so that rows meet again and again.
const IDS: u64 = 300;
/// Above any 63-bit number.
const HUGE: u64 = 18_446_744_073_709_551_000;
/// The row that comes last.
const LAST: u64 = 999_999;

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) commits: u32,
    pub(super) rollbacks: u32,
}

/// The key of the last transaction.
pub(super) fn last_key() -> String {
    format!("zoo:{LAST}")
}

/// Runs `count` transactions, and one that inserts the last row.
pub(super) async fn run(conn: &mut Conn, random: &mut Random, count: u32) -> Result<Done> {
    conn.query_drop("USE shop").await?;
    let mut done = Done::default();
    for _ in 0..count {
        conn.query_drop("START TRANSACTION").await?;
        let mut failed = false;
        for _ in 0..=random.below(4) {
            failed = !statement(conn, random).await?;
            if failed {
                break;
            }
        }
        if failed || random.one_in(10) {
            conn.query_drop("ROLLBACK").await?;
            done.rollbacks += 1;
        } else {
            conn.query_drop("COMMIT").await?;
            done.commits += 1;
        }
    }
    conn.exec_drop("INSERT INTO zoo (id, size) VALUES (?, 0)", (LAST,)).await?;
    Ok(done)
}

/// One statement; false if the server refused it as a duplicate, which happens.
async fn statement(conn: &mut Conn, random: &mut Random) -> Result<bool> {
    let (sql, values) = choose(random);
    match conn.exec_drop(sql, values).await {
        Ok(()) => Ok(true),
        Err(Error::Server(err)) if err.code == 1062 => Ok(false),
        Err(Error::Server(err)) => bail!("{sql}: {err}"),
        Err(err) => Err(err).context(sql),
    }
}

fn choose(random: &mut Random) -> (&'static str, Vec<Value>) {
    let id = random.below(IDS) + 1;
    match random.below(18) {
        0 => (
            "UPDATE users SET email = ?, ver = ver + 1 WHERE id = ?",
            vec![email(random), id.into()],
        ),
        1 => ("UPDATE users SET name = ? WHERE id = ?", vec![word(random).into(), id.into()]),
        2 => (
            "UPDATE users SET ver = ver + 1 WHERE id BETWEEN ? AND ? + 5",
            vec![id.into(), id.into()],
        ),
        3 => ("DELETE FROM users WHERE id = ?", vec![id.into()]),
        4 | 5 => (
            "INSERT INTO users (id, email, name, ver) VALUES (?, ?, 'new', 1)",
            vec![id.into(), email(random)],
        ),
        6 => ("UPDATE products SET sku = ? WHERE id = ?", vec![word(random).into(), id.into()]),
        7 => ("UPDATE products SET stock = stock - 3 WHERE id = ?", vec![id.into()]),
        8 | 9 => (
            "INSERT INTO orders (user_id, status, created, ver) VALUES (?, 'new', NOW(3), 1), (?, 'paid', NOW(3), 1)",
            vec![id.into(), (random.below(IDS) + 1).into()],
        ),
        10 => {
            ("UPDATE orders SET status = ? WHERE user_id = ?", vec![word(random).into(), id.into()])
        }
        11 => (
            "UPDATE orders SET user_id = ? WHERE user_id = ? LIMIT 2",
            vec![(random.below(IDS) + 1).into(), id.into()],
        ),
        // Changes no column of the list's rule.
        12 => {
            ("UPDATE orders SET created = NOW(3), ver = ver + 1 WHERE user_id = ?", vec![id.into()])
        }
        13 => ("DELETE FROM orders WHERE user_id = ? LIMIT 3", vec![id.into()]),
        14 => (
            "REPLACE INTO zoo (id, tag, amount, size, note) VALUES (?, ?, ?, ?, ?)",
            vec![zoo_id(random), tag(random), amount(random), size(random), note(random)],
        ),
        15 => (
            "INSERT INTO zoo (id, tag, amount, size) VALUES (?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE tag = VALUES(tag), size = size + 1",
            vec![zoo_id(random), tag(random), amount(random), size(random)],
        ),
        16 => (
            "UPDATE zoo SET amount = ?, note = ? WHERE id = ?",
            vec![amount(random), note(random), zoo_id(random)],
        ),
        _ => ("DELETE FROM zoo WHERE id = ?", vec![zoo_id(random)]),
    }
}

fn zoo_id(random: &mut Random) -> Value {
    let id = random.below(IDS) + 1;
    if random.one_in(4) { (HUGE + id).into() } else { id.into() }
}

/// Of both cases, sometimes beyond ASCII, sometimes with a space, which no key can have. Never with a
/// backslash, which MariaDB's tool prints in a way that cannot be told from its own escapes.
fn email(random: &mut Random) -> Value {
    let (left, right) = (word(random), word(random));
    let middle = ["@", "@Ä", "@Привет.", " @", "'@"][usize::try_from(random.below(5)).unwrap_or(0)];
    format!("{left}{middle}{right}").into()
}

/// NULL, short, or longer than a key may be.
fn tag(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::NULL,
        1 => "x".repeat(240 + usize::try_from(random.below(12)).unwrap_or(0)).into(),
        2 => "".into(),
        _ => word(random).into(),
    }
}

fn amount(random: &mut Random) -> Value {
    let cents = random.below(2_000_000);
    match random.below(5) {
        0 => Value::NULL,
        1 => format!("-{}.{:02}", cents / 100, cents % 100).into(),
        2 => "0.00".into(),
        _ => format!("{}.{:02}", cents / 100, cents % 100).into(),
    }
}

fn size(random: &mut Random) -> Value {
    let size = i64::try_from(random.below(4000)).unwrap_or(0) - 2000;
    size.into()
}

fn note(random: &mut Random) -> Value {
    if random.one_in(2) { Value::NULL } else { "### @1='no'\\ \n".repeat(3).into() }
}

fn word(random: &mut Random) -> String {
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_%'";
    let length = 4 + random.below(8);
    let letter = |random: &mut Random| {
        let at = usize::try_from(random.below(letters.len() as u64)).unwrap_or(0);
        char::from(letters[at])
    };
    (0..length).map(|_| letter(random)).collect()
}
