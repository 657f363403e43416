//! Routes that ask several nodes: warm-up, and replicated pools.
#![expect(clippy::too_many_lines, reason = "tables")]

use expect_test::expect;

use super::{check, routes};

#[test]
fn warm_up() {
    let routes = routes("[route.start]\nkind = \"warm-up\"\ncold = \"a\"\nwarm = \"b\"");
    check(
        &routes,
        &[
            ("get k", "a=hit"),
            ("get k", "a=miss b=hit a=stored"),
            ("get k", "a=miss b=miss"),
            ("get k", "a=miss b=timeout"),
            ("get k", "a=timeout b=hit"),
            ("get k", "a=timeout b=miss"),
            ("gets k", "a=miss b=hit a=not-stored a=hit"),
            ("gat k", "a=miss b=hit a=timeout"),
            ("lease-get k", "a=hot"),
            ("lease-get k", "a=miss b=hit a=stored"),
            ("lease-get k", "a=miss b=miss"),
            ("set k", "a=timeout"),
            ("delete k", "a=deleted"),
        ],
        expect![[r"
        get k | a=hit
        direct a: hit
        get k | a=miss b=hit a=stored
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
          reply Of { ticket: Ticket(2), place: Away }
        a: stored
        get k | a=miss b=miss
        direct a: miss
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
        get k | a=miss b=timeout
        direct a: miss
          Ticket(2) to b Look
        b: timeout
          reply Of { ticket: Ticket(1), place: Home }
        get k | a=timeout b=hit
        direct a: timeout
          Ticket(2) to b Look
        b: hit
          reply Of { ticket: Ticket(2), place: Away }
        get k | a=timeout b=miss
        direct a: timeout
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
        gets k | a=miss b=hit a=not-stored a=hit
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
        a: not-stored
          Ticket(4) to a
        a: hit
          reply Of { ticket: Ticket(4), place: Home }
        gat k | a=miss b=hit a=timeout
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a AddOf(Ticket(2))
        a: timeout
          reply Of { ticket: Ticket(1), place: Home }
        lease-get k | a=hot
        direct a: hot
        lease-get k | a=miss b=hit a=stored
        direct a: miss
          Ticket(2) to b Look
        b: hit
          Ticket(3) to a LeaseSetOf { value: Ticket(2), token: Ticket(1) }
          reply Of { ticket: Ticket(2), place: Away }
        a: stored
        lease-get k | a=miss b=miss
        direct a: miss
          Ticket(2) to b Look
        b: miss
          reply Of { ticket: Ticket(1), place: Home }
        set k | a=timeout
        direct a: timeout
          missed by a
          reply Of { ticket: Ticket(0), place: Home }
        delete k | a=deleted
        direct a: deleted
    "]],
    );
    let capped = super::routes(
        "[route.start]\nkind = \"warm-up\"\ncold = \"g\"\nwarm = \"c\"\nexptime_s = 100\n[route.g]\nkind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"",
    );
    check(
        &capped,
        &[("get k", "a=down b=miss c=hit b=stored"), ("get k", "a=miss c=hit a=stored")],
        expect![[r"
        get k | a=down b=miss c=hit b=stored
          Ticket(2) to b for 60 s
        b: miss
          Ticket(3) to c Look
        c: hit
          Ticket(4) to b AddOf(Ticket(3)) for 60 s
          reply Of { ticket: Ticket(3), place: Away }
        b: stored
        get k | a=miss c=hit a=stored
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
        &[
            ("set k", "b=stored a=timeout c=stored"),
            ("set k", "b=stored a=stored c=stored"),
            ("get k", "a=hit b=miss c=hit"),
        ],
        expect![[r"
        set k | b=stored a=timeout c=stored
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: stored
        a: timeout
          missed by a
        c: stored
          reply Of { ticket: Ticket(1), place: Away }
        set k | b=stored a=stored c=stored
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: stored
        a: stored
        c: stored
          reply Of { ticket: Ticket(1), place: Away }
        get k | a=hit b=miss c=hit
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
        &[
            ("get k", "a=down b=hit c=behind"),
            ("get k", "a=down b=down c=behind"),
            ("delete k", "a=deleted b=deleted c=down"),
        ],
        expect![[r"
        get k | a=down b=hit c=behind
          Ticket(1) to b
        b: hit
          reply Of { ticket: Ticket(1), place: Away }
        get k | a=down b=down c=behind
          reply Local(Failed(Tko))
        delete k | a=deleted b=deleted c=down
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
        &[
            ("get k", "b=timeout a=miss c=hit"),
            ("get k", "a=behind b=timeout c=timeout"),
            ("set k", "c=stored a=timeout b=stored"),
            ("delete k", "c=not-found a=timeout b=deleted"),
        ],
        expect![[r"
        get k | b=timeout a=miss c=hit
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        b: timeout
        a: miss
          reply Of { ticket: Ticket(1), place: Away }
        c: hit
        get k | a=behind b=timeout c=timeout
          Ticket(1) to b
          Ticket(2) to c
        b: timeout
        c: timeout
          reply Of { ticket: Ticket(1), place: Away }
        set k | c=stored a=timeout b=stored
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        c: stored
          reply Of { ticket: Ticket(3), place: Away }
        a: timeout
          missed by a
        b: stored
        delete k | c=not-found a=timeout b=deleted
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
        &[
            ("get k", "a=miss b=hit c=hit"),
            ("get k", "a=hit b=hit c=miss"),
            ("get k", "a=down b=timeout c=hit"),
            ("set k", "a=timeout b=refused c=stored"),
            ("delete k", "a=deleted b=deleted c=timeout"),
        ],
        expect![[r"
        get k | a=miss b=hit c=hit
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: miss
        b: hit
        c: hit
          reply Of { ticket: Ticket(2), place: Away }
        get k | a=hit b=hit c=miss
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: hit
        b: hit
          reply Of { ticket: Ticket(1), place: Away }
        c: miss
        get k | a=down b=timeout c=hit
          Ticket(1) to b
          Ticket(2) to c
        b: timeout
        c: hit
          reply Of { ticket: Ticket(1), place: Away }
        set k | a=timeout b=refused c=stored
          Ticket(1) to a
          Ticket(2) to b
          Ticket(3) to c
        a: timeout
          missed by a
        b: refused
          missed by b
          reply Of { ticket: Ticket(1), place: Away }
        c: stored
        delete k | a=deleted b=deleted c=timeout
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
