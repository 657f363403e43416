//! The text of every refusal.

use expect_test::{Expect, expect};

use super::*;

fn check(text: &str, expect: Expect) {
    let refused = Rules::parse("shop.rules.toml", text).expect_err("must be refused");
    expect.assert_eq(&refused.to_string());
}

/// A rule that is good but for `line`, which is line 5.
fn check_line(line: &str, expect: Expect) {
    let keys = if line.starts_with("keys") { "" } else { "keys = [\"user:{id}\"]\n" };
    let table = if line.starts_with("table") { "" } else { "table = \"shop.users\"\n" };
    let text = format!("# The shop.\n[[rule]]\n{}{line}\n{table}{keys}", "\n\n");
    check(&text, expect);
}

fn check_key(template: &str, expect: Expect) {
    check_line(&format!("keys = [\"all\", {}]", toml::Value::from(template)), expect);
}

#[test]
fn files() {
    check("", expect!["shop.rules.toml:1: no `[[rule]]`: nothing would ever be invalidated"]);
    check("# Nothing.\n", expect!["shop.rules.toml:1: no `[[rule]]`: nothing would ever be invalidated"]);
    check("[[rule]]\ntable = ", expect!["shop.rules.toml:2: string values must be quoted, expected literal string"]);
    check("[[rule]]\ntable = 's.t'\nkeys = ['a']\n\n[[rules]]\n", expect!["shop.rules.toml:5: unknown field `rules`, expected `rule` or `query`"]);
    check("\n[[rule]]\ntable = 's.t'\n", expect!["shop.rules.toml:2: missing field `keys`"]);
    check("\n[[rule]]\nkeys = ['a']\n", expect!["shop.rules.toml:2: missing field `table`"]);
    check("[rule]\ntable = 's.t'\nkeys = ['a']\n", expect!["shop.rules.toml:1: write `[[rule]]`, with two brackets"]);
    check(
        "[[rule]]\ntable = 's.t'\nkeys = ['a']\n\n[[query]]\nkey = 'a'\nsql = 'SELECT 1'\n",
        expect!["shop.rules.toml:5: `[[query]]` is not supported yet; write a `[[rule]]` with the keys of the table"],
    );
    check("[query]\nkey = 'a'\n", expect!["shop.rules.toml:1: `[[query]]` is not supported yet; write a `[[rule]]` with the keys of the table"]);
    check(
        "[[rule]]\ntable = 's.t'\nkeys = ['a']\n[[rule]]\nname = 'rule-1'\ntable = 's.t'\nkeys = ['a']\n",
        expect![[r#"shop.rules.toml:4: rule "rule-1": the rule at line 1 has this name too"#]],
    );
    check(&"[[rule]]\ntable = 's.t'\nkeys = ['a']\n".repeat(10_001), expect!["shop.rules.toml:30001: more than 10000 rules"]);
    check(&"[[rule]]\ntable = '/s.t/'\nkeys = ['{a|match:/b/}']\n".repeat(501), expect!["shop.rules.toml:1501: more than 1000 regexes in the file"]);
    check(&"#".repeat(limits::FILE_BYTES_MAX + 1), expect!["shop.rules.toml:1: the file has 16777217 bytes, more than 16777216"]);
}

#[test]
fn rules() {
    check_line("key = [\"user:{id}\"]", expect!["shop.rules.toml:5: unknown field `key`, expected one of `name`, `table`, `keys`, `columns`, `operations`"]);
    check_line("columns = \"name\"", expect![[r#"shop.rules.toml:5: invalid type: string "name", expected a sequence"#]]);
    check_line("name = \"\"", expect!["shop.rules.toml:5: rule 1: name is empty"]);
    check_line("name = \"a\\nb\"", expect!["shop.rules.toml:5: rule 1: name contains a control character"]);
    check_line(&format!("name = \"{}\"", "n".repeat(101)), expect!["shop.rules.toml:5: rule 1: name is longer than 100 bytes"]);
    check_line("table = \"\"", expect![[r#"shop.rules.toml:5: rule "rule-1": table is empty"#]]);
    check_line("table = \"users\"", expect![[r#"shop.rules.toml:5: rule "rule-1": table "users" must be `schema.table`, or a regex between slashes: '/shop_\d+\.users/'"#]]);
    check_line("table = \"shop.a.users\"", expect![[r#"shop.rules.toml:5: rule "rule-1": table "shop.a.users" must be `schema.table`, or a regex between slashes: '/shop_\d+\.users/'"#]]);
    check_line("table = \"`shop`.`users`\"", expect![[r#"shop.rules.toml:5: rule "rule-1": table "`shop`.`users`": leave out the backticks"#]]);
    check_line("table = \"/shop.users\"", expect![[r#"shop.rules.toml:5: rule "rule-1": table "/shop.users": the regex has no closing slash"#]]);
    check_line("table = \"//\"", expect![[r#"shop.rules.toml:5: rule "rule-1": table "//": the regex has no closing slash"#]]);
    check_line("table = '/shop_(\\d+.users/'", expect![[r#"shop.rules.toml:5: rule "rule-1": table "/shop_(\\d+.users/": the regex is not valid: unclosed group"#]]);
    check_line("table = '/a)(b/'", expect![[r#"shop.rules.toml:5: rule "rule-1": table "/a)(b/": the regex is not valid: unopened group"#]]);
    check_line("table = '/(\\w{100}){100}/'", expect![[r#"shop.rules.toml:5: rule "rule-1": table "/(\\w{100}){100}/": the regex is not valid: it needs more than 1048576 bytes once compiled"#]]);
    check_line(&format!("table = '/{}/'", "a".repeat(1000)), expect![[r#"shop.rules.toml:5: rule "rule-1": table has 1002 bytes, more than 1000"#]]);
    check_line("columns = []", expect![[r#"shop.rules.toml:5: rule "rule-1": columns is empty; leave it out to fire on all updates"#]]);
    check_line("columns = [\"name\", \"\"]", expect![[r#"shop.rules.toml:5: rule "rule-1": columns: a name is empty"#]]);
    check_line("columns = [\"name\", \"NAME\"]", expect![[r#"shop.rules.toml:5: rule "rule-1": columns: "NAME" is there twice"#]]);
    check_line("operations = []", expect![[r#"shop.rules.toml:5: rule "rule-1": operations is empty; leave it out for all of them"#]]);
    check_line("operations = [\"upsert\"]", expect![[r#"shop.rules.toml:5: rule "rule-1": operations: "upsert" is not one of "insert", "update", "delete""#]]);
    check_line("operations = [\"insert\", \"insert\"]", expect![[r#"shop.rules.toml:5: rule "rule-1": operations: "insert" is there twice"#]]);
    check_line("keys = []", expect![[r#"shop.rules.toml:5: rule "rule-1": keys is empty; without one the rule does nothing"#]]);
    check_line(&format!("keys = [{}]", "\"a\",".repeat(65)), expect![[r#"shop.rules.toml:5: rule "rule-1": keys has 65 entries, more than 64"#]]);
    check_line("keys = [\n  \"user:{id}\",\n  \"user:{ ID }\",\n]", expect![[r#"shop.rules.toml:7: rule "rule-1": key "user:{ ID }" is there twice"#]]);
}

#[test]
fn templates() {
    check_key("", expect![[r#"shop.rules.toml:5: rule "rule-1": key "": it is empty"#]]);
    check_key("user:{id", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id": the brace at column 6 is never closed"#]]);
    check_key("user:{id|lower", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|lower": the brace at column 6 is never closed"#]]);
    check_key("user:{id|match:/a}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|match:/a}": the brace at column 6 is never closed"#]]);
    check_key("user:{id{name}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id{name}": the brace at column 6 is never closed"#]]);
    check_key("user:id}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:id}": the brace at column 8 closes nothing; write `}}` for a brace in the key"#]]);
    check_key("käse:}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "käse:}": the brace at column 6 closes nothing; write `}}` for a brace in the key"#]]);
    check_key("user:{}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{}": the braces at column 6 name no column; write `{{` for a brace in the key"#]]);
    check_key("user:{ |lower}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{ |lower}": the braces at column 6 name no column; write `{{` for a brace in the key"#]]);
    check_key("user: {id}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user: {id}": the space at column 6 cannot be part of a key"#]]);
    check_key("user:\n", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:\n": the line end at column 6 cannot be part of a key"#]]);
    check_key("user:\0", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:\0": the NUL at column 6 cannot be part of a key"#]]);
    check_key("user:{i\\d}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{i\\d}": the backslash at column 8 must stand before one of `{ } | : @ \` or a space"#]]);
    check_key("user:{id|}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|}": the filter at column 10 has no name"#]]);
    check_key("user:{id|lowr}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|lowr}": the filter `lowr` at column 10 does not exist; there are: lower, upper, sha1, md5, xxh64, hex, base64, default:TEXT, match:/REGEX/"#]]);
    check_key("user:{id|lower:x}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|lower:x}": the filter `lower` at column 10 takes no argument"#]]);
    check_key("user:{id|default}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|default}": the filter `default` at column 10 needs a text: `default:TEXT`"#]]);
    check_key("user:{id|match}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|match}": the filter `match` at column 10 needs a regex between slashes: `match:/REGEX/`"#]]);
    check_key("user:{id|match:a}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|match:a}": the filter `match` at column 10 needs a regex between slashes: `match:/REGEX/`"#]]);
    check_key("user:{id|match:/a(/}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|match:/a(/}": the regex at column 10 is not valid: unclosed group"#]]);
    check_key("user:{id|match:/(\\w{100}){100}/}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|match:/(\\w{100}){100}/}": the regex at column 10 is not valid: it needs more than 1048576 bytes once compiled"#]]);
    check_key("user:{id|match:/a/b}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{id|match:/a/b}": the brace at column 6 is never closed"#]]);
    check_key("user:{@scheme}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{@scheme}": `@scheme` at column 7 does not exist; there are: @schema, @table, and @1, @2, .. for the groups of a table regex"#]]);
    check_key("user:{@1}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{@1}": `@1` at column 7: the table pattern has 0 groups"#]]);
    check_key("user:{@}", expect![[r#"shop.rules.toml:5: rule "rule-1": key "user:{@}": `@` at column 7 does not exist; there are: @schema, @table, and @1, @2, .. for the groups of a table regex"#]]);
    check_key(&"x".repeat(251), expect![[r#"shop.rules.toml:5: rule "rule-1": key "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...": its fixed text alone is longer than the 250 bytes of a key"#]]);
    check_key(&"{a}".repeat(33), expect![[r#"shop.rules.toml:5: rule "rule-1": key "{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}": it names more than 32 columns"#]]);
    check_key(&"{a}".repeat(334), expect![[r#"shop.rules.toml:5: rule "rule-1": key "{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}...": it has 1002 bytes, more than 1000"#]]);
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
    expect![[r#"r.toml:1: rule "users": table shop.users does not exist"#]].assert_eq(&show(rules.missing_table("shop", "users")));
    expect![[""]].assert_eq(&show(rules.missing_table("shop", "orders")));
}
