//! [`Spare`]: small buffers of one worker that nobody uses now. A client who waits has none of his own, and one who asks does not pay for
//! new ones.

use std::cell::RefCell;

/// Buffers that are kept.
const COUNT_MAX: usize = 1024;
/// A buffer with more room is not kept.
const BYTES_MAX: usize = 4 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Spare(RefCell<Vec<Vec<u8>>>);

impl Spare {
    /// A copy of `bytes`.
    pub(crate) fn copy(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = self.0.borrow_mut().pop().unwrap_or_default();
        out.extend_from_slice(bytes);
        out
    }

    /// Gives room to a buffer that has none, if there is some.
    pub(crate) fn lend(&self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0
            && let Some(spare) = self.0.borrow_mut().pop()
        {
            *buffer = spare;
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let mut all = self.0.borrow_mut();
        if (1..=BYTES_MAX).contains(&buffer.capacity()) && all.len() < COUNT_MAX {
            buffer.clear();
            all.push(buffer);
        }
    }
}
