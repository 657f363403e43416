//! Routes files that are refused, and what is said then.

use expect_test::{Expect, expect};

use super::super::*;

#[track_caller]
fn check(text: &str, expect: Expect) {
    let said = match Routes::parse(text) {
        Ok(_) => "taken".to_owned(),
        Err(err) => match std::error::Error::source(&err) {
            Some(source) => format!("{err}: {source}"),
            None => err.to_string(),
        },
    };
    expect.assert_eq(&said);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn refusals() {
    let pool = |more: &str| format!("[pool.a]\nservers = [\"a:1\", \"b:1\"]\n{more}");
    let route = |more: &str| {
        pool(&format!("[route.r]\n{more}\n")).replace("[pool.a]", "start = \"r\"\n[pool.a]")
    };
    check("", expect!["routes: there is neither a pool nor a route"]);
    check("[pool.a]\nservers = []", expect![[r#"pool "a": a ring needs at least one node"#]]);
    check(
        &pool("servr = 1"),
        expect![[r"
        TOML parse error at line 3, column 1
          |
        3 | servr = 1
          | ^^^^^
        unknown field `servr`, expected one of `servers`, `hashing`, `salt`, `kind`, `gutter`, `standby`, `server_timeout_ms`, `connect_timeout_ms`, `timeouts_until_tko`, `probe_ms_first`, `probe_ms_max`
    "]],
    );
    check(
        &pool("hashing = \"ch4\""),
        expect![[r#"
        TOML parse error at line 3, column 11
          |
        3 | hashing = "ch4"
          |           ^^^^^
        unknown variant `ch4`, expected one of `ketama`, `ketama-jenkins`, `rendezvous`, `ch3`, `weighted-ch3`, `crc32`
    "#]],
    );
    check(
        &pool("hashing = \"ketama\"\nsalt = \"s\""),
        expect![[r#"pool "a": ketama hashing has no salt"#]],
    );
    check(
        &pool("hashing = \"weighted-ch3\""),
        expect![[
            r#"pool "a": node "a:1" has weight 1, but weighted-ch3 needs millionths: 0, or 2 to 1000000, which is mcrouter's 1.0"#
        ]],
    );
    check(&pool("server_timeout_ms = 0"), expect![[r#"pool "a": server_timeout_ms: 1 to 60000"#]]);
    check(
        &pool("probe_ms_first = 2000\nprobe_ms_max = 1000"),
        expect![[r#"pool "a": probe_ms_first: 10 to 1000"#]],
    );
    check(&pool("gutter = \"g\""), expect![[r#"pool "a": there is no pool or route "g""#]]);
    check(&pool("gutter = \"a\""), expect![[r#"pool "a": "a" leads back to itself"#]]);
    check(
        &pool("[pool.b]\nservers = [\"c:1\"]"),
        expect!["start: name the route or pool where requests begin"],
    );
    check(
        &format!("start = \"a\"\n{}", pool("[pool.b]\nservers = [\"a:1\"]\nserver_timeout_ms = 5")),
        expect![[r#"pool "b": "a:1" is in pool "a", too, with another kind or other times"#]],
    );
    check(
        &route("kind = \"shadow\""),
        expect![[r#"
        TOML parse error at line 5, column 8
          |
        5 | kind = "shadow"
          |        ^^^^^^^^
        unknown variant `shadow`, expected one of `hash`, `prefix`, `operation`, `all-sync`, `all-fastest`, `all-majority`, `failover`, `gutter`, `miss-failover`, `warm-up`, `roll-over`, `random`, `null`, `error`
    "#]],
    );
    check(
        &route("kind = \"failover\"\nchildren = []"),
        expect![[r#"route "r": children: 1 to 256"#]],
    );
    check(
        &route("kind = \"failover\"\nchildren = [\"a\", \"r\"]"),
        expect![[r#"route "r": "r" leads back to itself"#]],
    );
    check(
        &route("kind = \"failover\"\nchildren = [\"a\"]\nchild = 1"),
        expect![[r"
        TOML parse error at line 4, column 1
          |
        4 | [route.r]
          | ^^^^^^^^^
        unknown field `child`, expected one of `children`, `errors`, `limit`
    "]],
    );
    check(
        &route("kind = \"failover\"\nchildren = [\"a\"]\nerrors = [\"all\"]"),
        expect![[r"
        TOML parse error at line 4, column 1
          |
        4 | [route.r]
          | ^^^^^^^^^
        errors are a list of failures, or such lists for reads and updates
    "]],
    );
    check(
        &route("kind = \"failover\"\nchildren = [\"a\"]\nlimit = { rate = 0 }"),
        expect![[r#"route "r": limit: rate above 0, burst 1 or more"#]],
    );
    check(
        &route("kind = \"gutter\"\nnormal = \"a\"\ngutter = \"a\"\nexptime_s = 0"),
        expect![[r#"route "r": exptime_s: 1 to 3600"#]],
    );
    check(
        &route("kind = \"roll-over\"\nfrom = \"a\"\nto = \"a\"\npercent = 101"),
        expect![[r#"route "r": percent: 0 to 100"#]],
    );
    check(
        &route("kind = \"hash\"\nchildren = [\"a\"]\nhashing = \"ketama\""),
        expect![[r#"route "r": hashing: ch3, weighted-ch3 or crc32 for routes"#]],
    );
    check(
        &route("kind = \"error\"\nmessage = \"a\\r\\nb\""),
        expect![[r#"route "r": message: one line of 1 to 200 bytes"#]],
    );
    check(
        &route("kind = \"null\"\n[prefix]\n\"/west/\" = \"a\""),
        expect![[r#"prefix "/west/": must be /region/cluster/"#]],
    );
    let all = vec!["\"a\""; 256].join(", ");
    check(
        &route(&format!(
            "kind = \"all-sync\"\nchildren = [\"a\", \"s\"]\n[route.s]\nkind = \"all-sync\"\nchildren = [{all}]"
        )),
        expect![[r#"route "r": one request could become 257, more than 256"#]],
    );
    check(
        &route("kind = \"null\"\n[route.a]\nkind = \"null\""),
        expect![[r#"route "a": a pool has this name, too"#]],
    );
}
