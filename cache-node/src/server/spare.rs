//! Buffers of a worker that none of its connections needs now.
//!
//! A connection has buffers only while something is in them. So an idle one takes no memory, and the one that is served next finds them in
//! the processor's cache. A worker serves one connection at a time, so one of each is enough: who stops in the middle keeps
//! his own, and the next one makes others. Who has none takes none away.

use std::cell::Cell;

use bytes::BytesMut;

/// A buffer that has grown beyond this is not kept.
pub(super) const KEPT_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static INPUT: Cell<BytesMut> = Cell::new(BytesMut::new());
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer to read into.
pub(super) fn take_input() -> BytesMut {
    INPUT.take()
}

/// Keeps an empty buffer for the next who reads.
pub(super) fn keep_input(input: BytesMut) {
    if (1..=KEPT_BYTES_MAX).contains(&input.capacity()) {
        INPUT.set(input);
    }
}

/// A buffer for answers.
pub(super) fn take_output() -> Vec<u8> {
    OUTPUT.take()
}

/// Keeps an empty buffer for the next who answers.
pub(super) fn keep_output(output: Vec<u8>) {
    if (1..=KEPT_BYTES_MAX).contains(&output.capacity()) {
        OUTPUT.set(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_no_buffer_takes_none_away() {
        keep_input(BytesMut::with_capacity(4096));
        keep_output(Vec::with_capacity(4096));
        keep_input(BytesMut::new());
        keep_output(Vec::new());
        assert!(take_input().capacity() >= 4096);
        assert!(take_output().capacity() >= 4096);
    }
}
