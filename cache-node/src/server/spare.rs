//! Buffers of a worker that none of its connections needs now.
//!
//! A connection has buffers only while something is in them. So an idle one takes no memory, and the one that is served next finds them in
//! the processor's cache. A worker serves one connection at a time, so one of each is enough: who stops in the middle keeps
//! his own, and the next one makes others.

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
    if input.capacity() <= KEPT_BYTES_MAX {
        INPUT.set(input);
    }
}

/// A buffer for answers.
pub(super) fn take_output() -> Vec<u8> {
    OUTPUT.take()
}

/// Keeps an empty buffer for the next who answers.
pub(super) fn keep_output(output: Vec<u8>) {
    if output.capacity() <= KEPT_BYTES_MAX {
        OUTPUT.set(output);
    }
}
