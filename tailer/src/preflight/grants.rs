//! The SQL that makes the tailer's account.

use schemas::gtid::Dialect;

/// CREATE USER and GRANT statements for an account that reads the binlog and sees the tables of `schemas`. The
/// password is a place-holder.
pub fn grants(dialect: Dialect, user: &str, schemas: &[&str]) -> Vec<String> {
    let monitor = match dialect {
        Dialect::Mysql => "REPLICATION CLIENT",
        Dialect::MariaDb => "BINLOG MONITOR",
    };
    let account = account(user);
    let mut statements = vec![
        format!("CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '<password>';"),
        format!("GRANT REPLICATION SLAVE, {monitor} ON *.* TO {account};"),
    ];
    statements.extend(schemas.iter().map(|schema| select(schema, user)));
    statements
}

/// Lets the account see the tables of a database.
pub(super) fn select(schema: &str, user: &str) -> String {
    // `_` and `%` are wildcards in the name of a database.
    let schema = schema.replace('`', "``").replace('_', "\\_").replace('%', "\\%");
    format!("GRANT SELECT ON `{schema}`.* TO {};", account(user))
}

/// The account, from any host.
pub(super) fn account(user: &str) -> String {
    format!("'{}'@'%'", user.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn statements() {
        let all = [
            grants(Dialect::Mysql, "mcsqueal", &["shop", "shop_2"]),
            grants(Dialect::MariaDb, "o'neil", &[]),
        ];
        expect![[r#"
            CREATE USER IF NOT EXISTS 'mcsqueal'@'%' IDENTIFIED BY '<password>';
            GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'mcsqueal'@'%';
            GRANT SELECT ON `shop`.* TO 'mcsqueal'@'%';
            GRANT SELECT ON `shop\_2`.* TO 'mcsqueal'@'%';
            CREATE USER IF NOT EXISTS 'o''neil'@'%' IDENTIFIED BY '<password>';
            GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'o''neil'@'%';"#]]
        .assert_eq(&all.concat().join("\n"));
    }
}
