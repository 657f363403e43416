//! Routes that ask several nodes: warm-up, and replicated pools.
#![expect(clippy::too_many_lines, reason = "tables")]

use expect_test::expect;

use super::{check, routes};

#[test]
fn warm_up() {
    let routes = routes("[route.start]\nkind = \"warm-up\"\ncold = \"a\"\nwarm = \"b\"");
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
        "a=miss b=hit a=stored",
        expect![[r"
        get
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
          reply Of { ticket: Ticket(2), place: Away }
        a: stored
    "]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=miss",
        expect![[r"
        get
        direct a: miss
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=miss b=timeout",
        expect![[r"
        get
        direct a: miss
          Ticket(2) to b Look
        b: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=hit",
        expect![[r"
        get
        direct a: timeout
          Ticket(2) to b Look
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=timeout b=miss",
        expect![[r"
        get
        direct a: timeout
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    check(
        &routes,
        "gets k",
        "a=miss b=hit a=not-stored a=hit",
        expect![[r"
        gets
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
        a: not-stored
          Ticket(4) to a
        a: hit
          reply Of { ticket: Ticket(4), place: Home }
    "]],
    );
    check(
        &routes,
        "gat k",
        "a=miss b=hit a=timeout",
        expect![[r"
        gat
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
        a: timeout
          reply Of { ticket: Ticket(1), place: Home }
    "]],
    );
    check(
        &routes,
        "lease-get k",
        "a=hot",
        expect![[r"
        lease-get
        direct a: hot
    "]],
    );
    check(
        &routes,
        "lease-get k",
        "a=miss b=hit a=stored",
        expect![[r"
        lease-get
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a LeaseSetOf { value: Ticket(2), token: Ticket(1) }
          reply Of { ticket: Ticket(2), place: Away }
        a: stored
    "]],
    );
    check(
        &routes,
        "lease-get k",
        "a=miss b=miss",
        expect![[r"
        lease-get
        direct a: miss
          Ticket(2) to b Look
        b: miss
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
        "a=deleted",
        expect![[r"
        delete
        direct a: deleted
    "]],
    );
    let capped = super::routes(
        "[route.start]\nkind = \"warm-up\"\ncold = \"g\"\nwarm = \"c\"\nexptime_s = 100\n[route.g]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"",
    );
    check(
        &capped,
        "get k",
        "a=down b=miss c=hit b=stored",
        expect![[r"
        get
          Ticket(2) to b for 60 s
        b: miss
          Ticket(3) to c Look
        c: hit
          Ticket(4) to b AddOf(Ticket(3)) for 60 s
          reply Of { ticket: Ticket(3), place: Away }
        b: stored
    "]],
    );
    check(
        &capped,
        "get k",
        "a=miss c=hit a=stored",
        expect![[r"
        get
        direct a: miss
          Ticket(3) to c Look
        c: hit
          Ticket(4) to a AddOf(Ticket(3)) for 100 s
          reply Of { ticket: Ticket(3), place: Away }
        a: stored
    "]],
    );
}

#[test]
fn all_sync() {
    let routes = routes("[route.start]\nkind = \"all-sync\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "set k",
        "b=stored a=timeout c=stored",
        expect![[r"
        set
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: stored
        a: timeout
          missed by a
        c: stored
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "set k",
        "b=stored a=stored c=stored",
        expect![[r"
        set
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: stored
        a: stored
        c: stored
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=hit b=miss c=hit",
        expect![[r"
        get
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: hit
        b: miss
        c: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    // A replica that may not be read is not in the set that is read.
    check(
        &routes,
        "get k",
        "a=down b=hit c=behind",
        expect![[r"
        get
          Ticket(1) to b
        b: hit
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=down b=down c=behind",
        expect![[r"
        get
          reply Local(Failed(Tko))
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted b=deleted c=down",
        expect![[r"
        delete
          missed by c
          Ticket(1) to a
          Ticket(2) to b
        a: deleted
        b: deleted
          reply Local(Failed(Tko))
    "]],
    );
}

#[test]
fn all_fastest() {
    let routes = routes("[route.start]\nkind = \"all-fastest\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "get k",
        "b=timeout a=miss c=hit",
        expect![[r"
        get
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: timeout
        a: miss
          reply Of { ticket: Ticket(1), place: Away }
        c: hit
    "]],
    );
    check(
        &routes,
        "get k",
        "a=behind b=timeout c=timeout",
        expect![[r"
        get
          Ticket(1) to b
          Ticket(2) to c
        b: timeout
        c: timeout
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "set k",
        "c=stored a=timeout b=stored",
        expect![[r"
        set
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        c: stored
          reply Of { ticket: Ticket(3), place: Away }
        a: timeout
          missed by a
        b: stored
    "]],
    );
    check(
        &routes,
        "delete k",
        "c=not-found a=timeout b=deleted",
        expect![[r"
        delete
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        c: not-found
        a: timeout
          missed by a
        b: deleted
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
}

#[test]
fn all_majority() {
    let routes = routes("[route.start]\nkind = \"all-majority\"\nchildren = [\"a\", \"b\", \"c\"]");
    check(
        &routes,
        "get k",
        "a=miss b=hit c=hit",
        expect![[r"
        get
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: miss
        b: hit
        c: hit
          reply Of { ticket: Ticket(2), place: Away }
    "]],
    );
    check(
        &routes,
        "get k",
        "a=hit b=hit c=miss",
        expect![[r"
        get
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: hit
        b: hit
          reply Of { ticket: Ticket(1), place: Away }
        c: miss
    "]],
    );
    check(
        &routes,
        "get k",
        "a=down b=timeout c=hit",
        expect![[r"
        get
          Ticket(1) to b
          Ticket(2) to c
        b: timeout
        c: hit
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
    check(
        &routes,
        "set k",
        "a=timeout b=refused c=stored",
        expect![[r"
        set
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: timeout
          missed by a
        b: refused
          missed by b
          reply Of { ticket: Ticket(1), place: Away }
        c: stored
    "]],
    );
    check(
        &routes,
        "delete k",
        "a=deleted b=deleted c=timeout",
        expect![[r"
        delete
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: deleted
        b: deleted
        c: timeout
          missed by c
          reply Of { ticket: Ticket(1), place: Away }
    "]],
    );
}
