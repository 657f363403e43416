//! What rules make of rows, one example for each sentence of the module's page.

use expect_test::{Expect, expect};

use super::*;

/// `NULL` and `-` (absent) stand for themselves.
fn cells(texts: &[&str]) -> Vec<Cell> {
    let cell = |text: &&str| match *text {
        "NULL" => Cell::Null,
        "-" => Cell::Absent,
        text => Cell::Text(text.as_bytes().to_vec()),
    };
    texts.iter().map(cell).collect()
}

fn show(outcome: &Kept) -> String {
    match outcome {
        Kept::Key { key, .. } => key.to_string(),
        Kept::Null { .. } => "NULL".to_owned(),
        Kept::Unusable { shown, error, .. } => format!("unusable {shown:?}: {error}"),
        Kept::Unknown { column, .. } => format!("unknown: {column}"),
    }
}

/// One rule with `lines`, asked about table `s.t_7` with the columns id and email.
fn check(lines: &str, before: &[&str], after: &[&str], expect: Expect) {
    let table = if lines.starts_with("table") { "" } else { "table = 's.t_7'\n" };
    let rules = Rules::parse("r", &format!("[[rule]]\n{table}{lines}")).unwrap();
    let (before, after) = (cells(before), cells(after));
    let image = |cells: &'_ [Cell]| !cells.is_empty();
    let made = outcomes(
        &rules,
        ("s", "t_7"),
        &["id", "email"],
        image(&before).then_some(&before[..]),
        image(&after).then_some(&after[..]),
    );
    expect.assert_eq(&made.iter().map(show).collect::<Vec<_>>().join("\n"));
}

#[test]
fn images() {
    let keys = "keys = ['u:{id}', 'e:{email|lower}']";
    check(
        keys,
        &[],
        &["1", "A@x"],
        expect![[r"
        u:1
        e:a@x"]],
    );
    check(
        keys,
        &["1", "A@x"],
        &[],
        expect![[r"
        u:1
        e:a@x"]],
    );
    check(
        keys,
        &["1", "A@x"],
        &["1", "a@X"],
        expect![[r"
        u:1
        e:a@x"]],
    );
    check(
        keys,
        &["1", "A@x"],
        &["2", "B@x"],
        expect![[r"
        u:1
        u:2
        e:a@x
        e:b@x"]],
    );
    check("keys = ['all']", &["1", "a"], &["2", "b"], expect!["all"]);
}

#[test]
fn columns_and_operations() {
    let watched = "columns = ['EMAIL']\nkeys = ['u:{id}']";
    check(watched, &["1", "a"], &["1", "b"], expect!["u:1"]);
    check(watched, &["1", "a"], &["1", "a"], expect![[""]]);
    check(watched, &["1", "a"], &[], expect!["u:1"]);
    check(watched, &[], &["1", "a"], expect!["u:1"]);
    // The row moved: what is cached under the old key is stale, whatever `columns` says.
    check(
        watched,
        &["1", "a"],
        &["2", "a"],
        expect![[r"
        u:1
        u:2"]],
    );
    let inserts = "operations = ['insert']\nkeys = ['u:{id}']";
    check(inserts, &[], &["1", "a"], expect!["u:1"]);
    check(inserts, &["1", "a"], &[], expect![[""]]);
    check(inserts, &["1", "a"], &["2", "a"], expect![[""]]);
}

#[test]
fn nulls_and_absent_columns() {
    check("keys = ['e:{email}']", &[], &["1", "NULL"], expect!["NULL"]);
    check("keys = ['e:{email}']", &["1", "NULL"], &["1", "NULL"], expect!["NULL"]);
    check(
        "keys = ['e:{email|lower|sha1}']",
        &["1", "NULL"],
        &["1", "a"],
        expect![[r"
        NULL
        e:86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"]],
    );
    check("keys = ['e:{email|upper|default:none}']", &[], &["1", "NULL"], expect!["e:none"]);
    check("keys = ['e:{email|default:none|upper}']", &[], &["1", "NULL"], expect!["e:NONE"]);
    check("keys = ['e:{email|default:}.']", &[], &["1", "NULL"], expect!["e:."]);
    check("keys = ['e:{email|match:/@(.*)/|default:none}']", &[], &["1", "a"], expect!["e:none"]);
    check("keys = ['e:{email|default:x}']", &[], &["1", ""], expect!["e:"]);
    check("keys = ['e:{email|default:x}']", &[], &["1", "-"], expect!["unknown: email"]);
    // A NULL settles it; what the absent column was does not matter.
    check("keys = ['{id}:{email}']", &[], &["-", "NULL"], expect!["NULL"]);
    check("keys = ['{id}:{email}']", &["-", "-"], &["-", "-"], expect!["unknown: id"]);
    check("keys = ['u:{id}:{no_such}']", &[], &["1", "a"], expect!["unknown: no_such"]);
}

#[test]
fn unusable_keys() {
    let fits = "x".repeat(20);
    check(
        "keys = ['{id|hex}{id|hex}{id|hex}{id|hex}{id|hex}{id|hex}..........']",
        &[],
        &[&fits, "a"],
        expect![
            "787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878.........."
        ],
    );
    check(
        "keys = ['{id|hex}{id|hex}{id|hex}{id|hex}{id|hex}{id|hex}...........']",
        &[],
        &[&fits, "a"],
        expect![[
            r#"unusable "787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878.............": the key is longer than 250 bytes"#
        ]],
    );
    check(
        "keys = ['{id}']",
        &[],
        &["a b", "a"],
        expect![[r#"unusable "a b": the key contains a space, a line end or a NUL"#]],
    );
    check(
        "keys = ['{id}']",
        &[],
        &["a\nb\0", "a"],
        expect![[r#"unusable "a\\nb\\x00": the key contains a space, a line end or a NUL"#]],
    );
    check("keys = ['{id}']", &[], &["", "a"], expect![[r#"unusable "": the key is empty"#]]);
    check("keys = ['{id|hex}']", &[], &["a\n", "a"], expect!["610a"]);
}

#[test]
fn templates() {
    let key = |template: &str| format!("keys = ['{template}']");
    check(&key("{{{id}}}"), &[], &["1", "a"], expect!["{1}"]);
    check(&key("}}{{"), &[], &["1", "a"], expect!["}{"]);
    check(&key("{ ID | hex | upper }"), &[], &["jk", "a"], expect!["6A6B"]);
    check(&key("{id}{id}:{email}"), &[], &["1", "ä"], expect![[r"11:\xc3\xa4"]]);
    check(
        &key("{email|match:/^([^@]+)@/|md5}"),
        &[],
        &["1", "abc@x"],
        expect!["900150983cd24fb0d6963f7d28e17f72"],
    );
    check(&key("{email|match:/a{2}|[}]\\/(b)/}"), &[], &["1", "aa}/b"], expect!["NULL"]);
    check(&key("{id|default:a\\|b\\}\\\\:c}"), &[], &["NULL", "a"], expect![[r"a|b}\\:c"]]);
    check(&key("{@schema|upper}.{@table}"), &[], &["1", "a"], expect!["S.t_7"]);
    let regex = "table = '/s\\.t_(\\d+)(x)?/'\n";
    check(&format!("{regex}{}", key("{@1}:{id}")), &[], &["1", "a"], expect!["7:1"]);
    check(&format!("{regex}{}", key("{@2}:{id}")), &[], &["1", "a"], expect!["NULL"]);
    check(&format!("{regex}{}", key("{@2|default:-}:{id}")), &[], &["1", "a"], expect!["-:1"]);
}

#[test]
fn a_column_may_have_any_name() {
    let rules = "[[rule]]\ntable = 's.t'\nkeys = ['{\\@id}{a\\|b\\ }{ c d }{x:y}']";
    let rules = Rules::parse("r", rules).unwrap();
    let names: Vec<&str> = rules.iter().flat_map(Rule::columns).collect();
    assert_eq!(names, ["@id", "a|b ", "c d", "x:y"]);
}

#[test]
fn tables() {
    let matches = |table: &str, name: (&str, &str)| {
        let rules = format!("[[rule]]\ntable = '{table}'\nkeys = ['a']");
        Rules::parse("r", &rules).unwrap().for_table(name.0, name.1).is_some()
    };
    assert!(matches("shop.users", ("shop", "users")));
    assert!(!matches("shop.users", ("shop", "Users")));
    assert!(!matches("shop.users", ("shop", "users2")));
    assert!(matches(r"/shop_\d+\.users/", ("shop_12", "users")));
    assert!(!matches(r"/shop_\d+\.users/", ("shop_12", "users2")));
    assert!(!matches(r"/shop_\d+\.users/", ("my_shop_12", "users")));
    assert!(matches("/a|b.c/", ("b", "c")));
    assert!(!matches("/a|b.c/", ("a", "c")));
}

#[test]
fn a_plan_names_each_column_once() {
    let rules = "[[rule]]\ntable = 's.t'\nkeys = ['{id}', '{Id}:{b}']\ncolumns = ['B', 'c']\n\
                 [[rule]]\ntable = '/s.*/'\nkeys = ['{ID}', '{d}']";
    let rules = Rules::parse("r", rules).unwrap();
    let plan = rules.for_table("s", "t").unwrap();
    assert_eq!(&**plan.table(), "s.t");
    assert_eq!(
        plan.columns().iter().map(|name| &**name).collect::<Vec<_>>(),
        ["id", "b", "c", "d"]
    );
    assert!(rules.for_table("q", "t").is_none());
    let first = rules.iter().next().unwrap();
    assert_eq!(first.columns().collect::<Vec<_>>(), ["id", "b", "c"]);
    assert_eq!((&**first.name(), first.table()), ("rule-1", "s.t"));
}

#[test]
fn the_example_maps_the_shop() {
    let rules = Rules::parse("shop.rules.toml", EXAMPLE).unwrap();
    let made = |table: &str, names: &[&str], texts: &[&str]| {
        let row = cells(texts);
        let made = outcomes(&rules, ("shop", table), names, None, Some(&row));
        made.iter().map(show).collect::<Vec<_>>().join(" ")
    };
    expect!["user:7 user-by-email:ann@example.com"].assert_eq(&made(
        "users",
        &["id", "email", "name"],
        &["7", "Ann@Example.com", "Ann"],
    ));
    expect!["product:3 product-by-sku:tea-001"].assert_eq(&made(
        "products",
        &["id", "sku", "price_cents", "stock"],
        &["3", "tea-001", "499", "12"],
    ));
    expect!["order:9 orders-of:7"].assert_eq(&made(
        "orders",
        &["id", "user_id", "status", "created"],
        &["9", "7", "paid", "2026-01-01 00:00:00"],
    ));
    assert!(rules.for_table("shop", "counters_naive").is_none());
    let tables: Vec<_> = rules.exact_tables().collect();
    assert_eq!(tables, [("shop", "orders"), ("shop", "products"), ("shop", "users")]);
    let prefixes: Vec<&str> = rules.iter().flat_map(Rule::prefixes).collect();
    assert_eq!(
        prefixes,
        ["user:", "user-by-email:", "product:", "product-by-sku:", "order:", "orders-of:"]
    );
}

#[test]
fn keys_are_explained_backwards() {
    let rules = "[[rule]]\ntable = 's.t'\nkeys = ['u:{id}', 'h:{id|sha1}', 'p:{a}:{b|lower}', \
                 'd:{n|upper|sha1|upper|default:none}', '{@table}/{x|base64}', 'x:{x|hex|default:zz}', 'all']";
    let rules = Rules::parse("r", rules).unwrap();
    let rule = rules.iter().next().unwrap();
    let explain = |key: &str| {
        let origin = rule.explain_key(&Key::new(key.to_owned()).unwrap());
        origin.map_or("-".to_owned(), |origin| format!("{} {:?}", origin.template, origin.columns))
    };
    let sha1 = "0a".repeat(20);
    let keys = [
        "u:12",
        "u:",
        &format!("h:{sha1}"),
        "h:0a",
        &format!("h:{}", sha1.to_uppercase()),
        "p:1:2:3",
        "d:none",
        &format!("d:{}", sha1.to_uppercase()),
        &format!("d:{sha1}"),
        "t/YQ==",
        "t/YQ=",
        "x:0aff",
        "x:0af",
        "x:zz",
        "all",
        "all2",
    ];
    expect![[r#"
        u:12 <- u:{id} [("id", "12")]
        u: <- u:{id} [("id", "")]
        h:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a <- h:{id|sha1} [("id|sha1", "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a")]
        h:0a <- -
        h:0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A <- -
        p:1:2:3 <- p:{a}:{b|lower} [("a", "1"), ("b|lower", "2:3")]
        d:none <- d:{n|upper|sha1|upper|default:none} [("n|upper|sha1|upper|default:none", "none")]
        d:0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A <- d:{n|upper|sha1|upper|default:none} [("n|upper|sha1|upper|default:none", "0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A")]
        d:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a <- -
        t/YQ== <- {@table}/{x|base64} [("@table", "t"), ("x|base64", "YQ==")]
        t/YQ= <- -
        x:0aff <- x:{x|hex|default:zz} [("x|hex|default:zz", "0aff")]
        x:0af <- -
        x:zz <- x:{x|hex|default:zz} [("x|hex|default:zz", "zz")]
        all <- all []
        all2 <- -"#]].assert_eq(&keys.map(|key| format!("{key} <- {}", explain(key))).join("\n"));
}

#[test]
fn the_digest_is_of_the_meaning() {
    let digest = |text: &str| Rules::parse("r", text).unwrap().digest();
    let one = "[[rule]]\nname = 'a'\ntable = 's.t'\nkeys = ['u:{id}', 'e:{email|lower}']\n";
    let other = "[[rule]]\nname = 'b'\ntable = 's.u'\nkeys = ['x']\ncolumns = ['c', 'd']\n";
    let same = "# Moved.\n[[rule]]\nkeys = ['e:{ Email | lower }', 'u:{ID}']\nname = 'a'\n\
                operations = ['delete', 'insert', 'update']\ntable = 's.t'\n";
    assert_eq!(digest(&format!("{one}{other}")), digest(&format!("{other}{same}")));
    let all = format!("{one}{other}");
    for (from, to) in [
        ("'a'", "'z'"),
        ("s.t", "s.v"),
        ("u:", "v:"),
        ("|lower", "|upper"),
        ("['c', 'd']", "['c']"),
        ("columns = ['c', 'd']", ""),
        ("columns", "operations = ['insert']\ncolumns"),
    ] {
        assert_ne!(digest(&all), digest(&all.replace(from, to)), "{from} to {to}");
    }
    assert_eq!(digest(&all), 0xf85d_8ad6_5bae_ce2e, "kept from version to version");
}
