//! A source that is stock memcached: its keys by `lru_crawler metadump`, their values by `mg`.
//!
//! Memcached knows no versions. Its values are kept as plain sets are: with the region's position of `fill_age_max` ago, so that a key
//! that was deleted in that time is refused. What memcached kept for longer than that after a change, because its delete came late
//! or never, is taken for good.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use memchr::memchr;
use protocol::control::wire::{COPY_BYTES_MAX, Copy, GiverState};
use schemas::{key::Key, version::Version};
use tokio::time::sleep;

use super::{
    SourceKind, Warm,
    plan::{Answer, Reads},
    source::{self, Giver, Line, Walk},
};
use crate::copies::add;

/// Between two looks whether plain sets are taken yet.
const PATIENCE: Duration = Duration::from_millis(100);
/// A line of a dump is shorter than this.
const LINE_BYTES_MAX: usize = 4096;

/// Walks through all keys of a dump, and asks for their values.
pub(super) async fn walk(warm: Arc<Warm>, number: usize) {
    // Before this node knows where the region was so long ago, it would take nothing.
    while !warm.takes_plain_sets() {
        sleep(PATIENCE).await;
    }
    source::walk::<Walker>(warm, number).await;
}

/// A dump cannot be gone on with on another connection: it begins anew, and what was kept is not asked for again.
#[derive(Default)]
struct Walker(Option<Dumping>);

/// A dump that is being read, and the connection for values.
struct Dumping {
    dump: Connection,
    over: bool,
    values: Connection,
}

impl Walk for Walker {
    type Error = io::Error;

    async fn go_on(&mut self, warm: &Warm, number: usize, looks: u32) -> io::Result<Answer> {
        let Dumping { dump, over, values } = match &mut self.0 {
            Some(dumping) => dumping,
            none => none.insert(Dumping::begin(warm, number).await?),
        };
        let (mut keys, mut looked) = (Vec::new(), 0_u32);
        let now = warm.clock.read().0;
        while looked < looks && !*over {
            let line = dump.line().await?;
            if line.starts_with(b"END") {
                *over = true;
            } else if line.starts_with(b"key=") {
                looked = looked.saturating_add(1);
                let key = dumped_key(&line).filter(|key| warm.is_ours(key));
                keys.extend(key.filter(|key| !warm.node.holds(key.as_bytes(), now)));
            } else {
                return Err(io::Error::other(String::from_utf8_lossy(&line).into_owned()));
            }
        }
        let (mut kept, mut refused) = (0_u64, 0_u64);
        for some in keys.chunks(super::FETCH_MAX) {
            let copies = values.get(some).await?;
            let outcome = warm.keep(&copies, SourceKind::Memcached);
            kept = kept.saturating_add(outcome.kept);
            refused = refused.saturating_add(outcome.refused);
        }
        add(&warm.node.copies().kept_by_walk, kept);
        let (entries, reads) = values.statistics().await?;
        let over = *over;
        if over && looks > 0 && refused > 0 {
            // If the plan wants another walk, it begins with another dump.
            self.0 = None;
        }
        Ok(Answer { state: GiverState::Gives, looked, refused, entries, reads, over })
    }

    fn broke(&mut self) {
        self.0 = None;
    }
}

impl Dumping {
    async fn begin(warm: &Warm, number: usize) -> io::Result<Dumping> {
        let mut dump = Connection::open(warm, number).await?;
        let values = Connection::open(warm, number).await?;
        dump.0.say(b"lru_crawler metadump all\r\n").await?;
        Ok(Dumping { dump, over: false, values })
    }
}

/// A connection.
pub(super) struct Connection(Line);

impl Giver for Connection {
    type Error = io::Error;
    const KIND: SourceKind = SourceKind::Memcached;

    async fn open(warm: &Warm, number: usize) -> io::Result<Connection> {
        Line::open(warm, number).await.map(Connection)
    }

    async fn copies(&mut self, keys: Vec<Key>) -> io::Result<Vec<Copy>> {
        self.get(&keys).await
    }

    /// Memcached closes no connection because it is silent, unless it was told to; then it is opened again.
    async fn stay(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection {
    /// The values that are there, by `mg`: with flags and what is left of their lives.
    async fn get(&mut self, keys: &[Key]) -> io::Result<Vec<Copy>> {
        let mut asked = Vec::new();
        for key in keys {
            asked.extend_from_slice(&[b"mg ", key.as_bytes(), b" f t v\r\n"].concat());
        }
        asked.extend_from_slice(b"mn\r\n");
        self.0.say(&asked).await?;
        let mut copies = Vec::new();
        for key in keys {
            let line = self.line().await?;
            if line.starts_with(b"EN") {
                continue;
            }
            let (length, flags, ttl_s) = value_line(&line).ok_or_else(malformed)?;
            let value = self.take(length.saturating_add(2)).await?;
            let value = value.get(..length).unwrap_or_default().to_vec().into();
            copies.push(Copy { key: key.clone(), version: Version::ZERO, flags, ttl_s, value });
        }
        let line = self.line().await?;
        if line == b"MN" { Ok(copies) } else { Err(malformed()) }
    }

    /// Its entries, and how it is read.
    async fn statistics(&mut self) -> io::Result<(u64, Reads)> {
        self.0.say(b"stats\r\n").await?;
        let (mut entries, mut reads) = (0, Reads::default());
        loop {
            let line = self.line().await?;
            if line == b"END" {
                return Ok((entries, reads));
            }
            let text = String::from_utf8_lossy(&line);
            let Some((name, value)) = text.strip_prefix("STAT ").and_then(|it| it.split_once(' '))
            else {
                return Err(malformed());
            };
            match name {
                "curr_items" => entries = value.parse().unwrap_or_default(),
                "cmd_get" => reads.gets = value.parse().unwrap_or_default(),
                "get_hits" => reads.hits = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }

    /// Without its end.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = memchr(b'\n', &self.0.input) {
                let line = self.0.input.split_to(end);
                self.0.input.advance(1);
                return Ok(line.strip_suffix(b"\r").unwrap_or(&line).to_vec());
            }
            if self.0.input.len() > LINE_BYTES_MAX {
                return Err(malformed());
            }
            self.0.fill().await?;
        }
    }

    async fn take(&mut self, bytes: usize) -> io::Result<BytesMut> {
        while self.0.input.len() < bytes {
            self.0.fill().await?;
        }
        Ok(self.0.input.split_to(bytes))
    }
}

/// `key=a%20b exp=... `: what cannot be a key of a source is left out.
fn dumped_key(line: &[u8]) -> Option<Key> {
    let word = line.strip_prefix(b"key=")?.split(|byte| *byte == b' ').next()?;
    let (mut key, mut bytes) = (Vec::new(), word.iter());
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'%' {
            let digits = [*bytes.next()?, *bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            *byte
        };
        key.push(byte);
    }
    Key::new(key).ok()
}

/// `VA 5 f0 t-1`: length, flags, seconds that are left.
fn value_line(line: &[u8]) -> Option<(usize, u32, Option<u64>)> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.strip_prefix("VA ")?.split(' ');
    let length = words.next()?.parse().ok().filter(|length| *length <= COPY_BYTES_MAX)?;
    let (mut flags, mut ttl_s) = (0, None);
    for word in words {
        match word.split_at_checked(1)? {
            ("f", value) => flags = value.parse().ok()?,
            ("t", "-1") => ttl_s = None,
            ("t", value) => ttl_s = Some(value.parse().ok()?),
            _ => {}
        }
    }
    Some((length, flags, ttl_s))
}

fn malformed() -> io::Error {
    io::Error::other("memcached answers what nobody asked")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn foreign_bytes_do_no_harm(line in prop::collection::vec(any::<u8>(), 0..60)) {
            for head in [&b""[..], b"key=", b"VA "] {
                let line = [head, &line].concat();
                prop_assert!(dumped_key(&line).is_none_or(|key| key.as_bytes().len() <= line.len()));
                prop_assert!(value_line(&line).is_none_or(|(length, ..)| length <= COPY_BYTES_MAX));
            }
        }
    }

    #[test]
    fn lines_of_dumps() {
        let key = |line: &str| dumped_key(line.as_bytes()).map(|key| key.to_string());
        assert_eq!(key("key=user%3A1 exp=-1 la=1 cas=2"), Some("user:1".to_owned()));
        assert_eq!(key("key=a"), Some("a".to_owned()));
        for line in ["key=a%20b exp=-1", "key=a%", "key=a%2", "key=a%zz", "key= exp=1", "END"] {
            assert_eq!(key(line), None, "{line}");
        }
    }

    #[test]
    fn lines_of_values() {
        assert_eq!(value_line(b"VA 5 f7 t-1"), Some((5, 7, None)));
        assert_eq!(value_line(b"VA 0 t60 f0"), Some((0, 0, Some(60))));
        for line in
            ["VA", "VA x f0 t1", "VA 8388609 f0 t1", "HD f1", "VA 1 f-1", "VA 1 tx", "VA 1  f1"]
        {
            assert_eq!(value_line(line.as_bytes()), None, "{line}");
        }
    }
}
