//! Words of a line, and the numbers among them.

/// The words that are left of a line. Runs of spaces separate; nothing else does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    pub fn new(line: &'a [u8]) -> Words<'a> {
        Words(line)
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&byte| byte == b' ')
    }

    /// Whether some word has more than `most` bytes.
    pub(super) fn has_longer(&self, most: usize) -> bool {
        has_longer(self.0, most)
    }

    /// The last word.
    pub(super) fn last_word(&self) -> Option<&'a [u8]> {
        let end = self.0.iter().rposition(|&byte| byte != b' ')?.saturating_add(1);
        let trimmed = self.0.get(..end)?;
        let start =
            trimmed.iter().rposition(|&byte| byte == b' ').map_or(0, |at| at.saturating_add(1));
        trimmed.get(start..)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|&byte| byte != b' ')?;
        let rest = self.0.get(start..)?;
        let (word, rest) = rest.split_at_checked(word_bytes(rest))?;
        self.0 = rest;
        Some(word)
    }
}

/// How many bytes stand before the first space. Words are short: eight bytes at a time are faster than what longer texts are searched
/// with. The lowest byte of `x` that is zero is the lowest whose upper bit is set in `(x - 1) & !x`, byte by byte.
#[inline]
fn word_bytes(text: &[u8]) -> usize {
    const BYTES: u64 = 0x0101_0101_0101_0101;
    const SPACES: u64 = BYTES.wrapping_mul(0x20);
    const UPPER_BITS: u64 = BYTES.wrapping_mul(0x80);
    let (chunks, rest) = text.as_chunks::<8>();
    let mut before = 0_usize;
    for chunk in chunks {
        let differs = u64::from_le_bytes(*chunk) ^ SPACES;
        let spaces = differs.wrapping_sub(BYTES) & !differs & UPPER_BITS;
        if spaces != 0 {
            let bytes = usize::try_from(spaces.trailing_zeros() / 8).unwrap_or_default();
            return before.saturating_add(bytes);
        }
        before = before.saturating_add(8);
    }
    before.saturating_add(rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len()))
}

fn has_longer(line: &[u8], most: usize) -> bool {
    let mut rest = line;
    // Every word that ends in the next `most` + 1 bytes is short enough.
    while let Some(window) = rest.get(..=most) {
        let Some(space) = memchr::memrchr(b' ', window) else { return true };
        rest = rest.get(space.saturating_add(1)..).unwrap_or_default();
    }
    false
}

/// A decimal number: digits alone, or behind a `-` where the type has negative numbers.
pub fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| plain)?.parse().ok()
}

/// The low 32 bits of a 64-bit number: what memcached keeps of the flags of a `set`.
pub(super) fn flags(word: &[u8]) -> Option<u32> {
    u32::try_from(number::<u64>(word)? & u64::from(u32::MAX)).ok()
}

/// The low 32 bits of a 64-bit number: what memcached keeps of the expiry time of a `set`.
pub(super) fn exptime_cut(word: &[u8]) -> Option<i32> {
    let bytes = number::<i64>(word)?.to_le_bytes();
    let (low, _) = bytes.split_first_chunk::<4>()?;
    Some(i32::from_le_bytes(*low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_are_what_stands_between_spaces(
            line in proptest::collection::vec(prop_oneof![Just(b' '), any::<u8>()], 0..80), most in 0..20_usize,
        ) {
            let split: Vec<&[u8]> = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(Words::new(&line).collect::<Vec<_>>(), split.clone());
            prop_assert_eq!(Words::new(&line).is_empty(), split.is_empty());
            prop_assert_eq!(Words::new(&line).last_word(), split.last().copied());
            let longer = split.iter().any(|word| word.len() > most);
            prop_assert_eq!(Words::new(&line).has_longer(most), longer);
        }
    }
}
