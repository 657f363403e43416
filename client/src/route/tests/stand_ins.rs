//! Routes that ask another node for a reason: failover, gutter, standby, miss-failover.

use std::sync::Arc;

use expect_test::expect;

use super::{super::*, check, routes};

#[test]
fn one_pool_needs_no_routes() {
    let routes = Arc::new(Routes::parse("[pool.main]\nservers = [\"a:1\"]").unwrap());
    check(
        &routes,
        &[
            ("get k", "a=hit"),
            ("get k", "a=timeout"),
            ("get k", "a=down"),
            ("get k", "a=behind"),
            ("set k", "a=behind a=stored"),
            ("delete k", "a=timeout"),
            ("delete k", "a=down"),
            ("lease-set k", "a=timeout"),
        ],
        expect![[r"
        get k | a=hit
        direct a: hit
        get k | a=timeout
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
        get k | a=down
          reply Local(Failed(Tko))
        get k | a=behind
          reply Local(Failed(Tko))
        set k | a=behind a=stored
        direct a: stored
        delete k | a=timeout
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
        delete k | a=down
          missed by a
          reply Local(Failed(Tko))
        lease-set k | a=timeout
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
}

#[test]
fn failover() {
    let routes = routes("[route.start]\nkind = \"failover\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        &[
            ("get k", "a=miss"),
            ("get k", "a=timeout b=refused c=hit"),
            ("get k", "a=down b=down c=down"),
            ("set k", "a=down b=stored"),
            ("cas k", "a=timeout"),
            ("lease-get k", "a=timeout b=miss"),
            ("lease-set k", "a=timeout"),
            ("delete k", "b=deleted c=not-found a=timeout"),
            ("delete k", "c=down a=deleted b=not-found"),
        ],
        expect![[r"
        get k | a=miss
        direct a: miss
        get k | a=timeout b=refused c=hit
        direct a: timeout
          Ticket(2) to b
        b: refused
          Ticket(3) to c
        c: hit
          reply Of { ticket: Ticket(3), place: Away }
        get k | a=down b=down c=down
          reply Local(Failed(Tko))
        set k | a=down b=stored
          missed by a
          Ticket(1) to b
        b: stored
          reply Of { ticket: Ticket(1), place: Away }
        cas k | a=timeout
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
        lease-get k | a=timeout b=miss
        direct a: timeout
          Ticket(2) to b
        b: miss
          reply Of { ticket: Ticket(2), place: Away }
        lease-set k | a=timeout
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
        delete k | b=deleted c=not-found a=timeout
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: deleted
        c: not-found
        a: timeout
          missed by a
          reply Of { ticket: Ticket(1), place: Away }
        delete k | c=down a=deleted b=not-found
          missed by c
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: not-found
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
}

#[test]
fn failover_for_some_errors_and_within_a_limit() {
    let some = "[route.start]\nkind = \"failover\"\nchildren = [\"a\", \"b\"]\n";
    let routes_of = |more: &str| routes(&format!("{some}{more}"));
    let timeouts = routes_of("errors = [\"timeout\"]");
    check(
        &timeouts,
        &[("get k", "a=busy"), ("get k", "a=timeout b=hit")],
        expect![[r"
        get k | a=busy
        direct a: busy
          reply Of { ticket: Ticket(1), place: Home }
        get k | a=timeout b=hit
        direct a: timeout
          Ticket(2) to b
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    let by_class = routes_of("errors = { updates = [] }");
    check(
        &by_class,
        &[("get k", "a=busy b=hit"), ("set k", "a=busy")],
        expect![[r"
        get k | a=busy b=hit
        direct a: busy
          Ticket(2) to b
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
        set k | a=busy
        direct a: busy
          missed by a
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    let limited = routes_of("limit = { rate = 1.0 }");
    assert_eq!(limited.limits().len(), 1);
    check(
        &limited,
        &[("get k", "a=timeout b=hit")],
        expect![[r"
        get k | a=timeout b=hit
        direct a: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
}

#[test]
fn after_a_timeout_another_is_asked_as_long_as_the_budget_lasts() {
    let of = |more: &str, kind: &str| routes(&format!("{more}\n[route.start]\n{kind}\n"));
    let failover = "kind = \"failover\"\nchildren = [\"a\", \"b\", \"c\"]";
    let plays = [("get k", "a=timeout b=timeout c=hit"), ("set k", "a=refused b=stored")];
    check(
        &of("retries = { burst = 1.5 }", failover),
        &plays,
        expect![[r"
        get k | a=timeout b=timeout c=hit
        direct a: timeout
          Ticket(2) to b
        b: timeout
          reply Of { ticket: Ticket(2), place: Away }
        set k | a=refused b=stored
        direct a: refused
          missed by a
          Ticket(2) to b
        b: stored
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    check(
        &of("retries.burst = 0", "kind = \"warm-up\"\ncold = \"a\"\nwarm = \"b\""),
        &plays[..1],
        expect![[r"
        get k | a=timeout b=timeout c=hit
        direct a: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
}

#[test]
fn gutter() {
    let routes = routes("[route.start]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"");
    // A miss is not looked for in the gutter.
    check(
        &routes,
        &[
            ("get k", "a=miss"),
            ("get k", "a=timeout b=hit"),
            ("set k", "a=down b=stored"),
            ("delete k", "a=down b=deleted"),
            ("delete k", "a=deleted b=timeout"),
        ],
        expect![[r"
        get k | a=miss
        direct a: miss
        get k | a=timeout b=hit
        direct a: timeout
          Ticket(2) to b for 60 s
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
        set k | a=down b=stored
          missed by a
          Ticket(1) to b for 60 s
        b: stored
          reply Of { ticket: Ticket(1), place: Away }
        delete k | a=down b=deleted
          missed by a
          Ticket(1) to b
        b: deleted
          reply Local(Failed(Tko))
        delete k | a=deleted b=timeout
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: timeout
          missed by b
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
}

#[test]
fn gutter_and_standby_of_a_pool() {
    let routes = routes(
        "[route.start]\nkind = \"random\"\nchildren = [\"main\"]\n[pool.main]\nservers = [\"m:1\"]\nstandby = \"a\"\ngutter = \"b\"",
    );
    check(
        &routes,
        &[("set k", "m=timeout a=timeout b=stored"), ("delete k", "m=deleted a=deleted b=deleted")],
        expect![[r"
        set k | m=timeout a=timeout b=stored
        direct m: timeout
          missed by m
          Ticket(3) to a
        a: timeout
          missed by a
          Ticket(4) to b for 60 s
        b: stored
          reply Of { ticket: Ticket(4), place: Away }
        delete k | m=deleted a=deleted b=deleted
          Ticket(3) to m
          Ticket(4) to a
          Ticket(5) to b
        m: deleted
        a: deleted
        b: deleted
          reply Of { ticket: Ticket(3), place: Away }
    "]],
    );
}

#[test]
fn miss_failover() {
    let routes =
        routes("[route.start]\nkind = \"miss-failover\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        &[
            ("get k", "a=hit"),
            ("get k", "a=miss b=timeout c=hit"),
            ("lease-get k", "a=miss b=miss c=timeout"),
            ("set k", "a=timeout"),
            ("delete k", "a=not-found b=deleted c=not-found"),
        ],
        expect![[r"
        get k | a=hit
        direct a: hit
        get k | a=miss b=timeout c=hit
        direct a: miss
          Ticket(2) to b
        b: timeout
          Ticket(3) to c
        c: hit
          reply Of { ticket: Ticket(3), place: Away }
        lease-get k | a=miss b=miss c=timeout
        direct a: miss
          Ticket(2) to b
        b: miss
          Ticket(3) to c
        c: timeout
          reply Of { ticket: Ticket(1), place: Home }
        set k | a=timeout
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
        delete k | a=not-found b=deleted c=not-found
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: not-found
        b: deleted
        c: not-found
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
}
