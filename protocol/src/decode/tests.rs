//! Every reply whole and cut at every byte, round trips, and noise.

use bytes::Bytes;
use expect_test::{Expect as Snapshot, expect};
use proptest::{collection::vec, option, prelude::*};

use super::*;

const SMALL: Limits = Limits { value_bytes_max: 16, reply_bytes_max: 24, stats_max: 2 };

/// Decodes `input` whole and cut at every byte, and demands the same outcome each time.
fn check(asked: &[Expect], input: &[u8], snapshot: Snapshot) {
    let whole = decode_reads(asked, &[input]);
    for (at, _) in input.iter().enumerate() {
        let (head, tail) = input.split_at(at);
        assert_eq!(decode_reads(asked, &[head, tail]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(decode_reads(asked, &bytes), whole, "byte by byte");
    snapshot.assert_eq(&whole.join("\n"));
}

fn decode_reads(asked: &[Expect], reads: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::new(SMALL);
    let mut buf = BytesMut::new();
    let mut asked = asked.iter().copied().peekable();
    let mut out = Vec::new();
    for read in reads {
        buf.extend_from_slice(read);
        while let Some(&expect) = asked.peek() {
            match decoder.decode(expect, &mut buf) {
                Ok(Some(reply)) => {
                    out.push(format!("{reply:?}"));
                    asked.next();
                }
                Ok(None) => break,
                Err(err) => {
                    assert_eq!(decoder.decode(expect, &mut buf), Err(err.clone()), "asked again");
                    out.push(format!("error: {err}"));
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
fn one_line() {
    check(
        &[Expect::Delete, Expect::Delete, Expect::Delete],
        b"DELETED\r\nNOT_FOUND\r\nDELE",
        expect![[r"
            Deleted
            NotFound
            4 bytes left"]],
    );
    check(
        &[Expect::Store; 4],
        b"STORED\r\nNOT_STORED\r\nEXISTS\r\nNOT_FOUND\r\n",
        expect![[r"
            Stored
            NotStored
            Exists
            NotFound"]],
    );
    check(
        &[Expect::Touch, Expect::Touch, Expect::Ok, Expect::Version],
        b"TOUCHED\r\nNOT_FOUND\r\nOK\r\nVERSION 1.6.45\r\n",
        expect![[r#"
            Touched
            NotFound
            Ok
            Version("1.6.45")"#]],
    );
    check(
        &[Expect::Number, Expect::Number, Expect::Number],
        b"0\r\n18446744073709551615\r\nNOT_FOUND\r\n",
        expect![[r"
            Number(0)
            Number(18446744073709551615)
            NotFound"]],
    );
}

#[test]
fn values() {
    check(
        &[Expect::Get { values_max: 2 }, Expect::Get { values_max: 1 }, Expect::Gets { values_max: 1 }],
        b"VALUE a 7 4\r\na\r\nb\r\nVALUE b 0 0\r\n\r\nEND\r\nEND\r\nVALUE c 4294967295 1 9\r\nc\r\nEND\r\n",
        expect![[r#"
            Values([Value { key: Key(a), flags: 7, cas: None, data: b"a\r\nb" }, Value { key: Key(b), flags: 0, cas: None, data: b"" }])
            Values([])
            Values([Value { key: Key(c), flags: 4294967295, cas: Some(9), data: b"c" }])"#]],
    );
    check(
        &[Expect::Get { values_max: 2 }, Expect::Get { values_max: 2 }],
        b"VALUE a 7 1\r\na\r\nSERVER_ERROR out of memory writing get response\r\nEND\r\n",
        expect![[r#"
            Refused(Refusal { kind: Server, text: "out of memory writing get response" })
            Values([])"#]],
    );
}

#[test]
fn statistics() {
    check(
        &[Expect::Stats, Expect::Stats],
        b"STAT pid 17\r\nSTAT x  y\r\nEND\r\nSTAT empty\r\nEND\r\n",
        expect![[r#"
            Stats([Stat { name: "pid", value: "17" }, Stat { name: "x", value: " y" }])
            Stats([Stat { name: "empty", value: "" }])"#]],
    );
}

#[test]
fn refusals() {
    check(
        &[Expect::Version, Expect::Delete, Expect::Ok, Expect::Store, Expect::Stats],
        b"ERROR Too many open connections\r\nERROR\r\nCLIENT_ERROR flush_all not allowed\r\n\
          SERVER_ERROR object too large for cache\r\nSERVER_ERROR: shutdown not enabled\r\n",
        expect![[r#"
            Refused(Refusal { kind: Unknown, text: "Too many open connections" })
            Refused(Refusal { kind: Unknown, text: "" })
            Refused(Refusal { kind: Client, text: "flush_all not allowed" })
            Refused(Refusal { kind: Server, text: "object too large for cache" })
            Refused(Refusal { kind: Server, text: "shutdown not enabled" })"#]],
    );
}

#[test]
fn lost_each_other() {
    check(
        &[Expect::Delete],
        b"STORED\r\n",
        expect![[r#"error: the reply "STORED" does not fit Delete"#]],
    );
    check(
        &[Expect::Delete],
        b"DELETED\n",
        expect![[r#"error: the reply "DELETED" does not fit Delete"#]],
    );
    check(&[Expect::Delete], b"\r\n", expect![[r#"error: the reply "" does not fit Delete"#]]);
    check(&[Expect::Ok], b"OK \r\n", expect![[r#"error: the reply "OK " does not fit Ok"#]]);
    check(
        &[Expect::Store],
        b"ERRORS\r\n",
        expect![[r#"error: the reply "ERRORS" does not fit Store"#]],
    );
    check(&[Expect::Number], b"+1\r\n", expect![[r#"error: the reply "+1" does not fit Number"#]]);
    check(
        &[Expect::Number],
        b"18446744073709551616\r\n",
        expect![[r#"error: the reply "18446744073709551616" does not fit Number"#]],
    );
    check(
        &[Expect::Get { values_max: 1 }],
        b"VALUE a 0 1 5\r\nx\r\nEND\r\n",
        expect![[r#"error: the reply "VALUE a 0 1 5" does not fit Get { values_max: 1 }"#]],
    );
    check(
        &[Expect::Gets { values_max: 1 }],
        b"VALUE a 0 1\r\nx\r\nEND\r\n",
        expect![[r#"error: the reply "VALUE a 0 1" does not fit Gets { values_max: 1 }"#]],
    );
    check(
        &[Expect::Get { values_max: 1 }],
        b"VALUE a 0 1\r\nxyz",
        expect!["error: the value of a is not followed by a line end"],
    );
    check(
        &[Expect::Version],
        b"\x80\x1b[2J\r\n",
        expect![[r#"error: the reply "\\x80\\x1b[2J" does not fit Version"#]],
    );
}

#[test]
fn limits() {
    check(
        &[Expect::Get { values_max: 1 }],
        b"VALUE a 0 17\r\n",
        expect!["error: a value of 17 bytes exceeds the limit of 16"],
    );
    check(
        &[Expect::Get { values_max: 1 }],
        b"VALUE a 0 0\r\n\r\nVALUE b 0 0\r\n\r\nEND\r\n",
        expect!["error: the reply exceeds its limit of values"],
    );
    check(
        &[Expect::Get { values_max: 2 }],
        b"VALUE a 0 12\r\nxxxxxxxxxxxx\r\nVALUE b 0 12\r\n",
        expect!["error: the reply exceeds its limit of bytes"],
    );
    check(
        &[Expect::Stats],
        b"STAT a\r\nSTAT b\r\nSTAT c\r\nEND\r\n",
        expect!["error: the reply exceeds its limit of statistics"],
    );
    check(
        &[Expect::Stats],
        &[b'x'; LINE_BYTES_MAX],
        expect!["error: a line of a reply exceeds 4096 bytes"],
    );
}

/// A reply, how a server writes it, and what it answers.
fn reply() -> impl Strategy<Value = (Expect, Reply)> {
    let key = "[!-~]{1,250}".prop_map(|text| Key::new(text).unwrap());
    let value = (key, any::<u32>(), vec(any::<u8>(), 0..300));
    let values = (option::of(any::<u64>()), vec(value, 0..5)).prop_map(|(cas, found)| {
        let values_max = found.len();
        let values = found
            .into_iter()
            .map(|(key, flags, data)| Value { key, flags, cas, data: Bytes::from(data) })
            .collect();
        let expect = match cas {
            Some(_) => Expect::Gets { values_max },
            None => Expect::Get { values_max },
        };
        (expect, Reply::Values(values))
    });
    let stat = ("[!-~]{1,20}", "[ -~]{0,40}").prop_map(|(name, value)| Stat { name, value });
    prop_oneof![
        Just((Expect::Delete, Reply::Deleted)),
        Just((Expect::Touch, Reply::NotFound)),
        Just((Expect::Store, Reply::Stored)),
        Just((Expect::Store, Reply::Exists)),
        Just((Expect::Ok, Reply::Ok)),
        any::<u64>().prop_map(|number| (Expect::Number, Reply::Number(number))),
        "[ -~]{0,40}".prop_map(|text| (Expect::Version, Reply::Version(text))),
        "[!-~]{0,40}".prop_map(|text| {
            (Expect::Delete, Reply::Refused(Refusal { kind: RefusalKind::Server, text }))
        }),
        vec(stat, 0..5).prop_map(|stats| (Expect::Stats, Reply::Stats(stats))),
        values,
    ]
}

fn write(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Deleted => out.extend(b"DELETED\r\n"),
        Reply::NotFound => out.extend(b"NOT_FOUND\r\n"),
        Reply::Stored => out.extend(b"STORED\r\n"),
        Reply::NotStored => out.extend(b"NOT_STORED\r\n"),
        Reply::Exists => out.extend(b"EXISTS\r\n"),
        Reply::Touched => out.extend(b"TOUCHED\r\n"),
        Reply::Ok => out.extend(b"OK\r\n"),
        Reply::Number(number) => out.extend(format!("{number}\r\n").bytes()),
        Reply::Version(text) => out.extend(format!("VERSION {text}\r\n").bytes()),
        Reply::Refused(refusal) => out.extend(format!("{refusal}\r\n").bytes()),
        Reply::Stats(stats) => {
            for Stat { name, value } in stats {
                out.extend(format!("STAT {name} {value}\r\n").bytes());
            }
            out.extend(b"END\r\n");
        }
        Reply::Values(values) => {
            for Value { key, flags, cas, data } in values {
                let cas = cas.map_or(String::new(), |cas| format!(" {cas}"));
                out.extend(b"VALUE ");
                out.extend(key.as_bytes());
                out.extend(format!(" {flags} {}{cas}\r\n", data.len()).bytes());
                out.extend(data);
                out.extend(b"\r\n");
            }
            out.extend(b"END\r\n");
        }
    }
}

proptest! {
    /// What a server writes comes out, whatever the reads.
    #[test]
    fn round_trip(replies in vec(reply(), 0..8), cuts in vec(1..200_usize, 1..8)) {
        let mut bytes = Vec::new();
        for (_, reply) in &replies {
            write(reply, &mut bytes);
        }
        let mut decoder = Decoder::new(Limits::default());
        let mut buf = BytesMut::new();
        let mut rest = bytes.as_slice();
        let mut cuts = cuts.into_iter().cycle();
        for (expect, reply) in replies {
            let got = loop {
                if let Some(got) = decoder.decode(expect, &mut buf).unwrap() {
                    break got;
                }
                let (head, tail) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                prop_assert!(!head.is_empty(), "wants more than was written");
                buf.extend_from_slice(head);
                rest = tail;
            };
            prop_assert_eq!(got, reply);
        }
        prop_assert!(buf.is_empty() && rest.is_empty());
    }

    /// Noise, and near misses, never panic, and a buffer that only grows ends in an error or a reply.
    #[test]
    fn noise(
        lines in vec(
            prop_oneof![
                vec(any::<u8>(), 0..64),
                "(VALUE|STAT|END|ERROR|VERSION|DELETED|OK)[ 0-9a-z\r\n]{0,40}(\r\n)?".prop_map(String::into_bytes),
            ],
            0..10,
        ),
        at in 0..9_usize,
    ) {
        let expect = [
            Expect::Delete, Expect::Store, Expect::Touch, Expect::Number, Expect::Get { values_max: 3 },
            Expect::Gets { values_max: 3 }, Expect::Stats, Expect::Version, Expect::Ok,
        ][at];
        let mut decoder = Decoder::new(SMALL);
        let mut buf = BytesMut::new();
        for line in lines {
            buf.extend_from_slice(&line);
            while let Ok(Some(_)) = decoder.decode(expect, &mut buf) {}
            prop_assert!(decoder.values.len() <= 3 && decoder.stats.len() <= 2 && decoder.held_bytes <= 24);
        }
    }
}
