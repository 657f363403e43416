//! [`Trace`]: requests from a file.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;

const KEY_BYTES: usize = 24;
/// Of a value whose size the trace does not say.
const VALUE_BYTES: u32 = 350;
/// Larger values count as this.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;

/// Requests in order, by number of the key.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) requests: Vec<u32>,
    /// Of each key.
    pub(super) value_bytes: Vec<u32>,
    /// Of all keys and values, each once.
    pub(super) total_bytes: u64,
}

impl Trace {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Trace> {
        let open = || File::open(path).with_context(|| format!("open {}", path.display()));
        let mut magic = [0; 2];
        let packed = open()?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        let file = open()?;
        let lines: Box<dyn BufRead> = if packed {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::new(file))
        };
        let mut trace = Trace { requests: Vec::new(), value_bytes: Vec::new(), total_bytes: 0 };
        let mut numbers = HashMap::new();
        for (at, line) in lines.lines().enumerate() {
            let line = line.with_context(|| format!("read {}", path.display()))?;
            let mut words = line.split_whitespace();
            let Some(id) = words.next() else { continue };
            let bytes = match words.next() {
                Some(word) => {
                    word.parse().with_context(|| format!("the size in line {}", at + 1))?
                }
                None => VALUE_BYTES,
            };
            let next = u32::try_from(numbers.len()).context("too many keys")?;
            let number = *numbers.entry(id.to_owned()).or_insert(next);
            if number == next {
                let bytes = bytes.min(VALUE_BYTES_MAX as u32);
                trace.value_bytes.push(bytes);
                trace.total_bytes += u64::from(bytes) + KEY_BYTES as u64;
            }
            trace.requests.push(number);
        }
        ensure!(!trace.requests.is_empty(), "{} has no requests", path.display());
        Ok(trace)
    }

    pub(super) fn keys(&self) -> usize {
        self.value_bytes.len()
    }

    /// Bytes of a key with its value.
    pub(super) fn bytes(&self, key: u32) -> u64 {
        u64::from(self.value_bytes[key as usize]) + KEY_BYTES as u64
    }
}

/// The key with this number.
pub(super) fn key(number: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"trace:000000000000000000";
    let mut rest = number;
    for digit in key.iter_mut().rev().take(10) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ids_and_sizes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace");
        std::fs::write(&path, "7 100\n8 2000000\n7 100\n\n9\n").expect("a file");
        let trace = Trace::read(&path).expect("a trace");
        assert_eq!(trace.requests, [0, 1, 0, 2]);
        assert_eq!(trace.value_bytes, [100, 1 << 20, 350]);
        assert_eq!(trace.total_bytes, 100 + (1 << 20) + 350 + 3 * 24);
        std::fs::write(&path, "1 x\n").expect("a file");
        let err = Trace::read(&path).expect_err("no size").to_string();
        assert_eq!(err, "the size in line 1");
    }

    #[test]
    fn keys_differ() {
        assert_eq!(&key(1234), b"trace:000000000000001234");
        assert_ne!(key(1), key(10));
    }
}
