//! What no setting of the server shows, because each session decides it for itself.

use schemas::gtid::Dialect;

/// For people: what a session can hide, who may do so, and what comes of the rest.
pub fn sessions(dialect: Dialect) -> String {
    let (privileges, floors) = match dialect {
        Dialect::Mysql => (
            "'SUPER', 'SYSTEM_VARIABLES_ADMIN', 'SESSION_VARIABLES_ADMIN'",
            "binlog_format, binlog_row_image and binlog_row_value_options",
        ),
        Dialect::MariaDb => ("'SUPER', 'BINLOG ADMIN'", "binlog_format and binlog_row_image"),
    };
    format!(
        "What only a session can do:\n  \
         SET SESSION sql_log_bin = 0 hides its changes from every reader of the binlog. Accounts that may:\n    \
         SELECT grantee, privilege_type FROM information_schema.user_privileges WHERE privilege_type IN ({privileges});\n  \
         {floors} of a session are seen when they are used: what then has no keys is a floor, \
         counted by reason in mcsqueal_tailer_floors_total.\n"
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn texts() {
        expect![[r#"
            What only a session can do:
              SET SESSION sql_log_bin = 0 hides its changes from every reader of the binlog. Accounts that may:
                SELECT grantee, privilege_type FROM information_schema.user_privileges WHERE privilege_type IN ('SUPER', 'SYSTEM_VARIABLES_ADMIN', 'SESSION_VARIABLES_ADMIN');
              binlog_format, binlog_row_image and binlog_row_value_options of a session are seen when they are used: what then has no keys is a floor, counted by reason in mcsqueal_tailer_floors_total.
        "#]].assert_eq(&sessions(Dialect::Mysql));
        expect![[r#"
            What only a session can do:
              SET SESSION sql_log_bin = 0 hides its changes from every reader of the binlog. Accounts that may:
                SELECT grantee, privilege_type FROM information_schema.user_privileges WHERE privilege_type IN ('SUPER', 'BINLOG ADMIN');
              binlog_format and binlog_row_image of a session are seen when they are used: what then has no keys is a floor, counted by reason in mcsqueal_tailer_floors_total.
        "#]].assert_eq(&sessions(Dialect::MariaDb));
    }
}
