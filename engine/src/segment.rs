//! [`Segments`]: what every frame of the memory is used for, and in which order segments were begun.
//!
//! A frame is a piece of memory of fixed size. It belongs to the table, or holds a segment of a pool, or blocks of large values; or
//! it is free. Those at the end are handed out first, so that the table can grow at the beginning.

use std::collections::{BTreeSet, VecDeque};

use crate::{Policy, item::Bases};

/// Which queue a segment is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Items on probation.
    Small,
    /// Items that were used again.
    Main,
}

impl Pool {
    /// The pool in which an item of this one is: there is no small pool but with S3-FIFO.
    pub(crate) fn under(self, policy: Policy) -> Pool {
        match policy {
            Policy::S3Fifo => self,
            Policy::Lru | Policy::Never => Pool::Main,
        }
    }
}

pub(crate) const POOLS: [Pool; 2] = [Pool::Small, Pool::Main];

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Free,
    Table,
    Segment(Pool),
    Blocks,
}

/// A frame; all but `used` counts for segments only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) used: Use,
    /// Number of the segment; later ones have higher numbers.
    pub(crate) number: u64,
    /// Bytes that hold items, dead ones included.
    pub(crate) written: u32,
    /// Bytes of items that are not dead.
    pub(crate) live: u32,
    /// Bytes of their values out of line.
    pub(crate) large: u64,
    /// When the first and the last of the items that end do so; those that are never over do not count.
    pub(crate) expiry_min: u32,
    pub(crate) expiry_max: u32,
    pub(crate) bases: Bases,
}

const FREE: Frame = Frame {
    used: Use::Free,
    number: 0,
    written: 0,
    live: 0,
    large: 0,
    expiry_min: u32::MAX,
    expiry_max: 0,
    bases: Bases { cas: 0, mark: 0, unix: 0, uptime: 0 },
};

impl Frame {
    /// An item that ends then (0: never) is in the segment.
    pub(crate) fn note_expiry(&mut self, expiry: u32) {
        if expiry != 0 {
            self.expiry_min = self.expiry_min.min(expiry);
            self.expiry_max = self.expiry_max.max(expiry);
        }
    }

    pub(crate) fn dead(&self) -> u32 {
        self.written - self.live
    }

    /// Whether enough of its items are over for a look through it to be worth while: an eighth of the time between the first end
    /// and the last has passed. So a segment is looked through a bounded number of times, however its ends are spread.
    pub(crate) fn is_due(&self, unix: u32) -> bool {
        let patience = self.expiry_max.saturating_sub(self.expiry_min) / 8;
        unix >= self.expiry_min.saturating_add(patience)
    }
}

/// Bytes and segments of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segments: usize,
    /// Values out of line.
    pub(crate) large: u64,
}

/// See the module.
///
/// Invariant: `free` holds exactly the free frames below `limit`; a queue holds every segment of its pool but the open ones, in the
/// order in which they were closed, and perhaps numbers of segments that are gone.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Of all frames that may be used, or might have been.
    frames: Vec<Frame>,
    most: usize,
    limit: usize,
    free: BTreeSet<u32>,
    queues: [VecDeque<(u32, u64)>; 2],
    /// Of each pool the newest, last, and the one before it: what does not fit the end of one may fit that of the other.
    open: [[Option<u32>; 2]; 2],
    extents: [Extent; 2],
    next_number: u64,
    /// Bytes of dead items.
    dead: u64,
}

impl Segments {
    /// Up to `most` frames, of which the first `limit` may be used, and the first belongs to the table. Segments are numbered from
    /// `next_number` on.
    pub(crate) fn new(most: usize, limit: usize, next_number: u64) -> Segments {
        let mut frames = vec![FREE; limit];
        frames[0].used = Use::Table;
        Segments {
            frames,
            most,
            limit,
            free: (1..limit as u32).collect(),
            queues: [VecDeque::new(), VecDeque::new()],
            open: [[None; 2]; 2],
            extents: [Extent::default(); 2],
            next_number,
            dead: 0,
        }
    }

    pub(crate) fn frame(&self, at: u32) -> &Frame {
        self.frames.get(at as usize).unwrap_or(&FREE)
    }

    pub(crate) fn frame_mut(&mut self, at: u32) -> &mut Frame {
        &mut self.frames[at as usize]
    }

    /// Frames that may be used.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn dead(&self) -> u64 {
        self.dead
    }

    /// The segments of a pool to which items are added, the older first.
    pub(crate) fn open(&self, pool: Pool) -> impl Iterator<Item = u32> + use<> {
        self.open[pool as usize].into_iter().flatten()
    }

    pub(crate) fn is_open(&self, at: u32) -> bool {
        self.open.as_flattened().contains(&Some(at))
    }

    pub(crate) fn extent(&self, pool: Pool) -> Extent {
        self.extents[pool as usize]
    }

    /// The number that the next segment gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Takes the last free frame, for blocks.
    pub(crate) fn take_last(&mut self, used: Use) -> Option<u32> {
        let at = self.free.pop_last()?;
        self.frame_mut(at).used = used;
        Some(at)
    }

    /// The frame that would be taken next.
    pub(crate) fn last_free(&self) -> Option<u32> {
        self.free.last().copied()
    }

    /// A frame that holds something and must not.
    pub(crate) fn last_used_behind_limit(&self) -> Option<u32> {
        let behind = (self.limit..self.frames.len()).rev();
        behind.map(|at| at as u32).find(|at| self.frame(*at).used != Use::Free)
    }

    /// Takes this frame for the table, if it is free.
    pub(crate) fn take_for_table(&mut self, at: u32) -> bool {
        let taken = self.free.remove(&at);
        if taken {
            self.frame_mut(at).used = Use::Table;
        }
        taken
    }

    /// Begins a segment in the last free frame; if two were open, the older is closed.
    pub(crate) fn begin(&mut self, pool: Pool, bases: Bases) -> Option<u32> {
        let at = self.free.pop_last()?;
        if let [Some(older), Some(_)] = self.open[pool as usize] {
            self.close(older);
        }
        let number = self.next_number;
        self.next_number += 1;
        *self.frame_mut(at) = Frame { used: Use::Segment(pool), number, bases, ..FREE };
        let [older, newest] = self.open[pool as usize];
        self.open[pool as usize] = [newest.or(older), Some(at)];
        self.extents[pool as usize].segments += 1;
        Some(at)
    }

    /// Closes an open segment: it goes to the end of the queue.
    pub(crate) fn close(&mut self, at: u32) {
        let Frame { used: Use::Segment(pool), number, .. } = *self.frame(at) else { return };
        self.replace_open(at, None);
        let (queue, frames) = (&mut self.queues[pool as usize], &self.frames);
        queue.push_back((at, number));
        if queue.len() > 2 * frames.len() {
            queue.retain(|(at, number)| is_segment(&frames[*at as usize], pool, *number));
        }
    }

    /// Closes whatever is open.
    pub(crate) fn close_all(&mut self) {
        for pool in POOLS {
            self.open(pool).for_each(|at| self.close(at));
        }
    }

    /// Where `at` was open, `by` is now.
    fn replace_open(&mut self, at: u32, by: Option<u32>) {
        let open = self.open.as_flattened_mut().iter_mut();
        open.filter(|open| **open == Some(at)).for_each(|open| *open = by);
    }

    /// The segment that was closed first.
    pub(crate) fn oldest(&mut self, pool: Pool) -> Option<u32> {
        let queue = &mut self.queues[pool as usize];
        while let Some(&(at, number)) = queue.front() {
            if is_segment(&self.frames[at as usize], pool, number) {
                return Some(at);
            }
            queue.pop_front();
        }
        None
    }

    /// The closed segment with the most dead bytes, and how many they are.
    pub(crate) fn deadest(&self) -> Option<(u32, u32)> {
        let closed = (0..self.limit as u32)
            .filter(|at| matches!(self.frame(*at).used, Use::Segment(_)) && !self.is_open(*at));
        closed.map(|at| (at, self.frame(at).dead())).max_by_key(|(_, dead)| *dead)
    }

    /// An item of so many bytes was written, with a value of `large` bytes out of line.
    pub(crate) fn written(&mut self, at: u32, bytes: usize, large: u64, expiry: u32) {
        let frame = self.frame_mut(at);
        frame.written += bytes as u32;
        frame.live += bytes as u32;
        frame.large += large;
        frame.note_expiry(expiry);
        if let Use::Segment(pool) = frame.used {
            self.extents[pool as usize].large += large;
        }
    }

    /// Such an item is dead.
    pub(crate) fn died(&mut self, at: u32, bytes: usize, large: u64) {
        let frame = self.frame_mut(at);
        frame.live -= bytes as u32;
        frame.large -= large;
        if let Use::Segment(pool) = frame.used {
            self.extents[pool as usize].large -= large;
        }
        self.dead += bytes as u64;
    }

    /// The frame holds nothing that is needed any more.
    pub(crate) fn release(&mut self, at: u32) {
        let frame = *self.frame(at);
        if let Use::Segment(pool) = frame.used {
            self.extents[pool as usize].segments -= 1;
            self.extents[pool as usize].large -= frame.large;
            self.dead -= u64::from(frame.dead());
            self.replace_open(at, None);
        }
        *self.frame_mut(at) = FREE;
        if (at as usize) < self.limit {
            self.free.insert(at);
        }
    }

    /// What was in frame `from` is in frame `to` now, which was free; `from` is free.
    pub(crate) fn moved(&mut self, from: u32, to: u32) {
        let frame = *self.frame(from);
        self.free.remove(&to);
        *self.frame_mut(to) = frame;
        *self.frame_mut(from) = FREE;
        if (from as usize) < self.limit {
            self.free.insert(from);
        }
        if let Use::Segment(pool) = frame.used {
            self.replace_open(from, Some(to));
            let places = self.queues[pool as usize].iter_mut();
            places.filter(|(at, number)| *at == from && *number == frame.number).for_each(
                |(at, _)| {
                    *at = to;
                },
            );
        }
    }

    /// Another limit. Frames behind it that are used must be released by the caller.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        let limit = limit.min(self.most);
        self.frames.resize(limit.max(self.frames.len()), FREE);
        for at in self.limit.min(limit)..self.limit.max(limit) {
            if limit < self.limit {
                self.free.remove(&(at as u32));
            } else if self.frames[at].used == Use::Free {
                self.free.insert(at as u32);
            }
        }
        self.limit = limit;
    }

    /// The segment of `pool` with the highest number below `number`, or the lowest from `number` on.
    pub(crate) fn next(&self, order: Order, pool: Option<Pool>, number: u64) -> Option<u32> {
        let wanted = |at: &u32| {
            let frame = self.frame(*at);
            let Use::Segment(of) = frame.used else { return false };
            let right = pool.is_none_or(|pool| pool == of);
            right
                && match order {
                    Order::NewestBelow => frame.number < number,
                    Order::OldestFrom => frame.number >= number,
                }
        };
        let segments = (0..self.limit as u32).filter(wanted);
        match order {
            Order::NewestBelow => segments.max_by_key(|at| self.frame(*at).number),
            Order::OldestFrom => segments.min_by_key(|at| self.frame(*at).number),
        }
    }
}

/// In which order segments are walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    NewestBelow,
    OldestFrom,
}

fn is_segment(frame: &Frame, pool: Pool, number: u64) -> bool {
    frame.used == Use::Segment(pool) && frame.number == number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_and_go_in_order() {
        let mut segments = Segments::new(8, 6, 1);
        assert_eq!(segments.free(), 5);
        let first = segments.begin(Pool::Small, Bases::default()).expect("a frame");
        let second = segments.begin(Pool::Small, Bases::default()).expect("a frame");
        assert_eq!((first, second), (5, 4));
        assert_eq!(segments.oldest(Pool::Small), None, "both are open");
        assert_eq!(segments.open(Pool::Small).collect::<Vec<_>>(), [first, second]);
        segments.close(first);
        assert_eq!(segments.oldest(Pool::Small), Some(first));
        assert!(segments.is_open(second) && !segments.is_open(first));
        segments.written(first, 100, 0, 7);
        segments.died(first, 40, 0);
        assert_eq!(segments.dead(), 40);
        assert!(segments.frame(first).is_due(7) && !segments.frame(first).is_due(6));
        segments.moved(first, 2);
        assert_eq!(segments.oldest(Pool::Small), Some(2));
        segments.release(2);
        assert_eq!((segments.dead(), segments.oldest(Pool::Small)), (0, None));
        segments.close_all();
        segments.written(second, 100, 0, 0);
        segments.died(second, 30, 0);
        assert_eq!(segments.deadest(), Some((second, 30)));
        segments.set_limit(8);
        assert_eq!(segments.free(), 6);
        segments.set_limit(3);
        assert_eq!(segments.free(), 2);
        segments.release(second);
        assert_eq!((segments.free(), segments.extent(Pool::Small).segments), (2, 0));
    }

    #[test]
    fn of_three_segments_the_oldest_is_closed() {
        let mut segments = Segments::new(8, 8, 1);
        let mut begin = || segments.begin(Pool::Main, Bases::default()).expect("a frame");
        let [first, second, third] = [begin(), begin(), begin()];
        assert_eq!(segments.open(Pool::Main).collect::<Vec<_>>(), [second, third]);
        assert_eq!(segments.oldest(Pool::Main), Some(first));
        segments.close(third);
        let fourth = segments.begin(Pool::Main, Bases::default()).expect("a frame");
        assert_eq!(segments.open(Pool::Main).collect::<Vec<_>>(), [second, fourth]);
    }
}
