//! [`Key`]: a cache key that memcached can hold.

use std::{borrow::Borrow, fmt};

use bytes::{Bytes, BytesMut};

/// Longest key, in bytes; memcached's limit.
pub const KEY_BYTES_MAX: usize = 250;

/// A key of 1 to [`KEY_BYTES_MAX`] bytes without space, CR, LF or NUL: exactly what memcached 1.6
/// accepts, so that a `Key` can be sent as it stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// A [`Key`] in somebody else's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef<'a>(&'a [u8]);

/// Why bytes are no key. No client can have stored such a key, so there is nothing to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum KeyError {
    /// Nothing between the separators.
    #[error("the key is empty")]
    Empty,
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
    /// A byte that ends a key in memcached's protocol.
    #[error("the key contains a space, a line end or a NUL")]
    BadByte,
}

impl Key {
    /// Checks `bytes` and takes them as a key.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Key, KeyError> {
        let bytes = bytes.into();
        KeyRef::new(&bytes)?;
        Ok(Key(bytes))
    }

    /// The same key, for those who only look.
    pub fn as_key_ref(&self) -> KeyRef<'_> {
        KeyRef(&self.0)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> KeyRef<'a> {
    /// Checks `bytes` and takes them as a key.
    pub fn new(bytes: &'a [u8]) -> Result<KeyRef<'a>, KeyError> {
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        // All of them are looked at, many at a time; hardly any key has one that is as low.
        let low = bytes.iter().fold(0, |low, &byte| low | u8::from(byte <= b' '));
        if low > 0 && bytes.iter().any(|byte| matches!(byte, b' ' | b'\r' | b'\n' | 0)) {
            return Err(KeyError::BadByte);
        }
        Ok(KeyRef(bytes))
    }

    /// The key's bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A copy to keep.
    pub fn to_key(self) -> Key {
        Key(Bytes::copy_from_slice(self.0))
    }

    /// A copy at the end of `memory`, which many keys share: it is kept until the last of them is gone.
    pub fn to_key_in(self, memory: &mut BytesMut) -> Key {
        memory.extend_from_slice(self.0);
        Key(memory.split().freeze())
    }
}

/// The key of the marker of `key` on a stock memcached: `r_` and the key. Writers set it before they write; while it is there,
/// readers who miss read the primary and store nothing. It lives on the node of `key` itself. `None`: it would be too long.
pub fn marker_of(key: &Key) -> Option<Key> {
    Key::new([b"r_", key.as_bytes()].concat()).ok()
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Sets of keys are asked for bytes: a key's hash and order are those of its bytes.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for KeyRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_key_ref().fmt(f)
    }
}

impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new(vec![b'k'; KEY_BYTES_MAX]).is_ok());
        assert_eq!(Key::new(vec![b'k'; KEY_BYTES_MAX + 1]), Err(KeyError::TooLong));
        for bad in ["a b", "a\r", "\na", "a\0"] {
            assert_eq!(Key::new(bad), Err(KeyError::BadByte), "{bad:?}");
        }
        assert_eq!(Key::new("käse\t\u{1}").unwrap().to_string(), "k\\xc3\\xa4se\\t\\x01");
    }
}
