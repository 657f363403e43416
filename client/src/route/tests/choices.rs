//! Routes that choose: by prefix, command, hash, dice and share; routing prefixes; and the way in words.

use std::collections::BTreeMap;

use expect_test::expect;

use super::{super::*, Town, check, name, op, play, routes};

#[test]
fn selection() {
    let routes = routes(
        "[route.start]\nkind = \"prefix\"\nprefixes = { pop = \"a\", \"popular:\" = \"ops\", q = \"nobody\", r = \"error\" }\notherwise = \"c\"\n[route.ops]\nkind = \"operation\"\noperations = { delete = \"d\", lease-get = \"e\" }\notherwise = \"b\"\n[route.nobody]\nkind = \"null\"\n[route.error]\nkind = \"error\"\nmessage = \"not here\"",
    );
    check(
        &routes,
        &[
            ("get popular:1", "b=hit"),
            ("delete popular:1", "d=deleted"),
            ("lease-get popular:1", "e=hit"),
            ("get populous", "a=hit"),
            ("get po", "c=hit"),
            ("get q", ""),
            ("set q", ""),
            ("delete q", ""),
        ],
        expect![[r"
        get popular:1 | b=hit
        direct b: hit
        delete popular:1 | d=deleted
        direct d: deleted
        lease-get popular:1 | e=hit
        direct e: hit
        get populous | a=hit
        direct a: hit
        get po | c=hit
        direct c: hit
        get q
          reply Local(NotFound)
        set q
          reply Local(NotStored)
        delete q
          reply Local(NotFound)
    "]],
    );
    check(
        &routes,
        &[("get r", "")],
        expect![[r#"
            get r
              reply Error("not here")
        "#]],
    );
}

#[test]
fn random() {
    let routes = routes("[route.start]\nkind = \"random\"\nchildren = [\"a\", \"b\"]");
    expect![[r"
        get
        direct b: hit
    "]]
    .assert_eq(&play(&routes, "get k", "b=hit", 1));
    expect![[r"
        get
        direct b: timeout
          reply Of { ticket: Ticket(0), place: Away }
    "]]
    .assert_eq(&play(&routes, "get k", "b=timeout", 3));
    expect![[r"
        delete
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(2), place: Away }
    "]]
    .assert_eq(&play(&routes, "delete k", "a=deleted b=not-found", 1));
}

#[test]
fn roll_over_moves_each_key_once() {
    let at = |percent: f64| {
        routes(&format!(
            "[route.start]\nkind = \"roll-over\"\nfrom = \"a\"\nto = \"b\"\npercent = {percent:?}"
        ))
    };
    let steps = [0.0, 0.1, 1.0, 10.0, 50.0, 99.0, 100.0].map(at);
    let mut moved = [0; 7];
    for number in 0..10_000 {
        let key = format!("key:{number}");
        let ask = Ask { op: Op::Get, key: key.as_bytes() };
        let mut was = false;
        for (routes, moved) in steps.iter().zip(&mut moved) {
            let target = routes.direct(&ask, &Town::default(), 0).unwrap().target;
            let is = name(routes, target) == "b";
            assert!(is || !was, "{key} went back");
            was = is;
            *moved += i32::from(is);
        }
    }
    expect![[r"
        [
            0,
            13,
            126,
            1005,
            4997,
            9899,
            10000,
        ]
    "]]
    .assert_debug_eq(&moved);
    check(
        &at(0.0),
        &[("delete k", "a=deleted b=not-found")],
        expect![[r"
        delete k | a=deleted b=not-found
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &at(100.0),
        &[("delete k", "a=deleted b=not-found")],
        expect![[r"
        delete k | a=deleted b=not-found
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
}

#[test]
fn hash_over_routes_and_a_pool_of_several_nodes() {
    let routes = routes(
        "[route.start]\nkind = \"hash\"\nchildren = [\"a\", \"b\", \"big\"]\n[pool.big]\nservers = [\"x:1\", \"y:1\", \"z:1\"]\nhashing = \"ketama\"",
    );
    let mut seen = BTreeMap::new();
    for number in 0..900 {
        let key = format!("key:{number}");
        let ask = Ask { op: Op::Get, key: key.as_bytes() };
        let target = routes.direct(&ask, &Town::default(), 0).unwrap().target;
        *seen.entry(name(&routes, target).to_owned()).or_insert(0) += 1;
    }
    expect![[r#"
        {
            "a": 302,
            "b": 307,
            "x": 81,
            "y": 96,
            "z": 114,
        }
    "#]]
    .assert_debug_eq(&seen);
}

#[test]
fn routing_prefixes() {
    let prefixes = "[prefix]\n\"/west/x/\" = \"a\"\n\"/west/y/\" = \"b\"\n\"/east/x/\" = \"c\"\n[route.start]\nkind = \"random\"\nchildren = [\"d\"]\n";
    let routes = routes(prefixes);
    check(
        &routes,
        &[("get k", "d=hit"), ("get /k", "d=hit"), ("get /west/y/k", "b=timeout")],
        expect![[r"
        get k | d=hit
        direct d: hit
        get /k | d=hit
        direct d: hit
        get /west/y/k | b=timeout
        direct b: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
    check(
        &routes,
        &[("get /north/x/k", "")],
        expect![[r#"
        get /north/x/k
          reply Error("no such routing prefix")
    "#]],
    );
    check(
        &routes,
        &[("get /west/*/k", "b=hit a=miss"), ("delete /*/*/k", "a=deleted b=deleted c=timeout")],
        expect![[r"
        get /west/*/k | b=hit a=miss
          Ticket(1) to a strip 8
          Ticket(2) to b strip 8
        b: hit
        a: miss
          reply Of { ticket: Ticket(1), place: Away }
        delete /*/*/k | a=deleted b=deleted c=timeout
          Ticket(1) to c strip 5
          Ticket(2) to a strip 5
          Ticket(3) to b strip 5
        a: deleted
        b: deleted
        c: timeout
          missed by c
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    let lax = super::routes(&format!("unknown_prefix = \"start\"\n{prefixes}"));
    check(
        &lax,
        &[("get /north/x/k", "d=timeout")],
        expect![[r"
        get /north/x/k | d=timeout
        direct d: timeout
          reply Of { ticket: Ticket(0), place: Away }
    "]],
    );
}

#[test]
fn a_failure_in_a_nested_route_goes_up_one_level_at_a_time() {
    let routes = routes(
        "[route.start]\nkind = \"gutter\"\nnormal = \"both\"\ngutter = \"e\"\n[route.both]\nkind = \"all-sync\"\nchildren = [\"f\", \"c\"]\n[route.f]\nkind = \"failover\"\nchildren = [\"a\", \"b\"]",
    );
    check(
        &routes,
        &[
            ("get k", "a=down b=timeout c=hit e=hit"),
            ("delete k", "a=down b=deleted c=deleted e=timeout"),
        ],
        expect![[r"
        get k | a=down b=timeout c=hit e=hit
          Ticket(3) to b
          Ticket(4) to c
        b: timeout
        c: hit
          Ticket(5) to e for 60 s
        e: hit
          reply Of { ticket: Ticket(5), place: Away }
        delete k | a=down b=deleted c=deleted e=timeout
          missed by a
          Ticket(3) to b
          Ticket(4) to c
          Ticket(5) to e
        b: deleted
        c: deleted
        e: timeout
          missed by e
          reply Local(Failed(Tko))
    "]],
    );
}

#[test]
fn explained() {
    let routes = routes(
        "[prefix]\n\"/west/x/\" = \"start\"\n[route.start]\nkind = \"prefix\"\nprefixes = { \"popular:\" = \"g\", \"w\" = \"warm\", \"m\" = \"move\" }\notherwise = \"all\"\n[route.g]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"\n[route.warm]\nkind = \"warm-up\"\ncold = \"a\"\nwarm = \"b\"\n[route.move]\nkind = \"roll-over\"\nfrom = \"a\"\nto = \"b\"\npercent = 50.0\n[route.all]\nkind = \"all-majority\"\nchildren = [\"a\", \"r\"]\n[route.r]\nkind = \"random\"\nchildren = [\"c\", \"d\"]",
    );
    let told = |ask: &str| {
        let (word, key) = ask.split_once(' ').unwrap();
        routes.explain(&Ask { op: op(word), key: key.as_bytes() })
    };
    let all = [
        "get popular:1",
        "delete /west/x/popular:1",
        "get w",
        "set w",
        "get m1",
        "get x",
        "get /*/x/k",
        "get /no/x/k",
    ];
    expect![[r"
        get popular:1
          start: by prefix: popular:
            g: the next one on failure, for 60 s at most
              a: pool, ch3
                a:1
              b: pool, ch3
                b:1

        delete /west/x/popular:1
          sent as popular:1
          start: by prefix: popular:
            g: the next one on failure, for 60 s at most
              (all are asked, number 1 answers)
              a: pool, ch3
                a:1
              b: pool, ch3
                b:1

        get w
          start: by prefix: w
            warm: warm-up
              a: pool, ch3
                a:1
              b: pool, ch3
                b:1

        set w
          start: by prefix: w
            warm: warm-up
              a: pool, ch3
                a:1

        get m1
          start: by prefix: m
            move: roll-over: moved
              b: pool, ch3
                b:1

        get x
          start: by prefix: none fits
            all: all
              (what most answer counts)
              a: pool, ch3
                a:1
              r: any of these
                c: pool, ch3
                  c:1
                d: pool, ch3
                  d:1

        get /*/x/k
          sent as k to all; the first answers
            start: by prefix: none fits
              all: all
                (what most answer counts)
                a: pool, ch3
                  a:1
                r: any of these
                  c: pool, ch3
                    c:1
                  d: pool, ch3
                    d:1

        get /no/x/k
          SERVER_ERROR no such routing prefix
    "]]
    .assert_eq(&all.map(told).join("\n"));
}
