//! Requests as data. Each is read whole, and cut in two at every byte: the same commands come out.

use expect_test::{Expect, expect};

use super::*;

const LIMITS: Limits = Limits { value_bytes_max: 8, versions: Versions::Accept };

/// Feeds the parser one read after the other, as a server does.
fn read(parser: &mut Parser, reads: &[&[u8]]) -> Vec<String> {
    let (mut buf, mut out) = (Vec::new(), Vec::new());
    for bytes in reads {
        buf.extend_from_slice(bytes);
        loop {
            let used = match parser.next(&buf) {
                Step::More => break,
                Step::Skip(used) => used,
                Step::Command(command, used) => {
                    out.push(show(&command));
                    used
                }
                Step::Close => {
                    out.push("close".to_owned());
                    return out;
                }
            };
            assert!(used > 0, "nothing was used");
            buf.drain(..used);
        }
        assert!(buf.len() < parser.wanted() || parser.wanted() == 0, "wants what it has");
    }
    out
}

/// Cuts of an input that is longer than this are spread over it.
const CUTS_MAX: usize = 3000;

/// What the bytes say, whole and however they are cut.
fn however_cut(limits: Limits, input: &[u8]) -> Vec<String> {
    let whole = read(&mut Parser::new(limits), &[input]);
    let step = input.len().div_ceil(CUTS_MAX).max(1);
    for at in (0..input.len()).step_by(step) {
        let (first, second) = input.split_at(at);
        assert_eq!(read(&mut Parser::new(limits), &[first, second]), whole, "cut at {at}");
    }
    let small: Vec<&[u8]> = input.chunks(step).collect();
    assert_eq!(read(&mut Parser::new(limits), &small), whole, "{step} at a time");
    whole
}

fn check(input: &[u8], expect: Expect) {
    expect.assert_eq(&however_cut(LIMITS, input).join("\n"));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn words(words: &Words<'_>) -> String {
    words.clone().map(text).collect::<Vec<_>>().join(",")
}

fn meta(name: &str, meta: &Meta<'_>) -> String {
    let flags = meta.flags;
    let numbers = [
        ("N", flags.vivify.map(i64::from)),
        ("T", flags.exptime.map(i64::from)),
        ("R", flags.recache.map(i64::from)),
        ("F", flags.has(b'F').then_some(i64::from(flags.client_flags))),
    ];
    let wide = [
        ("C", flags.cas),
        ("E", flags.cas_new),
        ("D", flags.delta),
        ("V", flags.version),
        ("m", flags.mark),
    ];
    let numbers = numbers.iter().filter_map(|(name, value)| Some(format!(" {name}={}", (*value)?)));
    let wide = wide.iter().filter_map(|(name, value)| Some(format!(" {name}={}", (*value)?)));
    let mode = flags.mode.map(|mode| format!(" M={}", char::from(mode)));
    let shown: String = numbers.chain(wide).chain(mode).collect();
    format!("{name} {} [{}]{shown}", text(&meta.key), words(&meta.words))
}

fn value(value: &Value<'_>) -> String {
    match value {
        Value::Bytes(bytes) => format!("{:?}", text(bytes)),
        Value::TooLarge => "too large".to_owned(),
    }
}

fn show(command: &Command<'_>) -> String {
    match command {
        Command::Get { verb, keys } => format!("{verb:?} {}", words(keys)),
        Command::Store(Store { verb, key, flags, exptime, value: data, reply }) => {
            let data = value(data);
            format!("{verb:?} {} flags {flags} exptime {exptime} {data} {reply:?}", text(key))
        }
        Command::LeaseGet { keys } => format!("LeaseGet {}", words(keys)),
        Command::Delete { key, reply } => format!("Delete {} {reply:?}", text(key)),
        Command::Touch { key, exptime, reply } => {
            format!("Touch {} {exptime} {reply:?}", text(key))
        }
        Command::Arithmetic { key, direction, delta, reply } => {
            format!("{direction:?} {} {delta} {reply:?}", text(key))
        }
        Command::MetaGet(it) => meta("mg", it),
        Command::MetaStore { meta: it, value: data } => {
            format!("{} {}", meta("ms", it), value(data))
        }
        Command::MetaDelete(it) => meta("md", it),
        Command::MetaArithmetic(it) => meta("ma", it),
        Command::MetaNoop => "mn".to_owned(),
        Command::MetaDebug { key } => format!("me {}", text(key)),
        Command::Quit => "quit".to_owned(),
        Command::Version => "version".to_owned(),
        Command::Admin(admin, rest) => format!("{admin:?} {}", words(rest)),
        Command::Refused { line, reply } => format!("{:?} {reply:?}", text(line)),
    }
}

#[test]
fn reads() {
    check(
        b"get a\r\ngets  a  b \ngat 5 a\r\ngats -1 a b\r\nget\r\ngat 5\r\ngat x a\r\n",
        expect![[r#"
            Get a
            Gets a,b
            Gat(5) a
            Gats(-1) a,b
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR invalid exptime argument\r\n" Wanted"#]],
    );
}

#[test]
fn stores() {
    check(
        b"set a 1 2 3\r\nabc\r\nadd a 0 -1 0 noreply\r\n\r\nreplace a 4294967297 0 4\r\na\r\nb\r\n\
          append a 0 0 1\r\n1\r\nprepend a 0 0 1\r\n2\r\ncas a 0 0 1 18446744073709551615\r\n3\r\n",
        expect![[r#"
            Set a flags 1 exptime 2 "abc" Wanted
            Add a flags 0 exptime -1 "" Unwanted
            Replace a flags 1 exptime 0 "a\r\nb" Wanted
            Append a flags 0 exptime 0 "1" Wanted
            Prepend a flags 0 exptime 0 "2" Wanted
            Cas(18446744073709551615) a flags 0 exptime 0 "3" Wanted"#]],
    );
}

#[test]
fn data_of_refused_commands_is_skipped() {
    check(
        b"set a x 0 3\r\nabc\r\nset a 0 0 9\r\n123456789\r\ncas a 0 0 1 noreply\r\na\r\nms a 9\r\n123456789\r\n\
          ms a 1 Q\r\n1\r\nversion\r\n",
        expect![[r#"
            "CLIENT_ERROR bad command line format\r\n" Wanted
            Set a flags 0 exptime 0 too large Wanted
            "CLIENT_ERROR bad command line format\r\n" Unwanted
            ms a [] too large
            "CLIENT_ERROR invalid flag\r\n" Wanted
            version"#]],
    );
}

#[test]
fn data_must_end_with_its_line() {
    check(
        b"set a 0 0 2\r\nabcd\r\nset a 0 0 2\r\nab\nget a\r\nset a 0 0\r\nset a 0 0 -1\r\n",
        expect![[r#"
            "CLIENT_ERROR bad data chunk\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad data chunk\r\n" Wanted
            "ERROR\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted"#]],
    );
}

#[test]
fn changes() {
    check(
        b"delete a\r\ndelete a 0 noreply\r\ntouch a 7\r\ntouch a\r\ntouch a x\r\nincr a 1\r\ndecr a 2 noreply\r\n\
          incr a -1\r\nincr a\r\ndelete\r\ndelete a b c d e\r\n",
        expect![[r#"
            Delete a Wanted
            Delete a Unwanted
            Touch a 7 Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR invalid exptime argument\r\n" Wanted
            Up a 1 Wanted
            Down a 2 Unwanted
            "CLIENT_ERROR invalid numeric delta argument\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n" Wanted"#]],
    );
}

#[test]
fn leases() {
    check(
        b"lease-get a b\r\nlease-get\r\nlease-set a 7 5 60 2\r\nab\r\nlease-set a 7 5 60 1 noreply\r\na\r\n\
          lease-set a x 0 0 1\r\na\r\nlease-set a 7 0 0\r\nmn\r\n",
        expect![[r#"
            LeaseGet a,b
            "CLIENT_ERROR bad command line format\r\n" Wanted
            Lease(7) a flags 5 exptime 60 "ab" Wanted
            Lease(7) a flags 5 exptime 60 "a" Unwanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            mn"#]],
    );
}

#[test]
fn meta_commands() {
    check(
        b"mg a v c N30 T-1 R5 Oxy\r\nms a 2 T0 F7 MS C1 E2 V9\r\nab\r\nmd a q I\r\nma a D5 J1 M+\r\nmn\r\n\
          me a\r\nmg YWI= b k\r\nmd a m18446744073709551615 V9\r\nmd a m\r\n",
        expect![[r#"
            mg a [v,c,N30,T-1,R5,Oxy] N=30 T=-1 R=5
            ms a [T0,F7,MS,C1,E2,V9] T=0 F=7 C=1 E=2 V=9 M=S "ab"
            md a [q,I]
            ma a [D5,J1,M+] D=5 M=+
            mn
            me a
            mg ab [b,k]
            md a [m18446744073709551615,V9] V=9 m=18446744073709551615
            "CLIENT_ERROR bad token in command line format\r\n" Wanted"#]],
    );
}

#[test]
fn meta_refusals() {
    check(
        b"mg\r\nmg a v v\r\nmg a !\r\nmg a z\r\nmg a Nx\r\nmg a b\r\nma a Dx\r\nma a q q\r\nms a x\r\nms a\r\n\
          mg a O1234567890123456789012345678901\r\nmg a O12345678901234567890123456789012\r\n\
          mg a a b c d e f g h i j k l m n o p q r s t\r\n",
        expect![[r#"
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR duplicate flag\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR invalid flag\r\n" Wanted
            "CLIENT_ERROR bad token in command line format\r\n" Wanted
            "CLIENT_ERROR error decoding key\r\n" Wanted
            "CLIENT_ERROR invalid or duplicate flag\r\n" Wanted
            "CLIENT_ERROR invalid or duplicate flag\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            mg a [O1234567890123456789012345678901]
            "CLIENT_ERROR opaque token too long\r\n" Wanted
            "CLIENT_ERROR options flags are too long\r\n" Wanted"#]],
    );
}

#[test]
fn versions_are_refused_as_memcached_does() {
    let limits = Limits { versions: Versions::Refuse, ..LIMITS };
    for line in ["mg a V1", "mg a V", "mg a G", "md a m1", "md a m1 V1"] {
        let refused = however_cut(limits, format!("{line}\r\n").as_bytes()).join("\n");
        assert_eq!(refused, r#""CLIENT_ERROR invalid flag\r\n" Wanted"#, "{line}");
    }
}

#[test]
fn keys_have_250_bytes() {
    let (fits, long) = ("k".repeat(250), "k".repeat(251));
    for command in ["get", "delete", "touch", "incr", "mg"] {
        let one = |key: &str| {
            let line = format!("{command} {key}{}\r\n", if command.len() > 3 { " 1" } else { "" });
            however_cut(LIMITS, line.as_bytes()).join("")
        };
        assert!(!one(&fits).contains("CLIENT_ERROR"), "{command}");
        assert!(one(&long).contains("CLIENT_ERROR bad command line format"), "{command}");
    }
    let line = format!("set {long} 0 0 1\r\na\r\nmn\r\n");
    check(
        line.as_bytes(),
        expect![[r#"
            "CLIENT_ERROR bad command line format\r\n" Wanted
            mn"#]],
    );
}

#[test]
fn lines_end() {
    let long = vec![b'x'; LINE_BYTES_MAX + 1];
    assert_eq!(however_cut(LIMITS, &long), ["close"]);
    let mut multiget = b"get ".to_vec();
    multiget.resize(LINE_BYTES_MAX * 4, b' ');
    multiget.extend_from_slice(b"key\r\n");
    assert_eq!(however_cut(LIMITS, &multiget), ["Get key"]);
    let mut endless = b"gets ".to_vec();
    endless.resize(MULTIGET_BYTES_MAX + 1, b'x');
    assert_eq!(read(&mut Parser::new(LIMITS), &[&endless]), ["close"]);
}

#[test]
fn odd_lines() {
    check(
        b"\r\n\na\r\nGET a\r\n  \r\n get a\r\nflush_all 0 noreply\r\nstats items\r\nquit\r\n",
        expect![[r#"
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "ERROR\r\n" Wanted
            "CLIENT_ERROR bad command line format\r\n" Wanted
            "ERROR\r\n" Wanted
            FlushAll 0,noreply
            Stats items
            quit"#]],
    );
}

proptest::proptest! {
    /// Whatever the bytes, and however they are cut: the same commands, and no panic.
    #[test]
    fn cuts_do_not_matter(
        lines in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..12),
        cuts in proptest::collection::vec(0_usize..200, 0..6),
    ) {
        let input: Vec<u8> = lines.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let whole = read(&mut Parser::new(LIMITS), &[&input]);
        proptest::prop_assert_eq!(read(&mut Parser::new(LIMITS), &reads), whole);
    }
}

/// What requests are made of.
const FRAGMENTS: &[&[u8]] = &[
    b"get ",
    b"set ",
    b"ms ",
    b"mg ",
    b"a ",
    b"0 ",
    b"0 0 2",
    b"2 ",
    b"\r\n",
    b"\n",
    b"\r",
    b"ab\r\n",
    b"x",
    b" noreply\r\n",
    b"v ",
    b"b ",
    b"YWI= ",
    b"cas ",
    b"9 ",
    b"123456789\r\n",
    b"\0",
    b"\xff",
    b"-1 ",
];
