//! Routes that ask another node for a reason: failover, gutter, standby, miss-failover.
#![expect(clippy::too_many_lines, reason = "tables")]

use std::sync::Arc;

use expect_test::expect;

use super::{super::*, check, routes};

#[test]
fn one_pool_needs_no_routes() {
    let routes = Arc::new(Routes::parse("[pool.main]\nservers = [\"a:1\"]").unwrap());
    check(
        &routes,
        "get k",
        "a=hit",
        expect![[r"
        get
        direct a: hit
    "]],
    );
    check(
        &routes,
        "get k",
        "a=timeout",
        expect![[r"
        get
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=down",
        expect![[r"
        get
          reply Local(Failed(Tko))
    "]],
    );
    check(
        &routes,
        "get k",
        "a=behind",
        expect![[r"
        get
          reply Local(Failed(Tko))
    "]],
    );
    check(
        &routes,
        "set k",
        "a=behind a=stored",
        expect![[r"
        set
        direct a: stored
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=timeout",
        expect![[r"
        delete
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=down",
        expect![[r"
        delete
          missed by a
          reply Local(Failed(Tko))
    "]],
    );
    check(
        &routes,
        "lease-set k",
        "a=timeout",
        expect![[r"
        lease-set
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
        "get k",
        "a=miss",
        expect![[r"
        get
        direct a: miss
    "]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=refused c=hit",
        expect![[r"
        get
        direct a: timeout
          Ticket(2) to b
        b: refused
          Ticket(3) to c
        c: hit
          reply Of { ticket: Ticket(3), place: Away }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=down b=down c=down",
        expect![[r"
        get
          reply Local(Failed(Tko))
    "]],
    );
    check(
        &routes,
        "set k",
        "a=down b=stored",
        expect![[r"
        set
          missed by a
          Ticket(1) to b
        b: stored
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "cas k",
        "a=timeout",
        expect![[r"
        cas
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
    check(
        &routes,
        "lease-get k",
        "a=timeout b=miss",
        expect![[r"
        lease-get
        direct a: timeout
          Ticket(2) to b
        b: miss
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    check(
        &routes,
        "lease-set k",
        "a=timeout",
        expect![[r"
        lease-set
        direct a: timeout
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
    check(
        &routes,
        "delete k",
        "b=deleted c=not-found a=timeout",
        expect![[r"
        delete
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: deleted
        c: not-found
        a: timeout
          missed by a
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "delete k",
        "c=down a=deleted b=not-found",
        expect![[r"
        delete
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
        "get k",
        "a=busy",
        expect![[r"
        get
        direct a: busy
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    check(
        &timeouts,
        "get k",
        "a=timeout b=hit",
        expect![[r"
        get
        direct a: timeout
          Ticket(2) to b
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    let by_class = routes_of("errors = { updates = [] }");
    check(
        &by_class,
        "get k",
        "a=busy b=hit",
        expect![[r"
        get
        direct a: busy
          Ticket(2) to b
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    check(
        &by_class,
        "set k",
        "a=busy",
        expect![[r"
        set
        direct a: busy
          missed by a
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    let limited = routes_of("limit = { rate = 1.0 }");
    assert_eq!(limited.limits().len(), 1);
    check(
        &limited,
        "get k",
        "a=timeout b=hit",
        expect![[r"
        get
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
        "get k",
        "a=miss",
        expect![[r"
        get
        direct a: miss
    "]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=hit",
        expect![[r"
        get
        direct a: timeout
          Ticket(2) to b for 60 s
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    check(
        &routes,
        "set k",
        "a=down b=stored",
        expect![[r"
        set
          missed by a
          Ticket(1) to b for 60 s
        b: stored
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=down b=deleted",
        expect![[r"
        delete
          missed by a
          Ticket(1) to b
        b: deleted
          reply Local(Failed(Tko))
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted b=timeout",
        expect![[r"
        delete
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
        "set k",
        "m=timeout a=timeout b=stored",
        expect![[r"
        set
        direct m: timeout
          missed by m
          Ticket(3) to a
        a: timeout
          missed by a
          Ticket(4) to b for 60 s
        b: stored
          reply Of { ticket: Ticket(4), place: Away }
    "]],
    );
    check(
        &routes,
        "delete k",
        "m=deleted a=deleted b=deleted",
        expect![[r"
        delete
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
        "get k",
        "a=hit",
        expect![[r"
        get
        direct a: hit
    "]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=timeout c=hit",
        expect![[r"
        get
        direct a: miss
          Ticket(2) to b
        b: timeout
          Ticket(3) to c
        c: hit
          reply Of { ticket: Ticket(3), place: Away }
    "]],
    );
    check(
        &routes,
        "lease-get k",
        "a=miss b=miss c=timeout",
        expect![[r"
        lease-get
        direct a: miss
          Ticket(2) to b
        b: miss
          Ticket(3) to c
        c: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    check(
        &routes,
        "set k",
        "a=timeout",
        expect![[r"
        set
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=not-found b=deleted c=not-found",
        expect![[r"
        delete
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
