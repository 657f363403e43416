//! [`Buffers`]: what a dump is read into.
//!
//! Whoever has an event keeps the buffer around it. So one that is full waits among the spare ones until nobody has any of its
//! events, and is used again: what the allocator has given back to the system is cleared each time that it comes again, which
//! costs more than to read.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::READ_BYTES;

/// For a read, and the beginning of an event that the buffer before did not have whole.
const BUFFER_BYTES: usize = READ_BYTES + (READ_BYTES >> 1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Buffers {
    current: BytesMut,
    /// Its memory, events that were cut off it among that.
    current_bytes: usize,
    /// Those before it, oldest first.
    spare: VecDeque<BytesMut>,
    spare_max: usize,
}

impl Buffers {
    /// For events of which somebody may have `spare_max` buffers full.
    pub(crate) fn new(spare_max: usize) -> Buffers {
        let current = BytesMut::with_capacity(BUFFER_BYTES);
        let current_bytes = current.capacity();
        Buffers { current, current_bytes, spare: VecDeque::new(), spare_max }
    }

    /// The buffer with what was not cut off it yet, and room for a read.
    pub(crate) fn with_room(&mut self) -> &mut BytesMut {
        if !self.current.try_reclaim(READ_BYTES) {
            let mut next = self.free().unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES));
            next.reserve(self.current.len().saturating_add(READ_BYTES));
            next.extend_from_slice(&self.current);
            let bytes = std::mem::replace(&mut self.current_bytes, next.capacity());
            let full = std::mem::replace(&mut self.current, next);
            // One with a very large packet is not kept.
            if bytes <= BUFFER_BYTES && self.spare.len() < self.spare_max {
                self.spare.push_back(full);
            }
        }
        &mut self.current
    }

    fn free(&mut self) -> Option<BytesMut> {
        let oldest = self.spare.front_mut()?;
        oldest.clear();
        if oldest.try_reclaim(BUFFER_BYTES) { self.spare.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_a_part_of_it() {
        let mut buffers = Buffers::new(4);
        let mut event = |fill: u8, bytes: usize| {
            let mut place = buffers.with_room().as_ptr();
            for _ in 0..bytes / READ_BYTES {
                let buffer = buffers.with_room();
                place = buffer.as_ptr();
                buffer.extend_from_slice(&vec![fill; READ_BYTES]);
            }
            (place, buffers.current.split().freeze(), buffers.spare.len())
        };
        let ((first, one, _), (second, two, _)) = (event(1, READ_BYTES), event(2, READ_BYTES));
        let (third, three, _) = event(3, READ_BYTES);
        assert!(first != second && second != third && third != first);
        drop(one);
        let (fourth, four, spare) = event(4, READ_BYTES);
        assert_eq!((fourth, spare), (first, 2));
        // The second is not free yet.
        let (fifth, five, spare) = event(5, READ_BYTES);
        assert!([first, second, third].iter().all(|&other| other != fifth));
        assert_eq!(spare, 3);
        let (_, large, spare) = event(6, 10 * READ_BYTES);
        assert_eq!((large.len(), spare), (10 * READ_BYTES, 4));
        assert_eq!(event(7, READ_BYTES).2, 4, "the large one is not kept");
        for (event, fill) in [(two, 2), (three, 3), (four, 4), (five, 5), (large, 6)] {
            assert!(event.iter().all(|&byte| byte == fill));
        }
    }
}
