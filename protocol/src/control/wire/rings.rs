//! The rings of a cluster as lines: `rings COUNT`, then for each a line that says how it hashes, which of its nodes is meant and how many
//! there are, and a line for each node. Bounded by [`RINGS_MAX`] and [`NODES_MAX`].

use bytes::{BufMut, Bytes, BytesMut};
use schemas::ring::{Hashing, NODES_MAX, RingNode};

use super::{
    super::RingPlace,
    RINGS_MAX,
    decode::{Malformed, Words, unknown},
    encode::line,
};

/// Rings of which lines are missing.
#[derive(Debug)]
pub(super) struct OpenRings {
    rings: Vec<RingPlace>,
    rings_left: usize,
    /// Of the last ring.
    nodes_left: usize,
}

impl OpenRings {
    /// What the first line announces; `None` if that cannot be.
    pub(super) fn begin(words: &mut Words<'_>) -> Option<OpenRings> {
        let count = words.number().and_then(|count| usize::try_from(count).ok());
        let rings_left = count.filter(|count| (1..=RINGS_MAX).contains(count))?;
        Some(OpenRings { rings: Vec::with_capacity(rings_left), rings_left, nodes_left: 0 })
    }

    /// One more line; all of it, if that was the last one.
    pub(super) fn take(mut self, line: &Bytes) -> Result<Taken, Malformed> {
        let mut words = Words::new(line);
        let taken = match self.nodes_left {
            0 => self.ring(&mut words),
            _ => self.node(&mut words),
        };
        taken.filter(|()| words.is_over()).ok_or_else(|| unknown(line))?;
        let over = self.rings_left == 0 && self.nodes_left == 0;
        Ok(if over { Taken::All(self.rings) } else { Taken::More(self) })
    }

    fn ring(&mut self, words: &mut Words<'_>) -> Option<()> {
        words.next().filter(|verb| *verb == b"ring")?;
        let hashing = Hashing::named(std::str::from_utf8(words.next()?).ok()?)?;
        let (own, nodes) = (words.small()?, usize::from(words.small()?));
        if !(1..=NODES_MAX).contains(&nodes) || usize::from(own) >= nodes {
            return None;
        }
        self.rings_left = self.rings_left.checked_sub(1)?;
        self.nodes_left = nodes;
        // Room for what was announced is made as it comes.
        self.rings.push(RingPlace { hashing, nodes: Vec::new(), own });
        Some(())
    }

    fn node(&mut self, words: &mut Words<'_>) -> Option<()> {
        let weight = words.number().and_then(|weight| u32::try_from(weight).ok())?;
        let name = std::str::from_utf8(words.next()?).ok().filter(|name| !name.is_empty())?;
        self.rings.last_mut()?.nodes.push(RingNode { name: name.to_owned(), weight });
        self.nodes_left = self.nodes_left.checked_sub(1)?;
        Some(())
    }
}

/// What a line was.
#[derive(Debug)]
pub(super) enum Taken {
    More(OpenRings),
    All(Vec<RingPlace>),
}

/// Appends the lines, without the end of the last one.
pub(super) fn encode(rings: &[RingPlace], out: &mut BytesMut) {
    line(out, "rings", &[&rings.len()]);
    for RingPlace { hashing, nodes, own } in rings {
        out.put_u8(b'\n');
        line(out, "ring", &[&hashing.name(), own, &nodes.len()]);
        for RingNode { name, weight } in nodes {
            out.put_u8(b'\n');
            line(out, &weight.to_string(), &[name]);
        }
    }
}
