//! Answers, and what preflight makes of them.

use expect_test::{Expect, expect};
use schemas::config::Address;

use super::*;
use crate::settings::{Order, Versions};

const RULES: &str = r#"
[[rule]]
name = "users"
table = "shop.users"
keys = ["user:{id}"]
"#;

fn column(name: &str, kind: &str) -> Column {
    Column { name: name.to_owned(), kind: kind.to_owned(), ..Column::default() }
}

/// The primary key.
fn id() -> Column {
    Column { key: Key::Primary, ..column("id", "int") }
}

fn good(version: &str) -> Answers {
    let on = [
        ("log_bin", "ON"),
        ("binlog_format", "ROW"),
        ("binlog_row_image", "FULL"),
        ("binlog_row_metadata", "FULL"),
        ("binlog_checksum", "CRC32"),
        ("gtid_mode", "ON"),
        ("server_id", "1"),
        ("server_uuid", "3e11fa47-71ca-11e1-9e33-c80aa9429562"),
        ("read_only", "OFF"),
        ("log_replica_updates", "ON"),
    ];
    let users = Table {
        schema: "shop".to_owned(),
        name: "users".to_owned(),
        engine: "InnoDB".to_owned(),
        columns: vec![id(), column("tags", "json")],
    };
    Answers {
        version: version.to_owned(),
        variables: on
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        grants: vec![
            "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT, BINLOG MONITOR ON *.* TO `m`@`%`"
                .to_owned(),
        ],
        tables: vec![users],
        ..Answers::default()
    }
}

fn judged(rules: &str, answers: &Answers) -> String {
    let address: Address = "127.0.0.1:3306".parse().unwrap();
    let settings = Settings { user: "mcsqueal".to_owned(), ..Settings::new("shop", address, 4217) };
    let rules = Rules::parse("rules.toml", rules).unwrap();
    judge(&settings, &rules, answers).unwrap().to_string()
}

/// Changes one answer of a good server.
fn check(version: &str, change: impl Fn(&mut Answers), expect: Expect) {
    let mut answers = good(version);
    change(&mut answers);
    expect.assert_eq(&judged(RULES, &answers));
}

fn set(answers: &mut Answers, name: &str, value: &str) {
    answers.variables.insert(name.to_owned(), value.to_owned());
}

#[test]
fn good_servers() {
    for version in [
        "8.0.11",
        "9.7.4",
        "10.6.1-MariaDB",
        "11.8.3-MariaDB-0+deb13u1-log",
        "5.5.5-10.11.6-MariaDB",
    ] {
        check(version, |_| {}, expect![""]);
    }
}

#[test]
fn old_servers() {
    check("5.7.44-log", |_| {}, expect!["refused: the server is MySQL 5.7.44-log, older than 8.0"]);
    check(
        "10.5.20-MariaDB",
        |_| {},
        expect!["refused: the server is MariaDB 10.5.20-MariaDB, older than 10.6"],
    );
}

#[test]
fn settings_that_hide_changes() {
    let all = |answers: &mut Answers| {
        set(answers, "log_bin", "OFF");
        set(answers, "binlog_format", "STATEMENT");
        set(answers, "binlog_row_image", "MINIMAL");
        set(answers, "binlog_row_metadata", "MINIMAL");
        set(answers, "binlog_row_value_options", "PARTIAL_JSON");
        set(answers, "binlog_checksum", "NONE");
        answers.filters.push("binlog_do_db is other".to_owned());
    };
    check(
        "8.4.0",
        all,
        expect![[r#"
            refused: log_bin is OFF: there is no binlog to read
                # in my.cnf, below [mysqld], then restart: log_bin = binlog
            refused: binlog_format is STATEMENT, and must be ROW: statements do not say which rows they changed
                SET PERSIST binlog_format = ROW;
                # or, to run all the same, below [source]: accept = ["binlog_format"]
            refused: binlog_row_image is MINIMAL, and must be FULL: keys are built from the whole row, before and after
                SET PERSIST binlog_row_image = FULL;
                # or, to run all the same, below [source]: accept = ["binlog_row_image"]
            refused: binlog_row_metadata is MINIMAL, and must be FULL: only then does each event name its columns
                SET PERSIST binlog_row_metadata = FULL;
                # or, to run all the same, below [source]: accept = ["binlog_row_metadata"]
            refused: binlog_do_db is other: changes elsewhere are not in the binlog
                # remove it from my.cnf, and restart
                # or, to run all the same, below [source]: accept = ["binlog_filter"]
            warning: binlog_checksum is NONE: events that changed on the way cannot be told
                SET PERSIST binlog_checksum = CRC32;
            warning: binlog_row_value_options is PARTIAL_JSON: updates of JSON columns that rules name become floors
                SET PERSIST binlog_row_value_options = '';"#]],
    );
    check(
        "11.8.3-MariaDB",
        all,
        expect![[r#"
            refused: log_bin is OFF: there is no binlog to read
                # in my.cnf, below [mariadb], then restart: log_bin = binlog
            refused: binlog_format is STATEMENT, and must be ROW: statements do not say which rows they changed
                SET GLOBAL binlog_format = ROW;
                # and in my.cnf, below [mariadb]: binlog_format = ROW
                # or, to run all the same, below [source]: accept = ["binlog_format"]
            refused: binlog_row_image is MINIMAL, and must be FULL: keys are built from the whole row, before and after
                SET GLOBAL binlog_row_image = FULL;
                # and in my.cnf, below [mariadb]: binlog_row_image = FULL
                # or, to run all the same, below [source]: accept = ["binlog_row_image"]
            refused: binlog_row_metadata is MINIMAL, and must be FULL: only then does each event name its columns
                SET GLOBAL binlog_row_metadata = FULL;
                # and in my.cnf, below [mariadb]: binlog_row_metadata = FULL
                # or, to run all the same, below [source]: accept = ["binlog_row_metadata"]
            refused: binlog_do_db is other: changes elsewhere are not in the binlog
                # remove it from my.cnf, and restart
                # or, to run all the same, below [source]: accept = ["binlog_filter"]
            warning: binlog_checksum is NONE: events that changed on the way cannot be told
                SET GLOBAL binlog_checksum = CRC32;
                # and in my.cnf, below [mariadb]: binlog_checksum = CRC32
            warning: binlog_row_value_options is PARTIAL_JSON: updates of JSON columns that rules name become floors
                SET GLOBAL binlog_row_value_options = '';
                # and in my.cnf, below [mariadb]: binlog_row_value_options = ''"#]],
    );
}

#[test]
fn gtids_and_topology() {
    check(
        "8.0.36",
        |answers| set(answers, "gtid_mode", "OFF_PERMISSIVE"),
        expect![[r#"
        warning: gtid_mode is OFF_PERMISSIVE: reading by file and position, which ends when another server takes over; then a floor is raised over all keys
            SET PERSIST enforce_gtid_consistency = ON;
            SET PERSIST gtid_mode = OFF_PERMISSIVE;
            SET PERSIST gtid_mode = ON_PERMISSIVE;
            SET PERSIST gtid_mode = ON;"#]],
    );
    check(
        "11.8.3-MariaDB",
        |answers| answers.executed = "0-1-5,1-1-7".to_owned(),
        expect![[r#"
            warning: the binlog has transactions of several domains: every change between them opens an epoch
                # or, to run in hold-off mode, below [source]: hold_off_ms = 10000 # longer than any replica is ever behind"#]],
    );
    let replica = |answers: &mut Answers| {
        answers.replication = Replication::Stopped;
        set(answers, "log_replica_updates", "OFF");
        set(answers, "server_id", "4217");
    };
    check(
        "8.4.0",
        replica,
        expect![[r#"
            refused: server_id 4217 is the server's own; ours must be another
            refused: the server is a replica and log_replica_updates is OFF: what it replicates is not in its binlog
                # in my.cnf, then restart: log_replica_updates = ON
                # or, to run all the same, below [source]: accept = ["log_replica_updates"]"#]],
    );
    check(
        "11.8.3-MariaDB",
        |answers| {
            set(answers, "wsrep_on", "ON");
            answers.replication = Replication::Running;
        },
        expect![[r#"
            refused: several servers write at the same time, and their changes have no common order
                # let one server take all writes, and set read_only = ON on the others
                # or, to run in hold-off mode, below [source]: hold_off_ms = 10000 # longer than any replica is ever behind
            warning: the server takes writes, and replicates from another one: if that one takes writes too (a ring), their changes have no common order
                # on the one that should not take writes: SET GLOBAL read_only = ON;
                # or, to run in hold-off mode, below [source]: hold_off_ms = 10000 # longer than any replica is ever behind"#]],
    );
}

#[test]
fn grants_that_are_missing() {
    let only = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        move |answers: &mut Answers| answers.grants.clone_from(&lines)
    };
    check(
        "8.4.0",
        only(&["GRANT USAGE ON *.* TO `m`@`%`"]),
        expect![[r#"
        refused: account mcsqueal lacks REPLICATION SLAVE, REPLICATION CLIENT
            GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'mcsqueal'@'%';"#]],
    );
    check(
        "8.4.0",
        only(&["GRANT REPLICATION SLAVE ON *.* TO `m`@`%`"]),
        expect![[r#"
        warning: account mcsqueal lacks REPLICATION CLIENT
            GRANT REPLICATION CLIENT ON *.* TO 'mcsqueal'@'%';"#]],
    );
    check(
        "8.4.0",
        only(&["GRANT USAGE ON *.* TO `m`@`%`", "GRANT `r`@`%` TO `m`@`%`"]),
        expect![[r#"
        warning: account mcsqueal lacks REPLICATION SLAVE, REPLICATION CLIENT
            GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'mcsqueal'@'%';"#]],
    );
    check(
        "11.8.3-MariaDB",
        only(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"]),
        expect![[""]],
    );
}

#[test]
fn rules_against_tables() {
    let rules = r#"
[[rule]]
name = "users"
table = "shop.users"
keys = ["user:{id}", "tags:{tags}", "mail:{emial}"]
[[rule]]
name = "orders"
table = "shop.orders"
keys = ["order:{id}"]
[[rule]]
name = "carts"
table = '/tenant_\d+\.carts/'
keys = ["cart:{id}"]
"#;
    let mut answers = good("8.4.0");
    answers.tables[0].engine = "MyISAM".to_owned();
    answers.tables[0].columns[0].key = Key::None;
    let table = |name: &str| ("shop".to_owned(), name.to_owned());
    answers.cascades = Some(vec![Cascade {
        name: "f".to_owned(),
        child: table("users"),
        parent: table("countries"),
        columns: vec!["code".to_owned()],
        on_delete: true,
        on_update: false,
    }]);
    expect![[r#"
        refused: rules.toml:6: rule "orders": table shop.orders does not exist
            # if it exists: GRANT SELECT ON `shop`.* TO 'mcsqueal'@'%';
        refused: rules.toml:5: rule "users": key "mail:{emial}": table shop.users has no column "emial"; it has: id, tags
        refused: rule "users": column tags of shop.users is JSON, which has many texts for one value
            # in the rule: {tags|json:$.path}
        refused: shop.users is of engine MyISAM: after a crash, its changes can be there and not in the binlog
            ALTER TABLE `shop`.`users` ENGINE = InnoDB;
            # or, to run all the same, below [source]: accept = ["storage_engine"]
        warning: rule "carts": no table matches /tenant_\d+\.carts/ (that the account may see)
        warning: shop.users has no primary key: replicas scan it for each changed row and fall behind, and what is read there is not cached meanwhile
            # ALTER TABLE `shop`.`users` ADD PRIMARY KEY (...);
        warning: foreign key f of shop.users changes rows that the binlog does not name: each change of shop.countries that it follows is a floor
            # change such rows by statements of their own"#]].assert_eq(&judged(rules, &answers));
}

#[test]
fn columns_that_images_hide_or_disguise_are_refused() {
    let rules = r#"
[[rule]]
name = "users"
table = "shop.users"
keys = ["user:{id}", "slug:{slug}", "visit:{visit}", "weight:{weight}"]
"#;
    let columns = vec![
        id(),
        Column { origin: Values::Generated, ..column("slug", "varchar") },
        column("visit", "uuid"),
        column("weight", "double"),
    ];
    let mut answers = good("11.8.3-MariaDB");
    answers.tables[0].columns.clone_from(&columns);
    expect![[r#"
        refused: rule "users": column slug of shop.users is generated, and MariaDB leaves it out of the binlog
            # keep it in an ordinary column (a BEFORE trigger can fill it), and name that in the rule"#]].assert_eq(&judged(rules, &answers));
    let mut answers = good("8.4.0");
    answers.tables[0].columns = columns;
    answers.tables[0].columns[2].kind = "binary".to_owned();
    expect![""].assert_eq(&judged(rules, &answers));
}

#[test]
fn columns_in_character_sets_without_conversion() {
    let rules = "[[rule]]\nname = \"users\"\ntable = \"shop.users\"\nkeys = [\"user:{name}\"]\n";
    let mut answers = good("8.4.0");
    answers.tables[0].columns.push(column("name", "varchar in other"));
    expect![[r#"
        refused: rule "users": column name of shop.users is of type varchar in other, which has no conversion to UTF-8
            # convert the table: ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4"#]].assert_eq(&judged(rules, &answers));
}

#[test]
fn answers_without_sense_are_errors() {
    let mut answers = good("8.4.0");
    answers.executed = "0-1-5".to_owned();
    let settings = Settings::new("shop", "127.0.0.1:3306".parse().unwrap(), 4217);
    let rules = Rules::parse("rules.toml", RULES).unwrap();
    assert!(judge(&settings, &rules, &answers).is_err());
}

/// Versions that cannot be compared are refused where nodes compare them, and told of in hold-off mode.
#[test]
fn hold_off() {
    let rules = Rules::parse("rules.toml", RULES).unwrap();
    let told = |order, versions, change: fn(&mut Answers)| {
        let mut answers = good("8.4.0");
        change(&mut answers);
        let address: Address = "127.0.0.1:3306".parse().unwrap();
        let settings = Settings { order, versions, ..Settings::new("shop", address, 4217) };
        judge(&settings, &rules, &answers).unwrap()
    };
    let no_gtids = |answers: &mut Answers| set(answers, "gtid_mode", "OFF");
    let several = |answers: &mut Answers| {
        set(answers, "group_replication_group_name", "aaaaaaaa-0000-0000-0000-000000000000");
        set(answers, "group_replication_single_primary_mode", "OFF");
    };
    for change in [no_gtids, several] {
        let refused = told(Order::Numbers, Versions::Compared, change);
        assert!(!refused.is_passed() && refused.to_string().contains("hold_off_ms"), "{refused}");
        let held_off = told(Order::Binlog, Versions::Compared, change);
        assert!(
            held_off.is_passed() && held_off.to_string().contains("hold-off mode"),
            "{held_off}"
        );
    }
    assert!(told(Order::Numbers, Versions::Unused, no_gtids).is_passed());
    assert!(!told(Order::Numbers, Versions::Unused, several).is_passed());
}

/// Everything that could hide changes is accepted by its name, and by no other.
#[test]
fn dangers_are_accepted_by_name() {
    let mut answers = good("8.4.0");
    for (name, value) in [
        ("binlog_format", "MIXED"),
        ("binlog_row_image", "NOBLOB"),
        ("binlog_row_metadata", "MINIMAL"),
        ("log_replica_updates", "OFF"),
    ] {
        set(&mut answers, name, value);
    }
    answers.replication = Replication::Stopped;
    answers.filters.push("binlog_ignore_db is other".to_owned());
    answers.tables[0].engine = "MyISAM".to_owned();
    let rules = Rules::parse("rules.toml", RULES).unwrap();
    let found = |accept: Vec<Danger>| {
        let address: Address = "127.0.0.1:3306".parse().unwrap();
        let settings = Settings { accept, ..Settings::new("shop", address, 4217) };
        judge(&settings, &rules, &answers).unwrap()
    };
    let all = [
        Danger::BinlogFormat,
        Danger::BinlogRowImage,
        Danger::BinlogRowMetadata,
        Danger::BinlogFilter,
        Danger::LogReplicaUpdates,
        Danger::StorageEngine,
    ];
    let refused = |report: &Report| -> Vec<String> {
        let refused = report.findings.iter().filter(|it| it.severity == Severity::Refuse);
        refused.map(|it| it.fix.last().cloned().unwrap_or_default()).collect()
    };
    assert_eq!(refused(&found(vec![])).len(), all.len());
    for danger in all {
        let rest: Vec<Danger> = all.into_iter().filter(|other| *other != danger).collect();
        let name = danger.name();
        let fix = format!("# or, to run all the same, below [source]: accept = [\"{name}\"]");
        assert_eq!(refused(&found(rest)), [fix]);
    }
    let accepted = found(all.to_vec());
    assert!(accepted.is_passed(), "{accepted}");
    expect![[r#"
        warning: binlog_format is MIXED, and must be ROW: statements do not say which rows they changed (accepted: binlog_format)
            SET PERSIST binlog_format = ROW;
        warning: binlog_row_image is NOBLOB, and must be FULL: keys are built from the whole row, before and after (accepted: binlog_row_image)
            SET PERSIST binlog_row_image = FULL;
        warning: binlog_row_metadata is MINIMAL, and must be FULL: only then does each event name its columns (accepted: binlog_row_metadata)
            SET PERSIST binlog_row_metadata = FULL;
        warning: binlog_ignore_db is other: changes elsewhere are not in the binlog (accepted: binlog_filter)
            # remove it from my.cnf, and restart
        warning: the server is a replica and log_replica_updates is OFF: what it replicates is not in its binlog (accepted: log_replica_updates)
            # in my.cnf, then restart: log_replica_updates = ON
        warning: shop.users is of engine MyISAM: after a crash, its changes can be there and not in the binlog (accepted: storage_engine)
            ALTER TABLE `shop`.`users` ENGINE = InnoDB;"#]].assert_eq(&accepted.to_string());
}
