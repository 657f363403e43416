//! The log of what nodes have missed, as bytes: records behind each other, each with its length and a checksum.
//!
//! ```text
//! record = length:u32 checksum:u32 body          ; little-endian; CRC-32 of the body, whose length is given
//! body   = kind:u8 number:u64 address-length:u16 address key
//! kind   = 1 (delete this key) / 2 (delete everything) / 3 (the node was told all up to this number)
//! ```
//!
//! A record that is cut off, or damaged, ends the log: nobody was told that it was kept, or the disk has lost it, which is said.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

/// Longest body, in bytes.
pub const BODY_BYTES_MAX: usize = 4096;
const HEAD_BYTES: usize = 8;

/// One line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub number: u64,
    pub address: &'a str,
    pub what: What<'a>,
}

/// What a record says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// It has missed a change of this key.
    Key(&'a [u8]),
    /// It has missed more than can be listed.
    Everything,
    /// It was told everything up to this number.
    Told,
}

impl Record<'_> {
    /// Appends the record; `None` if it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        let (kind, key): (u8, &[u8]) = match self.what {
            What::Key(key) => (1, key),
            What::Everything => (2, b""),
            What::Told => (3, b""),
        };
        let mut body = vec![kind];
        body.extend_from_slice(&self.number.to_le_bytes());
        body.extend_from_slice(&u16::try_from(self.address.len()).ok()?.to_le_bytes());
        body.extend_from_slice(self.address.as_bytes());
        body.extend_from_slice(key);
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_BYTES_MAX)?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        out.extend_from_slice(&body);
        Some(())
    }
}

/// The records at the front of a log; what is left afterwards is none.
#[derive(Clone, Debug)]
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let body = rest.get(..length).filter(|_| length <= BODY_BYTES_MAX)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (kind, fields) = body.split_first()?;
        let (number, fields) = fields.split_first_chunk::<8>()?;
        let (address_bytes, fields) = fields.split_first_chunk::<2>()?;
        let address_bytes = usize::from(u16::from_le_bytes(*address_bytes));
        let (address, key) = fields.split_at_checked(address_bytes)?;
        let what = match kind {
            1 => What::Key(key),
            2 => What::Everything,
            3 => What::Told,
            _ => return None,
        };
        let address = std::str::from_utf8(address).ok()?;
        self.0 = self.0.get(HEAD_BYTES.checked_add(length)?..)?;
        Some(Record { number: u64::from_le_bytes(*number), address, what })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        for (number, what) in [(1, What::Key(b"k\xff")), (2, What::Everything), (2, What::Told)] {
            Record { number, address: "a:1", what }.encode(&mut out).expect("it fits");
        }
        out
    }

    #[test]
    fn version_1_looks_like_this() {
        let hex: Vec<String> = written().iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.concat();
        expect!["10000000cf8fa67f0101000000000000000300613a316bff0e000000a50d4b2a0202000000000000000300613a310e000000d3ec44b70302000000000000000300613a31"].assert_eq(&hex);
    }

    #[test]
    fn what_is_cut_off_or_damaged_ends_the_log() {
        let whole = written();
        let all: Vec<Record<'_>> = Records(&whole).collect();
        assert_eq!(all.len(), 3);
        for at in 0..whole.len() {
            let cut = whole.get(..at).unwrap_or_default();
            let read: Vec<Record<'_>> = Records(cut).collect();
            assert_eq!(read, all[..read.len()], "cut at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let read: Vec<Record<'_>> = Records(&damaged).collect();
            assert_eq!(read, all[..read.len()], "damaged at {at}");
            assert!(read.len() < 3, "damaged at {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            assert!(Records(&bytes).count() <= bytes.len());
        }
    }
}
