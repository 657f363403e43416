//! [`Uuid`]: the identity of a MySQL server, in its text form `8-4-4-4-12` hexadecimal digits.

use std::{fmt, str::FromStr};

use super::GtidError;

/// A MySQL server UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// Where the dashes stand in the text form.
const DASHES: [usize; 4] = [8, 13, 18, 23];
/// Length of the text form, in bytes.
const TEXT_BYTES: usize = 36;

impl FromStr for Uuid {
    type Err = GtidError;

    /// Takes digits of either case; nothing may be left out.
    fn from_str(text: &str) -> Result<Uuid, GtidError> {
        parse(text).ok_or_else(|| {
            GtidError::new(text, "expected a UUID, like 3e11fa47-71ca-11e1-9e33-c80aa9429562")
        })
    }
}

fn parse(text: &str) -> Option<Uuid> {
    if text.len() != TEXT_BYTES {
        return None;
    }
    let mut nibbles = Vec::with_capacity(32);
    for (at, byte) in text.bytes().enumerate() {
        if DASHES.contains(&at) {
            if byte != b'-' {
                return None;
            }
        } else {
            nibbles.push(u8::try_from(char::from(byte).to_digit(16)?).ok()?);
        }
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(nibbles.chunks_exact(2)) {
        if let [high, low] = pair {
            *byte = (high << 4) | low;
        }
    }
    Some(Uuid(bytes))
}

/// Lower-case, as servers print it.
impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let text = "3E11FA47-71CA-11E1-9E33-C80AA9429562";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.0[..4], [0x3e, 0x11, 0xfa, 0x47]);
        assert_eq!(uuid.to_string(), text.to_lowercase());
        for bad in [
            "",
            "3e11fa47",
            "3e11fa4771ca11e19e33c80aa9429562",
            "3e11fa47-71ca-11e1-9e33-c80aa942956é",
        ] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
        for at in 0..TEXT_BYTES {
            let mut bad = text.as_bytes().to_vec();
            bad[at] = b'g';
            assert!(String::from_utf8(bad).unwrap().parse::<Uuid>().is_err(), "byte {at}");
        }
    }
}
