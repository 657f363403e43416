//! [`Value`]: the bytes that were stored, in one piece or in blocks.

use crate::{Engine, blocks::NONE, item::Body};

/// A value where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(Where<'a>);

#[derive(Clone, Copy, Debug)]
enum Where<'a> {
    Inline(&'a [u8]),
    Blocks(&'a Engine, Body),
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn inline(bytes: &'a [u8]) -> Value<'a> {
        Value(Where::Inline(bytes))
    }

    pub(crate) fn in_blocks(engine: &'a Engine, body: Body) -> Value<'a> {
        Value(Where::Blocks(engine, body))
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self.0 {
            Where::Inline(bytes) => bytes.len(),
            Where::Blocks(_, body) => body.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, if it lies in one piece: always so for small values.
    pub fn whole(&self) -> Option<&'a [u8]> {
        match self.0 {
            Where::Inline(bytes) => Some(bytes),
            Where::Blocks(..) => None,
        }
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (inline, mut chain) = match self.0 {
            Where::Inline(bytes) => (Some(bytes), None),
            Where::Blocks(engine, Body::Blocks { bytes, first }) => {
                (None, Some((engine, bytes as usize, first)))
            }
            Where::Blocks(_, Body::Inline(_)) => (None, None),
        };
        let rest = std::iter::from_fn(move || {
            let (engine, bytes, block) = chain.filter(|(_, _, block)| *block != NONE)?;
            let part = engine.blocks.bytes(&engine.memory, block);
            let part = &part[..part.len().min(bytes)];
            chain = Some((engine, bytes - part.len(), engine.blocks.next(&engine.memory, block)));
            Some(part)
        });
        inline.into_iter().chain(rest)
    }

    /// Appends it to `out`.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        if let Where::Inline(bytes) = self.0 {
            return out.extend_from_slice(bytes);
        }
        out.reserve(self.len());
        self.parts().for_each(|part| out.extend_from_slice(part));
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.append_to(&mut out);
        out
    }
}
