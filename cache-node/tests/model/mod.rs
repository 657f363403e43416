//! The plainest server that one can think of: a map, and lines split at spaces. It knows the ordinary commands in their ordinary
//! form; at the first thing that it does not know it gives up, and what was answered up to there must be the same.

use std::{collections::HashMap, sync::Arc};

use cache_node::{
    access::Users,
    node::{Allowed, Node, Placeholders, Settings},
    now::Now,
    server::{Session, Todo},
    store::Eviction,
};
use protocol::server::Reply;
use schemas::moment::Moment;

const NOW: Now = Now { moment: Moment::START, unix: 1_000_000 };
const ITEM_BYTES_MAX: usize = 1 << 16;
/// Longer values are for others to judge: appended to one another, they may not fit.
const VALUE_BYTES_MAX: usize = 100;

/// The same bytes, to the node whole, to the node in pieces, and to the model: all say the same.
pub(crate) fn check(bytes: &[u8], cuts: &[usize]) {
    let whole = converse(&[bytes]);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
    assert_eq!(show(&converse(&pieces)), show(&whole), "in pieces: {cuts:?}");
    let (expected, end) = Model::run(bytes);
    match end {
        End::Known => assert_eq!(show(&whole), show(&expected), "another answer than the model's"),
        End::GaveUp => {
            let same = whole.get(..expected.len());
            assert_eq!(same.map(show), Some(show(&expected)), "another answer than the model's");
        }
    }
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What a node without a source answers.
fn converse(reads: &[&[u8]]) -> Vec<u8> {
    let settings = Settings {
        memory_bytes_max: 64 << 20,
        item_bytes_max: ITEM_BYTES_MAX,
        eviction: Eviction::S3Fifo,
        workers: 1,
        placeholders: Placeholders::Hidden,
        prefix_delimiter: b':',
        allowed: Allowed::FLUSH_ALL.with(Allowed::DUMP),
    };
    let node = Arc::new(Node::new(settings, None, 1));
    let mut session = Session::new(node, 0, Users::default());
    let mut said = Vec::new();
    for bytes in reads {
        session.make_room();
        session.input.extend_from_slice(bytes);
        session.read(bytes.len());
        loop {
            let todo = session.execute(NOW, 1);
            said.extend_from_slice(&session.output);
            session.sent();
            match todo {
                Todo::Send => {}
                Todo::Read => break,
                Todo::Close | Todo::Shutdown => return said,
            }
        }
    }
    said
}

/// Whether the model understood everything.
enum End {
    Known,
    GaveUp,
}

struct Entry {
    value: Vec<u8>,
    flags: u32,
    cas: u64,
}

struct Model<'a> {
    rest: &'a [u8],
    entries: HashMap<Vec<u8>, Entry>,
    /// The last that was given out; the first entry has the one after this.
    cas: u64,
    out: Vec<u8>,
}

/// The model does not know this.
struct Unknown;

/// The line of a storage command.
struct Store<'a> {
    verb: &'a str,
    key: Vec<u8>,
    flags: u32,
    /// What the CAS must be.
    unique: Option<u64>,
}

impl Store<'_> {
    fn parse<'a>(words: &[&'a str]) -> Result<Store<'a>, Unknown> {
        let (verb, key) = (words[0], key(words[1])?);
        let (flags, unique) = match *words {
            [_, _, flags, "0", _, ref unique @ ..] => {
                let flags = number(flags).and_then(|flags| u32::try_from(flags).ok());
                let unique = unique.first().map(|unique| number(unique).ok_or(Unknown));
                (flags.ok_or(Unknown)?, unique.transpose()?)
            }
            [_, _, _] => (0, None),
            _ => return Err(Unknown),
        };
        Ok(Store { verb, key, flags, unique })
    }
}

/// What follows a command.
enum After {
    Next,
    Quit,
}

const FORMAT: &str = "CLIENT_ERROR bad command line format";

impl<'a> Model<'a> {
    fn run(bytes: &'a [u8]) -> (Vec<u8>, End) {
        let mut model = Model { rest: bytes, entries: HashMap::new(), cas: 1, out: Vec::new() };
        loop {
            match model.step() {
                Some(Ok(After::Next)) => {}
                Some(Ok(After::Quit)) | None => return (model.out, End::Known),
                Some(Err(Unknown)) => return (model.out, End::GaveUp),
            }
        }
    }

    /// Executes a command; `None` if there is no whole one.
    fn step(&mut self) -> Option<Result<After, Unknown>> {
        let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') else {
            // A line that is too long closes the connection.
            return (self.rest.len() > 2000).then_some(Err(Unknown));
        };
        let line = &self.rest[..end];
        if line.len() > 2000 {
            return Some(Err(Unknown));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let behind = &self.rest[end + 1..];
        if line.len() < 2 {
            self.rest = behind;
            self.say(FORMAT);
            return Some(Ok(After::Next));
        }
        if line.starts_with(b" ") {
            return Some(Err(Unknown));
        }
        let Ok(text) = std::str::from_utf8(line) else { return Some(Err(Unknown)) };
        let mut words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let quiet = words.len() > 2 && words.last() == Some(&"noreply");
        let reply = if quiet { Reply::Unwanted } else { Reply::Wanted };
        if quiet {
            words.pop();
        }
        let said = self.out.len();
        let done = match words[..] {
            ["set" | "add" | "replace" | "append" | "prepend", _, _, _, length]
            | ["cas", _, _, _, length, _]
            | ["ms", _, length]
                if !quiet || words[0] != "ms" =>
            {
                // What is wrong in the line is answered before its data has come.
                let length = number(length).and_then(|length| usize::try_from(length).ok());
                let length = length.filter(|length| *length <= VALUE_BYTES_MAX);
                let (Ok(store), Some(length)) = (Store::parse(&words), length) else {
                    return Some(Err(Unknown));
                };
                let data = behind.get(..length + 2)?;
                self.rest = &behind[length + 2..];
                self.store(store, data);
                Ok(After::Next)
            }
            _ => {
                self.rest = behind;
                self.other(&words, reply)
            }
        };
        if quiet && done.is_ok() {
            self.out.truncate(said);
        }
        Some(done)
    }

    fn store(&mut self, Store { verb, key, flags, unique }: Store<'_>, data: &[u8]) {
        let Some(value) = data.strip_suffix(b"\r\n") else {
            return self.say("CLIENT_ERROR bad data chunk");
        };
        self.cas += 1;
        let old = self.entries.get(&key);
        let outcome = match (verb, old) {
            ("cas", None) => Err("NOT_FOUND"),
            ("cas", Some(old)) if Some(old.cas) != unique || unique == Some(0) => Err("EXISTS"),
            ("add", Some(_)) | ("replace" | "append" | "prepend", None) => Err("NOT_STORED"),
            ("append", Some(old)) => Ok(([&old.value, value].concat(), old.flags)),
            ("prepend", Some(old)) => Ok(([value, &old.value].concat(), old.flags)),
            _ => Ok((value.to_vec(), flags)),
        };
        match outcome {
            Ok((value, flags)) => {
                self.entries.insert(key, Entry { value, flags, cas: self.cas });
                self.say(if verb == "ms" { "HD" } else { "STORED" });
            }
            Err(line) => self.say(line),
        }
    }

    fn other(&mut self, words: &[&str], reply: Reply) -> Result<After, Unknown> {
        match *words {
            ["get" | "gets", ref keys @ ..] if !keys.is_empty() && reply == Reply::Wanted => {
                let keys = keys.iter().map(|key| self::key(key)).collect::<Result<Vec<_>, _>>()?;
                for key in keys {
                    self.show(&key, words[0]);
                }
                self.say("END");
            }
            ["mg", key] if reply == Reply::Wanted => {
                let known = self.entries.contains_key(&self::key(key)?);
                self.say(if known { "HD" } else { "EN" });
            }
            ["mg", key, "v"] if reply == Reply::Wanted => {
                match self.entries.get(&self::key(key)?) {
                    None => self.say("EN"),
                    Some(entry) => {
                        let head = format!("VA {}\r\n", entry.value.len());
                        self.out.extend_from_slice(head.as_bytes());
                        self.out.extend_from_slice(&entry.value);
                        self.say("");
                    }
                }
            }
            ["delete", key] => {
                let gone = self.entries.remove(&self::key(key)?).is_some();
                self.say(if gone { "DELETED" } else { "NOT_FOUND" });
            }
            ["md", key] if reply == Reply::Wanted => {
                let gone = self.entries.remove(&self::key(key)?).is_some();
                self.say(if gone { "HD" } else { "NF" });
            }
            ["touch", key, "0"] => {
                let known = self.entries.contains_key(&self::key(key)?);
                self.say(if known { "TOUCHED" } else { "NOT_FOUND" });
            }
            ["touch", key, "-1"] => {
                let known = self.entries.remove(&self::key(key)?).is_some();
                self.say(if known { "TOUCHED" } else { "NOT_FOUND" });
            }
            ["incr" | "decr", key, delta] => self.count(words[0], &self::key(key)?, delta)?,
            ["flush_all"] => {
                self.entries.clear();
                self.say("OK");
            }
            ["mn"] => self.say("MN"),
            ["version"] => self.say("VERSION 1.6.45"),
            ["quit"] => return Ok(After::Quit),
            _ => return Err(Unknown),
        }
        Ok(After::Next)
    }

    fn show(&mut self, key: &[u8], verb: &str) {
        let Some(entry) = self.entries.get(key) else { return };
        let name = String::from_utf8_lossy(key);
        let cas = if verb == "gets" { format!(" {}", entry.cas) } else { String::new() };
        let head = format!("VALUE {name} {} {}{cas}\r\n", entry.flags, entry.value.len());
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(&entry.value);
        self.out.extend_from_slice(b"\r\n");
    }

    fn count(&mut self, verb: &str, key: &[u8], delta: &str) -> Result<(), Unknown> {
        let delta = number(delta).ok_or(Unknown)?;
        let Some(entry) = self.entries.get_mut(key) else {
            self.say("NOT_FOUND");
            return Ok(());
        };
        // Spaces may stand behind a number that has become shorter.
        let text = std::str::from_utf8(&entry.value).map_err(|_| Unknown)?;
        let Some(before) = number(text.trim_end_matches(' ')) else { return Err(Unknown) };
        let after = match verb {
            "incr" => before.wrapping_add(delta),
            _ => before.saturating_sub(delta),
        };
        let length = entry.value.len();
        self.cas += 1;
        entry.value = format!("{after:<length$}").into_bytes();
        entry.cas = self.cas;
        self.say(&after.to_string());
        Ok(())
    }

    fn say(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

fn key(word: &str) -> Result<Vec<u8>, Unknown> {
    if word.len() <= 250 { Ok(word.as_bytes().to_vec()) } else { Err(Unknown) }
}

/// Up to 19 digits, so that it fits.
fn number(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.len() < 20 && word.bytes().all(|it| it.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

/// What requests are made of.
const FRAGMENTS: &[&str] = &[
    "get a\r\n",
    "gets a b\r\n",
    "set a 5 0 1\r\n1\r\n",
    "set b 0 0 2\r\n10\r\n",
    "set ",
    "add a 0 0 1\r\n9\r\n",
    "replace b 7 0 3\r\n999\r\n",
    "append a 0 0 1\r\n2\r\n",
    "prepend a 0 0 0\r\n\r\n",
    "cas a 1 0 1 3\r\nx\r\n",
    "cas b 1 0 1 5\r\n8\r\n",
    "delete a\r\n",
    "touch a -1\r\n",
    "touch b 0 noreply\r\n",
    "incr a 1\r\n",
    "decr b 7\r\n",
    "incr b 18446744073709551615\r\n",
    "flush_all\r\n",
    "ms a 2\r\nab\r\n",
    "mg a v\r\n",
    "mg b\r\n",
    "md b\r\n",
    "mn\r\n",
    "version\n",
    "quit\r\n",
    "lease-get a b\r\n",
    "lease-set a 2 0 0 1\r\n1\r\n",
    "a",
    "b",
    " ",
    "0 0 ",
    "2",
    "\r\n",
    "\n",
    " noreply\r\n",
    "get",
    "ms ",
    "v",
    "mg a k c t f Oxy q\r\n",
    "ma b N0 J5 v\r\n",
];

/// Bytes of a request, from bytes that choose fragments, or stand for themselves: so short inputs say much.
pub(crate) fn request(choices: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &choice in choices {
        match FRAGMENTS.get(usize::from(choice)) {
            Some(fragment) => out.extend_from_slice(fragment.as_bytes()),
            None => out.push(choice),
        }
    }
    out
}
