//! The text of every refusal.

use expect_test::{Expect, expect};

use super::*;

/// Each of `files` must be refused.
fn check(files: &[String], expect: Expect) {
    let refuse = |text: &String| Rules::parse("shop.rules.toml", text).expect_err(text).to_string();
    expect.assert_eq(&files.iter().map(refuse).collect::<Vec<_>>().join("\n"));
}

/// Each of `lines` spoils a rule; it stands in line 5.
fn check_lines(lines: &[&str], expect: Expect) {
    let file = |line: &&str| {
        let keys = if line.starts_with("keys") { "" } else { "keys = [\"user:{id}\"]\n" };
        let table = if line.starts_with("table") { "" } else { "table = \"shop.users\"\n" };
        format!("# The shop.\n[[rule]]\n\n\n{line}\n{table}{keys}")
    };
    check(&lines.iter().map(file).collect::<Vec<_>>(), expect);
}

fn check_keys(templates: &[&str], expect: Expect) {
    let line = |template: &&str| format!("keys = [\"all\", {}]", toml::Value::from(*template));
    let lines: Vec<String> = templates.iter().map(line).collect();
    check_lines(&lines.iter().map(String::as_str).collect::<Vec<_>>(), expect);
}

#[test]
fn files() {
    const RULE: &str = "[[rule]]\ntable = 's.t'\nkeys = ['a']\n";
    let files = [
        String::new(),
        "# Nothing.\n".to_owned(),
        "[[rule]]\ntable = ".to_owned(),
        format!("{RULE}\n[[rules]]\n"),
        "\n[[rule]]\ntable = 's.t'\n".to_owned(),
        "\n[[rule]]\nkeys = ['a']\n".to_owned(),
        "# One.\n[rule]\ntable = 's.t'\nkeys = ['a']\n".to_owned(),
        format!("{RULE}\n[[query]]\nkey = 'a'\nsql = 'SELECT 1'\n"),
        "[query]\nkey = 'a'\n".to_owned(),
        format!("{RULE}[[rule]]\nname = 'rule-1'\ntable = 's.t'\nkeys = ['a']\n"),
        RULE.repeat(limits::RULES_MAX + 1),
        "[[rule]]\ntable = '/s.t/'\nkeys = ['{a|match:/b/}']\n".repeat(501),
        "#".repeat(limits::FILE_BYTES_MAX + 1),
    ];
    let refuse = |text: &String| Rules::parse("r", text).unwrap_err().to_string();
    expect![[r#"
        r:1: no `[[rule]]`: nothing would ever be invalidated
        r:1: no `[[rule]]`: nothing would ever be invalidated
        r:2: string values must be quoted, expected literal string
        r:5: unknown field `rules`, expected `rule` or `query`
        r:2: missing field `keys`
        r:2: missing field `table`
        r:2: write `[[rule]]`, with two brackets
        r:5: `[[query]]` is not supported yet; write a `[[rule]]` with the keys of the table
        r:1: `[[query]]` is not supported yet; write a `[[rule]]` with the keys of the table
        r:4: rule "rule-1": the rule at line 1 has this name too
        r:30001: more than 10000 rules
        r:1501: more than 1000 regexes in the file
        r:1: the file has 16777217 bytes, more than 16777216"#]]
    .assert_eq(&files.each_ref().map(refuse).join("\n"));
}

#[test]
fn rules() {
    check_lines(
        &[
            "key = [\"user:{id}\"]",
            "columns = \"name\"",
            "name = \"\"",
            "name = \"a\\nb\"",
            &format!("name = \"{}\"", "n".repeat(101)),
            "columns = []",
            "columns = [\"name\", \"\"]",
            "columns = [\"name\", \"NAME\"]",
            "operations = []",
            "operations = [\"upsert\"]",
            "operations = [\"insert\", \"insert\"]",
            "keys = []",
            &format!("keys = [{}]", "\"a\",".repeat(65)),
            "keys = [\n  \"user:{id}\",\n  \"user:{ ID }\",\n]",
        ],
        expect![[r#"
            shop.rules.toml:5: unknown field `key`, expected one of `name`, `table`, `keys`, `columns`, `operations`
            shop.rules.toml:5: invalid type: string "name", expected a sequence
            shop.rules.toml:5: rule 1: name is empty
            shop.rules.toml:5: rule 1: name contains a control character
            shop.rules.toml:5: rule 1: name is longer than 100 bytes
            shop.rules.toml:5: rule "rule-1": columns is empty; leave it out to fire on all updates
            shop.rules.toml:5: rule "rule-1": columns: a name is empty
            shop.rules.toml:5: rule "rule-1": columns: "NAME" is there twice
            shop.rules.toml:5: rule "rule-1": operations is empty; leave it out for all of them
            shop.rules.toml:5: rule "rule-1": operations: "upsert" is not one of "insert", "update", "delete"
            shop.rules.toml:5: rule "rule-1": operations: "insert" is there twice
            shop.rules.toml:5: rule "rule-1": keys is empty; without one the rule does nothing
            shop.rules.toml:5: rule "rule-1": keys has 65 entries, more than 64
            shop.rules.toml:7: rule "rule-1": key "user:{ ID }" is there twice"#]],
    );
}

#[test]
fn tables() {
    check_lines(
        &[
            "table = \"\"",
            "table = \"users\"",
            "table = \"shop.a.users\"",
            "table = \"`shop`.`users`\"",
            "table = \"/shop.users\"",
            "table = \"//\"",
            "table = '/shop_(\\d+.users/'",
            "table = '/a)(b/'",
            "table = '/(\\w{100}){100}/'",
            &format!("table = '/{}/'", "a".repeat(1000)),
        ],
        expect![[r#"
            shop.rules.toml:5: rule "rule-1": table is empty
            shop.rules.toml:5: rule "rule-1": table "users" must be `schema.table`, or a regex between slashes: '/shop_\d+\.users/'
            shop.rules.toml:5: rule "rule-1": table "shop.a.users" must be `schema.table`, or a regex between slashes: '/shop_\d+\.users/'
            shop.rules.toml:5: rule "rule-1": table "`shop`.`users`": leave out the backticks
            shop.rules.toml:5: rule "rule-1": table "/shop.users": the regex has no closing slash
            shop.rules.toml:5: rule "rule-1": table "//": the regex has no closing slash
            shop.rules.toml:5: rule "rule-1": table "/shop_(\\d+.users/": the regex is not valid: unclosed group
            shop.rules.toml:5: rule "rule-1": table "/a)(b/": the regex is not valid: unopened group
            shop.rules.toml:5: rule "rule-1": table "/(\\w{100}){100}/": the regex is not valid: it needs more than 1048576 bytes once compiled
            shop.rules.toml:5: rule "rule-1": table has 1002 bytes, more than 1000"#]],
    );
}

#[test]
fn templates() {
    check_keys(
        &[
            "",
            "user:{id",
            "user:{id|lower",
            "user:{id{name}",
            "user:id}",
            "käse:}",
            "user:{}",
            "user:{ |lower}",
            "user: {id}",
            "user:\n",
            "user:\0",
            "user:{i\\d}",
            "user:{@scheme}",
            "user:{@1}",
            "user:{@0}",
            "user:{@}",
            &"x".repeat(251),
            &"{a}".repeat(33),
            &"{a}".repeat(334),
        ],
        expect![[r#"
            shop.rules.toml:5: rule "rule-1": key "": it is empty
            shop.rules.toml:5: rule "rule-1": key "user:{id": the brace at column 6 is never closed
            shop.rules.toml:5: rule "rule-1": key "user:{id|lower": the brace at column 6 is never closed
            shop.rules.toml:5: rule "rule-1": key "user:{id{name}": the brace at column 6 is never closed
            shop.rules.toml:5: rule "rule-1": key "user:id}": the brace at column 8 closes nothing; write `}}` for a brace in the key
            shop.rules.toml:5: rule "rule-1": key "käse:}": the brace at column 6 closes nothing; write `}}` for a brace in the key
            shop.rules.toml:5: rule "rule-1": key "user:{}": the braces at column 6 name no column; write `{{` for a brace in the key
            shop.rules.toml:5: rule "rule-1": key "user:{ |lower}": the braces at column 6 name no column; write `{{` for a brace in the key
            shop.rules.toml:5: rule "rule-1": key "user: {id}": the space at column 6 cannot be part of a key
            shop.rules.toml:5: rule "rule-1": key "user:\n": the line end at column 6 cannot be part of a key
            shop.rules.toml:5: rule "rule-1": key "user:\0": the NUL at column 6 cannot be part of a key
            shop.rules.toml:5: rule "rule-1": key "user:{i\\d}": the backslash at column 8 must stand before one of `{ } | : @ \` or a space
            shop.rules.toml:5: rule "rule-1": key "user:{@scheme}": `@scheme` at column 7 does not exist; there are: @schema, @table, and @1, @2, .. for the groups of a table regex
            shop.rules.toml:5: rule "rule-1": key "user:{@1}": `@1` at column 7: the table pattern has 0 groups
            shop.rules.toml:5: rule "rule-1": key "user:{@0}": `@0` at column 7: the table pattern has 0 groups
            shop.rules.toml:5: rule "rule-1": key "user:{@}": `@` at column 7 does not exist; there are: @schema, @table, and @1, @2, .. for the groups of a table regex
            shop.rules.toml:5: rule "rule-1": key "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...": its fixed text alone is longer than the 250 bytes of a key
            shop.rules.toml:5: rule "rule-1": key "{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}": it names more than 32 columns
            shop.rules.toml:5: rule "rule-1": key "{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}...": it has 1002 bytes, more than 1000"#]],
    );
}

#[test]
fn filters() {
    check_keys(
        &[
            "user:{id|}",
            "user:{id|lowr}",
            "user:{id|lower:x}",
            "user:{id|default}",
            "user:{id|match}",
            "user:{id|match:a}",
            "user:{id|match:/a}",
            "user:{id|match:/a/b}",
            "user:{id|match:/a(/}",
            "user:{id|match:/(\\w{100}){100}/}",
        ],
        expect![[r#"
            shop.rules.toml:5: rule "rule-1": key "user:{id|}": the filter at column 10 has no name
            shop.rules.toml:5: rule "rule-1": key "user:{id|lowr}": the filter `lowr` at column 10 does not exist; there are: lower, upper, sha1, md5, xxh64, hex, base64, default:TEXT, match:/REGEX/, json:PATH
            shop.rules.toml:5: rule "rule-1": key "user:{id|lower:x}": the filter `lower` at column 10 takes no argument
            shop.rules.toml:5: rule "rule-1": key "user:{id|default}": the filter `default` at column 10 needs a text: `default:TEXT`
            shop.rules.toml:5: rule "rule-1": key "user:{id|match}": the filter `match` at column 10 needs a regex between slashes: `match:/REGEX/`
            shop.rules.toml:5: rule "rule-1": key "user:{id|match:a}": the filter `match` at column 10 needs a regex between slashes: `match:/REGEX/`
            shop.rules.toml:5: rule "rule-1": key "user:{id|match:/a}": the brace at column 6 is never closed
            shop.rules.toml:5: rule "rule-1": key "user:{id|match:/a/b}": the brace at column 6 is never closed
            shop.rules.toml:5: rule "rule-1": key "user:{id|match:/a(/}": the regex at column 10 is not valid: unclosed group
            shop.rules.toml:5: rule "rule-1": key "user:{id|match:/(\\w{100}){100}/}": the regex at column 10 is not valid: it needs more than 1048576 bytes once compiled"#]],
    );
}

#[test]
fn columns_that_do_not_exist() {
    let rules = "[[rule]]\nname = 'users'\ntable = 'shop.users'\ncolumns = [\n  'Name',\n  'nick',\n]\n\
                 keys = ['user:{ID}', 'e:{emial}', 'f:{emial}:{id}']\n\
                 [[rule]]\ntable = '/shop.*/'\nkeys = ['{a}']\n";
    let rules = Rules::parse("r.toml", rules).unwrap();
    let show = |errors: Vec<RulesError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        r.toml:6: rule "users": columns: table shop.users has no column "nick"; it has: id, email, name
        r.toml:8: rule "users": key "e:{emial}": table shop.users has no column "emial"; did you mean "email"? It has: id, email, name
        r.toml:11: rule "rule-2": key "{a}": table shop.users has no column "a"; it has: id, email, name"#]].assert_eq(&show(rules.check_columns("shop", "users", &["id", "email", "name"])));
    expect![[""]].assert_eq(&show(rules.check_columns("shop", "orders", &["id", "a"])));
    let many: Vec<String> = (0..60).map(|number| format!("c{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    expect![[r#"r.toml:11: rule "rule-2": key "{a}": table shop.wide has no column "a"; it has: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30, c31, c32, c33, c34, c35, c36, c37, c38, c39, c40, c41, c42, c43, c44, c45, c46, c47, c48, c49 and 10 more"#]].assert_eq(&show(rules.check_columns("shop", "wide", &many)));
    expect![[r#"r.toml:1: rule "users": table shop.users does not exist"#]]
        .assert_eq(&show(rules.missing_table("shop", "users")));
    expect![[""]].assert_eq(&show(rules.missing_table("shop", "orders")));
}
