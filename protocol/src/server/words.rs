//! Words of a line, and the numbers among them.

/// The words that are left of a line. Runs of spaces separate; nothing else does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    pub fn new(line: &'a [u8]) -> Words<'a> {
        Words(line)
    }

    pub fn is_empty(&self) -> bool {
        self.clone().next().is_none()
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

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|&byte| byte != b' ')?;
        let rest = self.0.get(start..)?;
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some(word)
    }
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
