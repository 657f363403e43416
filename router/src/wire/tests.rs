//! Replies are cut and requests written the same, however they come.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use protocol::server::{Command, GetVerb, Limits, Parser, Step, Versions};

use super::{
    answer::{self, Silence},
    cut::{Cutter, Shape},
    request::{self, Lifetime},
};

const GUTTER: Lifetime = Lifetime::AtMost { seconds: 60, now_unix_s: 1_700_000_000 };

/// Takes commands off `input`, and hands each to `see`.
fn each_command(input: &[u8], mut see: impl FnMut(&Command<'_>)) {
    let limits = Limits { value_bytes_max: 1000, versions: Versions::Accept };
    let (mut parser, mut rest) = (Parser::new(limits), input);
    while let Step::Command(command, bytes) = parser.next(rest) {
        see(&command);
        rest = &rest[bytes..];
    }
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

/// What goes to a node for each command, with `key` for its key, and how its reply is treated.
fn relayed(input: &[u8], key: &[u8], lifetime: Lifetime, expect: Expect) {
    let mut lines = Vec::new();
    each_command(input, |command| {
        let mut out = Vec::new();
        let shape = request::encode(command, key, lifetime, &mut out);
        let silence = Silence::of(command);
        lines.push(format!("{} {shape:?} {silence:?}", out.escape_ascii()));
    });
    expect.assert_eq(&lines.join("\n"));
}

#[test]
fn text_goes_on_as_text_without_noreply() {
    relayed(
        b"get /a/b/k\r\ngats 10 /a/b/k\r\nset /a/b/k 7 0 3 noreply\r\nabc\r\ncas /a/b/k 0 -1 0 18446744073709551615\r\n\r\n\
          delete /a/b/k 0 noreply\r\ntouch /a/b/k 90\r\nincr /a/b/k 5 noreply\r\ndecr /a/b/k 0\r\nlease-get /a/b/k\r\n\
          lease-set /a/b/k 9 1 2 1\r\nx\r\nversion\r\n",
        b"k",
        Lifetime::Sent,
        expect![[r"
            get k\r\n Some(Values) None
            gats 10 k\r\n Some(Values) None
            set k 7 0 3\r\nabc\r\n Some(Line) All
            cas k 0 -1 0 18446744073709551615\r\n\r\n Some(Line) None
            delete k\r\n Some(Line) All
            touch k 90\r\n Some(Line) None
            incr k 5\r\n Some(Line) All
            decr k 0\r\n Some(Line) None
            lease-get k\r\n Some(Values) None
            lease-set k 9 1 2 1\r\nx\r\n Some(Line) None
             None None"]],
    );
}

#[test]
fn meta_goes_on_as_meta_without_q_and_hints() {
    relayed(
        b"mg /a/b/k v q Oabc k Lfar t\r\nms /a/b/k 2 q T5 P\r\nhi\r\nmd L2EvYi9r b q k\r\nma /a/b/k N0 J1 q\r\nme /a/b/k\r\n",
        b"k",
        Lifetime::Sent,
        expect![[r"
            mg k v Oabc k t\r\n Some(Meta) Miss
            ms k 2 T5\r\nhi\r\n Some(Meta) Done
            md aw== b k\r\n Some(Meta) Done
            ma k N0 J1\r\n Some(Meta) Done
            me k\r\n Some(Meta) None"]],
    );
}

#[test]
fn a_gutter_keeps_nothing_for_long() {
    relayed(
        b"set k 0 0 1\r\na\r\nset k 0 30 1\r\na\r\nset k 0 3000 1\r\na\r\nset k 0 1700000030 1\r\na\r\nset k 0 1700009999 1\r\na\r\n\
          set k 0 1600000000 1\r\na\r\nset k 0 -1 1\r\na\r\ntouch k 0\r\nms k 1\r\na\r\nms k 1 T0\r\na\r\nma k N0\r\n",
        b"k",
        GUTTER,
        expect![[r"
            set k 0 60 1\r\na\r\n Some(Line) None
            set k 0 30 1\r\na\r\n Some(Line) None
            set k 0 60 1\r\na\r\n Some(Line) None
            set k 0 1700000030 1\r\na\r\n Some(Line) None
            set k 0 60 1\r\na\r\n Some(Line) None
            set k 0 1600000000 1\r\na\r\n Some(Line) None
            set k 0 -1 1\r\na\r\n Some(Line) None
            touch k 60\r\n Some(Line) None
            ms k 1 T60\r\na\r\n Some(Meta) None
            ms k 1 T60\r\na\r\n Some(Meta) None
            ma k N60\r\n Some(Meta) None"]],
    );
}

#[test]
fn many_keys_are_one_read() {
    let mut out = Vec::new();
    let keys = [&b"a"[..], b"b", b"c"];
    request::reads(GetVerb::Gets, keys, Lifetime::Sent, &mut out);
    request::reads(GetVerb::Gat(0), keys, GUTTER, &mut out);
    assert_eq!(out.escape_ascii().to_string(), r"gets a b c\r\ngat 60 a b c\r\n");
}

/// Cuts replies whole, and in two at every byte, and demands the same outcome each time.
fn check(shape: Shape, input: &[u8], expect: Expect) {
    let whole = cut(shape, &[input]);
    for at in 0..input.len() {
        let (head, tail) = input.split_at(at);
        assert_eq!(cut(shape, &[head, tail]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(cut(shape, &bytes), whole, "cut everywhere");
    expect.assert_eq(&whole.join("\n"));
}

fn cut(shape: Shape, reads: &[&[u8]]) -> Vec<String> {
    let (mut buf, mut cutter, mut out) = (Vec::new(), Cutter::default(), Vec::new());
    for read in reads {
        buf.extend_from_slice(read);
        loop {
            match cutter.next(shape, &buf) {
                Ok(Some(cut)) => {
                    let rest = buf.split_off(cut.bytes);
                    out.push(format!("{:?} {} {}", cut.said, cut.values, buf.escape_ascii()));
                    buf = rest;
                }
                Ok(None) => break,
                Err(err) => {
                    out.push(err.to_string());
                    return out;
                }
            }
        }
    }
    if !buf.is_empty() {
        out.push(format!("{} bytes left", buf.len()));
    }
    out
}

#[test]
fn replies_to_reads() {
    check(
        Shape::Values,
        b"END\r\nVALUE a 7 4\r\n\r\nEN\r\nVALUE b 0 0 12\r\n\r\nEND\r\nLVALUE k 9 0 0\r\n\r\nEND\r\nSERVER_ERROR x\r\nVALUE a 7",
        expect![[r"
            Miss 0 END\r\n
            Hit 2 VALUE a 7 4\r\n\r\nEN\r\nVALUE b 0 0 12\r\n\r\nEND\r\n
            Hit 1 LVALUE k 9 0 0\r\n\r\nEND\r\n
            ServerError 0 SERVER_ERROR x\r\n
            9 bytes left"]],
    );
}

#[test]
fn replies_of_one_line() {
    check(
        Shape::Line,
        b"STORED\r\nNOT_STORED\r\nEXISTS\r\nNOT_FOUND\r\nDELETED\r\n12\r\n9 \r\nERROR\r\nCLIENT_ERROR bad\r\nVERSION 1.6\r\n",
        expect![[r"
            Done 0 STORED\r\n
            NotStored 0 NOT_STORED\r\n
            Exists 0 EXISTS\r\n
            NotFound 0 NOT_FOUND\r\n
            Done 0 DELETED\r\n
            Done 0 12\r\n
            Done 0 9 \r\n
            Unknown 0 ERROR\r\n
            ClientError 0 CLIENT_ERROR bad\r\n
            Done 0 VERSION 1.6\r\n"]],
    );
}

#[test]
fn replies_to_meta_commands() {
    check(
        Shape::Meta,
        b"VA 4 t1 Oa\r\nEN\r\n\r\nHD\r\nEN\r\nNF kq\r\nNS\r\nEX\r\nMN\r\nME k exp=-1\r\nCLIENT_ERROR x\r\n",
        expect![[r"
            Hit 1 VA 4 t1 Oa\r\nEN\r\n\r\n
            Done 0 HD\r\n
            Miss 0 EN\r\n
            NotFound 0 NF kq\r\n
            NotStored 0 NS\r\n
            Exists 0 EX\r\n
            Done 0 MN\r\n
            Hit 0 ME k exp=-1\r\n
            ClientError 0 CLIENT_ERROR x\r\n"]],
    );
}

#[test]
fn replies_of_many_lines() {
    check(
        Shape::Block,
        b"STAT a ERROR\r\nSTAT END x\r\nEND\r\nRESET\r\n",
        expect![[r"
            Miss 0 STAT a ERROR\r\nSTAT END x\r\nEND\r\n
            Done 0 RESET\r\n"]],
    );
}

#[test]
fn what_is_no_reply() {
    for (shape, input) in [
        (Shape::Values, &b"VALUE a 7 1\r\nabc\r\n"[..]),
        (Shape::Values, b"VALUE a 7 99999999999\r\n"),
        (Shape::Values, b"VALUE a\r\n"),
        (Shape::Line, b"stored\r\n"),
        (Shape::Line, b"STORED\n"),
        (Shape::Meta, b"VA x\r\n"),
        (Shape::Line, &[b'x'; 3000]),
    ] {
        let said = cut(shape, &[input]).concat();
        assert!(said.starts_with("malformed reply"), "{}: {said}", input.escape_ascii());
    }
}

#[test]
fn the_client_sees_his_own_key() {
    let renamed = |reply: &[u8]| {
        let mut out = Vec::new();
        answer::renamed(reply, b"/a/b/k", &mut out);
        out.escape_ascii().to_string()
    };
    let got = [
        renamed(b"VALUE k 0 1 5\r\nk\r\nEND\r\n"),
        renamed(b"END\r\n"),
        renamed(b"VA 2 kk t-1 Ok\r\nkk\r\n"),
        renamed(b"HD kk\r\n"),
        renamed(b"ME k exp=-1 la=0\r\n"),
        renamed(b"CLIENT_ERROR k\r\n"),
    ];
    expect![[r"
        VALUE /a/b/k 0 1 5\r\nk\r\nEND\r\n
        END\r\n
        VA 2 k/a/b/k t-1 Ok\r\nkk\r\n
        HD k/a/b/k\r\n
        ME /a/b/k exp=-1 la=0\r\n
        CLIENT_ERROR k\r\n"]]
    .assert_eq(&got.join("\n"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), shape in 0..4_usize) {
        let shape = [Shape::Values, Shape::Line, Shape::Meta, Shape::Block][shape];
        let mut out = Vec::new();
        answer::renamed(&bytes, b"key", &mut out);
        answer::merge(&bytes, |_| None, &mut out);
        cut(shape, &[&bytes, b"\r\n"]);
    }
}
