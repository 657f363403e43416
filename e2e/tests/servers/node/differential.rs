//! Random commands to a real memcached 1.6.45 and to our node: every reply must be the same, byte for byte.
//!
//! What may differ: seconds, by as much as the two clocks do; and the slab class, which we have not. Not asked, because
//! memcached answers with what happens to be in memory: the time left (`t`) of what a negative `T` has just ended; and
//! `E` and `T` of an `ma` whose number gets longer, which memcached applies to the entry that it has just replaced.

use e2e::random::Random;

use super::wire::Wire;
use crate::support::{enter, random, skip, tenth_unless_long};

const VERSION: &str = "1.6.45";
const KEYS: [&str; 5] = ["a", "b", "num", "YWI=", "ab"];
const VALUES: [&str; 10] =
    ["", "1", "10", "99", "18446744073709551615", "007", "x", "abc", "12 34", "a\r\nb"];
/// How far two clocks of whole seconds may be apart.
const SECONDS: i64 = 2;

#[tokio::test]
async fn answers_are_memcacheds() {
    let test = "answers_are_memcacheds";
    let Some(lab) = enter(test, &["memcached", "mcsqueal"]).await else { return };
    let version = lab.servers.manifest().program("memcached").map(|it| it.version.clone());
    if !version.as_deref().is_some_and(|version| version.contains(VERSION)) {
        return skip(test, VERSION, &format!("it is {version:?}, not {VERSION}"));
    }
    // Its background threads hold entries now and then, which shows: a counter is then not changed in place.
    let quiet = ["-o", "no_lru_maintainer,no_lru_crawler"];
    let theirs = lab.servers.memcached_with(&quiet).await.expect("memcached starts");
    let ours = lab.servers.cache_node(&["--show-placeholders", "-m", "64"]).await.expect("starts");
    let mut theirs = Wire::connect(&theirs.address()).await.expect("connect to memcached");
    let mut ours = Wire::connect(&ours.address()).await.expect("connect to the node");
    let mut random = random(600);
    let (mut last_cas, mut history) = (1, Vec::new());
    let commands = tenth_unless_long(1_000_000);
    for _ in 0..commands {
        let command = command(&mut random, last_cas);
        history.push(show(&command));
        let (theirs, ours) = tokio::join!(theirs.ask(&command), ours.ask(&command));
        let (theirs, ours) = (theirs.expect("memcached answers"), ours.expect("the node answers"));
        assert!(
            same(&theirs, &ours),
            "memcached: {}\nours:      {}\nlast commands:\n{}",
            show(&theirs),
            show(&ours),
            history[history.len().saturating_sub(80)..].join("\n"),
        );
        last_cas = cas_in(&theirs).unwrap_or(last_cas);
    }
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Equal, but for seconds.
fn same(theirs: &[u8], ours: &[u8]) -> bool {
    if theirs == ours {
        return true;
    }
    let words = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.split([' ', '\r'])
            .filter(|word| !word.starts_with("cls="))
            .map(str::to_owned)
            .collect()
    };
    let (theirs, ours) = (words(theirs), words(ours));
    let pairs = theirs.iter().zip(&ours);
    theirs.len() == ours.len() && pairs.into_iter().all(|(a, b)| a == b || near(a, b))
}

/// Whether both are numbers of seconds, and near.
fn near(a: &str, b: &str) -> bool {
    ["t", "l", "exp=", "la="].iter().any(|prefix| {
        let number = |word: &str| word.strip_prefix(prefix)?.parse::<i64>().ok();
        matches!((number(a), number(b)), (Some(a), Some(b)) if (a - b).abs() <= SECONDS)
    })
}

/// A CAS that an answer tells.
fn cas_in(answer: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(answer);
    let words = text.split_ascii_whitespace();
    words.filter_map(|word| word.strip_prefix('c')?.parse().ok()).next_back()
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    let at = random.below(from.len() as u64);
    from[usize::try_from(at).expect("a small number")]
}

fn command(random: &mut Random, cas: u64) -> Vec<u8> {
    match random.below(20) {
        0..7 => classic(random, cas),
        7..19 => meta(random, cas),
        _ => odd(random),
    }
    .into_bytes()
}

fn classic(random: &mut Random, cas: u64) -> String {
    let key = pick(random, &KEYS);
    let (value, number) =
        (pick(random, &VALUES), pick(random, &["0", "1", "7", "4294967295", "x"]));
    let noreply = pick(random, &["", "", "", " noreply"]);
    let exptime = pick(random, &["0", "0", "1000", "-1", "5000000000"]);
    let cas = cas.wrapping_add(random.below(2));
    match random.below(14) {
        0 => format!("get {key}\r\n"),
        1 => format!("gets {key} {}\r\n", pick(random, &KEYS)),
        2 => format!("gat {exptime} {key}\r\n"),
        3 => format!("gats 1000 {key} a\r\n"),
        4..8 => {
            let verb = pick(random, &["set", "set", "add", "replace", "append", "prepend"]);
            let length = value.len();
            format!("{verb} {key} {number} {exptime} {length}{noreply}\r\n{value}\r\n")
        }
        8 | 9 => {
            let length = value.len();
            format!("cas {key} 3 {exptime} {length} {cas}{noreply}\r\n{value}\r\n")
        }
        10 => format!("delete {key}{noreply}\r\n"),
        11 => format!("touch {key} {exptime}{noreply}\r\n"),
        12 => format!("incr {key} {number}{noreply}\r\n"),
        _ => format!("decr {key} {number}{noreply}\r\n"),
    }
}

fn meta(random: &mut Random, cas: u64) -> String {
    let key = pick(random, &KEYS);
    let base64 = if key == "YWI=" && random.one_in(2) { " b" } else { "" };
    let value = pick(random, &VALUES);
    match random.below(10) {
        0..4 => {
            let flags = flags(random, cas, b"vvvvcctfhklsqukOTNNRCEx");
            format!("mg {key}{base64}{flags}\r\n")
        }
        4..7 => {
            let flags = flags(random, cas, b"cskqOTFFMMCCEINkx");
            format!("ms {key} {}{base64}{flags}\r\n{value}\r\n", value.len())
        }
        7 => {
            let flags = flags(random, cas, b"qkOCEIITx");
            format!("md {key}{base64}{flags}\r\n")
        }
        8 => {
            let flags = flags(random, cas, b"vvctkqONNJDMC");
            format!("ma {key}{base64}{flags}\r\n")
        }
        _ if random.one_in(2) => {
            let flags = flags(random, cas, b"vctkqOET");
            format!("set num 0 0 1\r\n5\r\nma num{flags}\r\n")
        }
        _ => format!("me {key}\r\n"),
    }
}

/// Some of the letters, with arguments.
fn flags(random: &mut Random, cas: u64, letters: &[u8]) -> String {
    let mut out = String::new();
    let mut ended = false;
    for _ in 0..random.below(7) {
        let at = usize::try_from(random.below(letters.len() as u64)).expect("a small number");
        let letter = char::from(letters[at]);
        // Now and then a flag comes twice, which is an error.
        if out.contains(&format!(" {letter}")) && !random.one_in(50) {
            continue;
        }
        let argument = match letter {
            // Never as many seconds as something lives: that would ask which clock ticks first.
            'R' => pick(random, &["0", "500", "1500", "x", "-1"]).to_owned(),
            'T' | 'N' => {
                let seconds = pick(random, &["0", "1000", "2000", "60", "1000", "x", "-1"]);
                ended |= seconds == "-1";
                seconds.to_owned()
            }
            'C' => cas.wrapping_sub(random.below(3)).to_string(),
            'E' => (cas + 1000 + random.below(5)).to_string(),
            'F' => pick(random, &["0", "5", "4294967295", "x"]).to_owned(),
            'M' => pick(random, &["S", "E", "A", "P", "R", "I", "D", "+", "-", "Z"]).to_owned(),
            'J' | 'D' => pick(random, &["0", "1", "13", "18446744073709551615", "x"]).to_owned(),
            'O' => pick(random, &["1", "opaque", "1234567890123456789012345678901"]).to_owned(),
            _ => String::new(),
        };
        out.push_str(&format!(" {letter}{argument}"));
    }
    if ended { out.replace(" t", "") } else { out }
}

/// Lines that are wrong, or seldom.
fn odd(random: &mut Random) -> String {
    let long = "k".repeat(251);
    match random.below(16) {
        0 => format!("get {long}\r\n"),
        1 => format!("set {long} 0 0 1\r\na\r\n"),
        2 => format!("delete {long}\r\n"),
        3 => format!("mg {long} v\r\n"),
        4 => "get\r\n".to_owned(),
        5 => "set a 0 0\r\n".to_owned(),
        6 => "set a 0 0 1\r\nabc\r\n".to_owned(),
        7 => "touch a\r\ntouch a x\r\n".to_owned(),
        8 => "GET a\r\nnonsense\r\n".to_owned(),
        9 => "mg a !\r\nmg a ~\r\nmg\r\n".to_owned(),
        10 => "mn\r\nversion\r\n".to_owned(),
        11 => "verbosity 1\r\nverbosity\r\nflush_all x\r\n".to_owned(),
        12 => "  get  a\r\nget  a   b \r\n".to_owned(),
        13 => "incr a -1\r\nincr a\r\ndecr a 99999999999999999999\r\n".to_owned(),
        14 => format!("set big 0 0 {}\r\n{}\r\nget big\r\n", 1 << 20, "v".repeat(1 << 20)),
        _ => "flush_all\r\n".to_owned(),
    }
}
