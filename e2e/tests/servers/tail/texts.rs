//! Text forms on real servers: every character of every character set, JSON, and MariaDB's disguised types, each as the
//! server itself says it.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use binlog::{
    assemble::{Change, Commit, Rows},
    charset,
    layout::{Field, Layout},
};
use e2e::{
    random::Random,
    servers::{Database, Kind},
};
use expect_test::expect;
use mysql_async::prelude::Queryable;
use schemas::{
    gtid::{Dialect, GtidSet},
    rules::Rules,
};
use tokio::time::timeout;

use super::{
    book::Book,
    tailing::{PATIENCE, Tailing, server, settings},
};
use crate::support::random;

/// Of both servers, but for the last, which MariaDB does not have.
const CHARACTER_SETS: [&str; 33] = [
    "armscii8", "big5", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "cp932",
    "dec8", "eucjpms", "euckr", "gb2312", "gbk", "geostd8", "greek", "hebrew", "hp8", "keybcs2",
    "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "sjis", "swe7",
    "tis620", "ujis", "gb18030",
];
/// Those with characters of more than one byte.
const OF_TWO_BYTES: [&str; 9] =
    ["big5", "cp932", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "sjis", "ujis"];
/// Differences that are shown.
const SHOWN_MAX: usize = 50;

/// Texts by row.
type Texts = BTreeMap<u32, Option<Vec<u8>>>;

async fn executed(database: &Database) -> GtidSet {
    let (dialect, question) = match database.kind() {
        Kind::Mysql => (Dialect::Mysql, "SELECT @@global.gtid_executed"),
        Kind::Mariadb => (Dialect::MariaDb, "SELECT @@global.gtid_binlog_pos"),
    };
    let mut conn = database.connect().await.expect("a connection");
    let set: Option<String> = conn.query_first(question).await.expect("an answer");
    conn.disconnect().await.expect("the end of a session");
    GtidSet::parse(dialect, &set.unwrap_or_default()).expect("a set")
}

/// What we make of column `text` of a table's inserted rows.
fn ours(rows: &Rows<'_>, into: &mut Texts) {
    let column = |name| rows.table.column(name).expect("a column");
    let layout = Layout::compile(&rows.table, &[column("id"), column("text")]).expect("a layout");
    let walked = layout.walk(rows, &mut |images| {
        let Field::Text(id) = images.after(0) else { panic!("id is text") };
        let id = str::from_utf8(&id).ok().and_then(|id| id.parse().ok()).expect("a number");
        let text = match images.after(1) {
            Field::Text(text) => Some(text.into_owned()),
            Field::Null | Field::Absent => None,
        };
        into.insert(id, text);
    });
    walked.expect("rows that can be read");
}

/// What the server makes of it.
async fn theirs(database: &Database, table: &str) -> Texts {
    let mut conn = database.connect().await.expect("a connection");
    let question = format!("SELECT id, CAST(CONVERT(text USING utf8mb4) AS BINARY) FROM {table}");
    let rows: Vec<(u32, Option<Vec<u8>>)> = conn.query(question).await.expect("texts");
    conn.disconnect().await.expect("the end of a session");
    rows.into_iter().collect()
}

/// Every code of one or two bytes that the server takes for a character; of GB18030 also those of four bytes: all up to
/// U+FFFF, and some beyond.
async fn every_character_of(database: &Database, set: &str) -> (Texts, Texts) {
    let before = executed(database).await;
    let table = format!("shop.in_{set}");
    let create = format!(
        "CREATE TABLE {table} (id INT UNSIGNED PRIMARY KEY, text VARCHAR(8) CHARACTER SET {set})"
    );
    let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
        SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9 UNION ALL SELECT 10 UNION ALL \
        SELECT 11 UNION ALL SELECT 12 UNION ALL SELECT 13 UNION ALL SELECT 14 UNION ALL SELECT 15)";
    let codes = format!(
        "SELECT a.d * 4096 + b.d * 256 + c.d * 16 + e.d n FROM {digits} a, {digits} b, {digits} c, {digits} e"
    );
    let end = if OF_TWO_BYTES.contains(&set) { 1 << 16 } else { 1 << 8 };
    // One that is no character is NULL.
    let insert = format!(
        "INSERT INTO {table} SELECT n, t FROM (SELECT n, CHAR(n USING {set}) t FROM ({codes}) codes) chars \
         WHERE t IS NOT NULL AND n < {end}"
    );
    database.run(&["SET sql_mode = ''", &create, &insert]).await.expect("characters");
    if set == "gb18030" {
        let four_bytes = four_bytes(&table);
        let statements: Vec<&str> = four_bytes.iter().map(String::as_str).collect();
        database.run(&statements).await.expect("characters of four bytes");
    }
    let ours = texts_behind(database, before).await;
    (ours, theirs(database, &table).await)
}

/// Inserts characters of GB18030 of four bytes, of which there are 126 * 100 for each first one.
fn four_bytes(table: &str) -> [String; 3] {
    let insert = |numbers: &str| {
        let code = "((n DIV 12600 + 129) << 24) + ((n DIV 1260 % 10 + 48) << 16) \
            + ((n DIV 10 % 126 + 129) << 8) + n % 10 + 48";
        format!(
            "INSERT INTO {table} WITH RECURSIVE numbers (n) AS ({numbers}), \
             chars AS (SELECT {code} c, CHAR({code} USING gb18030) t FROM numbers) \
             SELECT c, t FROM chars WHERE t IS NOT NULL"
        )
    };
    [
        "SET sql_mode = '', cte_max_recursion_depth = 100000".to_owned(),
        insert("SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 39419"),
        insert("SELECT 189000 UNION ALL SELECT n + 101 FROM numbers WHERE n < 1237500"),
    ]
}

/// What we make of the rows that were inserted behind `before`.
async fn texts_behind(database: &Database, before: GtidSet) -> Texts {
    let after = executed(database).await;
    let (mut texts, mut executed) = (Texts::new(), before.clone());
    let mut each = |change: Change<'_>| {
        match change {
            Change::Rows(rows) => ours(&rows, &mut texts),
            Change::Commit(Commit { gtid: Some(gtid), .. }) => {
                assert!(executed.insert(&gtid), "one kind of server");
            }
            _ => {}
        }
        if executed.contains_all(&after) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let settings = settings(&database.address(), 4009);
    let reading = tailer::read_changes(&settings, &before, &mut each);
    timeout(PATIENCE, reading).await.expect("in time").expect("a dump");
    texts
}

/// Where we say something, it is what the server says. Where we say nothing, the server has no character either, or one of
/// the few that only it has.
#[tokio::test(flavor = "multi_thread")]
async fn every_character() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let Some((_lab, database)) = server("every_character", kind).await else { continue };
        let (mut wrong, mut counts) = (Vec::new(), String::new());
        for set in CHARACTER_SETS {
            if set == "gb18030" && kind == Kind::Mariadb {
                continue;
            }
            let (ours, theirs) = every_character_of(&database, set).await;
            assert_eq!(ours.len(), theirs.len(), "{kind} {set}");
            let mut unsaid = 0;
            for (code, theirs) in &theirs {
                // What servers say of what is no character.
                let none = theirs.as_ref().is_none_or(|text| text.contains(&b'?'));
                match &ours[code] {
                    Some(ours) if Some(ours) == theirs.as_ref() => {}
                    None if none => {}
                    None => unsaid += 1,
                    Some(ours) => wrong.push(format!(
                        "{set} {code:04x}: ours {:?}, the server's {:?}",
                        String::from_utf8_lossy(ours),
                        theirs.as_ref().map(|text| String::from_utf8_lossy(text).into_owned())
                    )),
                }
            }
            if unsaid > 0 {
                counts += &format!("{set} {unsaid}\n");
            }
        }
        let count = wrong.len();
        wrong.truncate(SHOWN_MAX);
        assert_eq!(count, 0, "{kind}:\n{}", wrong.join("\n"));
        let expected = match kind {
            Kind::Mysql => expect![[r#"
                big5 7
                eucjpms 940
                latin5 32
                tis620 41
                ujis 940
                gb18030 19
            "#]],
            Kind::Mariadb => expect![[r#"
                big5 7
                eucjpms 940
                latin5 32
                tis620 41
                ujis 940
            "#]],
        };
        expected.assert_eq(&counts);
    }
}

/// No server has a character set that we do not know, nor a collation.
#[tokio::test(flavor = "multi_thread")]
async fn every_collation() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let Some((_lab, database)) = server("every_collation", kind).await else { continue };
        let question = match kind {
            Kind::Mysql => "SELECT character_set_name, id FROM information_schema.collations",
            Kind::Mariadb => {
                "SELECT character_set_name, id FROM information_schema.collation_character_set_applicability"
            }
        };
        let mut conn = database.connect().await.expect("a connection");
        let all: Vec<(String, u16)> = conn.query(question).await.expect("collations");
        conn.disconnect().await.expect("the end of a session");
        assert!(all.len() > 200, "{kind}: {}", all.len());
        let unknown = all.iter().filter(|(set, collation)| {
            !charset::KNOWN.contains(&set.as_str()) || !charset::is_known(*collation)
        });
        assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&(String, u16)>::new(), "{kind}");
    }
}

/// Every path of a JSON column, and what the server itself takes from it; on MySQL in its binary form.
#[tokio::test(flavor = "multi_thread")]
async fn json_by_path() {
    const RULES: &str = r#"
[[rule]]
table = "shop.marker"
keys = ["marker:{id}"]

[[rule]]
table = "shop.docs"
keys = ["owner:{j|json:$.owner.ids[1]}", "tag:{k|json:$.tag}", "whole:{k|json:$}"]
"#;
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let Some((_lab, database)) = server("json_by_path", kind).await else { continue };
        let rules = Rules::parse("rules.toml", RULES).expect("rules");
        let settings = settings(&database.address(), 4001);
        let mut tailing = Tailing::launch_with_rules(settings, &Book::default(), rules);
        tailing.connected().await;
        let statements = [
            r#"INSERT INTO docs VALUES (1, '{"owner": {"ids": [1, 22]}}', '{"tag": "a\\u00e4"}', 1)"#,
            r#"INSERT INTO docs VALUES (2, '{"owner": {"ids": [1]}}', '{"tag": null}', 1)"#,
            "INSERT INTO docs VALUES (3, NULL, '17', 1)",
            r#"UPDATE docs SET j = '{"owner": {"ids": [true, 1.5e3]}}' WHERE id = 3"#,
        ];
        let outcome = tailing.outcome(&database, &statements).await;
        let expected = match kind {
            Kind::Mysql => expect![[r#"owner:1500.0 owner:22 tag:a\xc3\xa4 whole:17"#]],
            Kind::Mariadb => expect![[r#"owner:1.5e3 owner:22 tag:a\xc3\xa4 whole:17"#]],
        };
        expected.assert_eq(&outcome);
    }
}

/// A document with every kind of value: its text is the server's own.
#[tokio::test(flavor = "multi_thread")]
async fn json_as_the_server_prints_it() {
    let test = "json_as_the_server_prints_it";
    let Some((_lab, database)) = server(test, Kind::Mysql).await else { return };
    let before = executed(&database).await;
    let values = [
        "JSON_OBJECT('a', 1, 'bb', -1, 'c', 70000, 'd', -70000, 'e', 5000000000, 'f', 18446744073709551615)",
        "JSON_ARRAY(1.5, 1.0e0, 1e100, -0.0e0, 1e-7, 12345.678, CAST('1.10' AS DECIMAL(5,2)), TRUE, FALSE, NULL)",
        r#"JSON_ARRAY('quote " slash \\ tab \t line \n bell', 'käse 😀', '', REPEAT('x', 200), CHAR(1))"#,
        "JSON_ARRAY(DATE '2024-02-29', TIME '-12:34:56.789', TIMESTAMP '2024-02-29 12:34:56.789', DATE '0001-01-01')",
        "JSON_ARRAY(_binary 'bytes', _binary 'by', _binary '', ST_GeomFromText('POINT(1 2)'))",
        "JSON_OBJECT('nested', JSON_ARRAY(JSON_OBJECT(), JSON_ARRAY(), JSON_ARRAY(JSON_ARRAY(1))), '', 'empty')",
        "JSON_OBJECT('large', REPEAT('y', 70000), 'n', 100000, 'i', 7, 't', TRUE)",
        "'\"text\"'",
        "'1'",
        "'null'",
        "NULL",
    ];
    let rows: Vec<String> =
        values.iter().enumerate().map(|(id, value)| format!("({id}, {value})")).collect();
    let create = "CREATE TABLE shop.json (id INT PRIMARY KEY, text JSON)";
    let insert = format!("INSERT INTO shop.json VALUES {}", rows.join(", "));
    database.run(&["SET NAMES utf8mb4", create, &insert]).await.expect("documents");
    let ours = texts_behind(&database, before).await;
    let theirs = theirs(&database, "shop.json").await;
    assert_eq!(ours.len(), values.len());
    let text = |text: &Option<Vec<u8>>| {
        text.as_ref().map(|text| String::from_utf8_lossy(text).into_owned())
    };
    for (id, ours) in &ours {
        assert_eq!(text(ours), text(&theirs[id]), "document {id}");
    }
}

/// UUID, INET4 and INET6 in keys are as the server prints them, also after a change of their type.
#[tokio::test(flavor = "multi_thread")]
async fn disguised_types() {
    const RULES: &str = r#"
[[rule]]
table = "shop.marker"
keys = ["marker:{id}"]

[[rule]]
table = "shop.disguised"
keys = ["key:{text}"]
"#;
    let Some((_lab, database)) = server("disguised_types", Kind::Mariadb).await else { return };
    let create = "CREATE TABLE shop.disguised (id INT PRIMARY KEY, text UUID)";
    database.run(&[create]).await.expect("a table");
    let rules = Rules::parse("rules.toml", RULES).expect("rules");
    let settings = settings(&database.address(), 4001);
    let mut tailing = Tailing::launch_with_rules(settings, &Book::default(), rules);
    tailing.connected().await;
    let mut random = random(1);
    for (kind, values) in [
        ("UUID", (0..40).map(|kind| uuid(&mut random, kind)).collect::<Vec<_>>()),
        ("INET6", (0..40).map(|_| inet6(&mut random)).collect()),
        ("INET4", (0..5).map(|at| format!("10.{at}.0.{}", at * 50)).collect()),
    ] {
        let empty = "DELETE FROM disguised";
        let change = format!("ALTER TABLE disguised DROP text, ADD text {kind}");
        tailing.outcome(&database, &[empty, &change]).await;
        let rows = values.iter().enumerate().map(|(id, value)| format!("({id}, '{value}')"));
        let insert =
            format!("INSERT INTO disguised VALUES {}", rows.collect::<Vec<_>>().join(", "));
        database.run(&["USE shop", &insert]).await.expect("rows");
        let written = tailing.mark(&database).await;
        let ours: BTreeSet<String> = written.keys.into_iter().collect();
        let theirs = theirs(&database, "shop.disguised").await;
        let key = |text: Option<Vec<u8>>| {
            format!("key:{}", String::from_utf8_lossy(&text.unwrap_or_default()))
        };
        let theirs: BTreeSet<String> = theirs.into_values().map(key).collect();
        assert_eq!(ours, theirs, "{kind}");
    }
}

/// Of every kind that the server takes, and every variant.
fn uuid(random: &mut Random, kind: u64) -> String {
    let (high, low) = (random.bits(), random.bits());
    let high = (high & !0xf000) | ((kind % 8) << 12);
    let text = format!("{high:016x}{low:016x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// With groups that are 0.
fn inet6(random: &mut Random) -> String {
    let group = |random: &mut Random| match random.bits() % 3 {
        0 => format!("{:x}", random.bits() & 0xffff),
        _ => "0".to_owned(),
    };
    let groups: Vec<String> = (0..8).map(|_| group(random)).collect();
    groups.join(":")
}
