//! Requests of cache clients: never a panic, the same commands however the bytes are cut, and framed as an obvious
//! model says: which bytes are lines, and which are values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::server::{Command, LINE_BYTES_MAX, Limits, Parser, Step, Versions};

const LIMITS: Limits = Limits { value_bytes_max: 100, versions: Versions::Accept };

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let whole = read([bytes]);
    let at = usize::from(cut).min(bytes.len());
    assert_eq!(read([&bytes[..at], &bytes[at..]]), whole);
    if bytes.len() < LINE_BYTES_MAX {
        let begins: Vec<usize> = whole.iter().map(|(at, _)| *at).collect();
        assert_eq!(begins, model(bytes), "where commands begin");
    }
});

/// The commands, each with the place at which it begins.
fn read<const N: usize>(reads: [&[u8]; N]) -> Vec<(usize, String)> {
    let mut parser = Parser::new(LIMITS);
    let (mut buf, mut out, mut at) = (Vec::new(), Vec::new(), 0);
    for bytes in reads {
        buf.extend_from_slice(bytes);
        loop {
            let used = match parser.next(&buf) {
                Step::More => break,
                Step::Close => return out,
                Step::Skip(used) => used,
                Step::Command(command, used) => {
                    if let Command::Get { keys, .. } = &command {
                        assert!(keys.clone().all(|key| !key.is_empty() && !key.contains(&b' ')));
                    }
                    out.push((at, format!("{command:?}")));
                    used
                }
            };
            assert!(used > 0);
            at += used;
            buf.drain(..used);
        }
    }
    out
}

/// Where commands begin: behind a line, and behind the value that a line announces.
fn model(bytes: &[u8]) -> Vec<usize> {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(length) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        let line = &bytes[at..at + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let behind = at + length + 1;
        let value = value_bytes(line).map_or(0, |value| value + 2);
        // A value that is kept is waited for; one that is too large is refused before it is there.
        if behind + value > bytes.len() && is_kept(line) {
            return out;
        }
        out.push(at);
        at = behind + value;
        if at > bytes.len() {
            return out;
        }
    }
    out
}

fn value_bytes(line: &[u8]) -> Option<usize> {
    if line.starts_with(b" ") {
        return None;
    }
    let words: Vec<&[u8]> =
        line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).collect();
    let at = match *words.first()? {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => 4,
        b"ms" => 2,
        b"lease-set" => 5,
        _ => return None,
    };
    let word = words.get(at)?;
    let digits = word.iter().all(u8::is_ascii_digit);
    let flags = words.get(3..).unwrap_or_default();
    if *words.first()? == b"ms" && !flags.iter().all(|flag| flag[0].is_ascii_alphabetic()) {
        return None;
    }
    let value = std::str::from_utf8(word).ok().filter(|_| digits)?.parse::<usize>().ok()?;
    (value <= 0x7fff_fffd).then_some(value)
}

/// Whether the parser has to see the value, which is when the line is in order.
fn is_kept(line: &[u8]) -> bool {
    let mut parser = Parser::new(LIMITS);
    let line = [line, b"\r\n"].concat();
    parser.next(&line) == Step::More
}
