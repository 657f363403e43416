//! [`Cut`]: takes numbers, texts and lists off the front of bytes, or says that they are not there. And their other direction.

use schemas::cursor::Place;

/// These bytes are no snapshot of ours, or one that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(super) &'static str);

const SHORT: Malformed = Malformed("a block ends too early");

/// What is left.
pub(super) struct Cut<'a>(pub(super) &'a [u8]);

impl<'a> Cut<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.chunk().map(u8::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("yes or no is neither")),
        }
    }

    pub(super) fn short(&mut self) -> Result<u16, Malformed> {
        self.chunk().map(u16::from_le_bytes)
    }

    pub(super) fn four(&mut self) -> Result<u32, Malformed> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u64, Malformed> {
        self.chunk().map(u64::from_le_bytes)
    }

    /// A number of bytes or things.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.four()?).map_err(|_| SHORT)
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = usize::from(self.short()?);
        self.take(bytes)
    }

    pub(super) fn words(&mut self) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.text()?);
        text.map(str::to_owned).map_err(|_| Malformed("a text is no UTF-8"))
    }

    /// Nothing is reserved for what is only announced.
    pub(super) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Cut<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        (0..self.count()?).map(|_| one(self)).collect()
    }

    /// As many as there are.
    pub(super) fn all<T>(
        mut self,
        mut one: impl FnMut(&mut Cut<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut all = Vec::new();
        while !self.0.is_empty() {
            all.push(one(&mut self)?);
        }
        Ok(all)
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        self.0.is_empty().then_some(()).ok_or(Malformed("a block is longer than what it holds"))
    }
}

/// At most 65,535 bytes of it.
pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let bytes = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend(text.iter().take(usize::from(bytes)));
}

pub(super) fn put_place(place: Place, out: &mut Vec<u8>) {
    out.extend_from_slice(&place.term.0.to_le_bytes());
    out.extend_from_slice(&place.sequence.to_le_bytes());
}

pub(super) fn put_list<T>(list: &[T], out: &mut Vec<u8>, mut one: impl FnMut(&T, &mut Vec<u8>)) {
    out.extend_from_slice(&u32::try_from(list.len()).unwrap_or(u32::MAX).to_le_bytes());
    for item in list {
        one(item, out);
    }
}
