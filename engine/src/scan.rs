//! Going through all items, hottest first, a page at a time, while others write.
//!
//! First the main pool from its newest segment to its oldest, then the small pool likewise, then everything that was begun since: what
//! was copied out of a segment before its turn is met there. So an item that is there all the time is met at least once, and twice only if
//! it was copied in the meantime. Or both pools from the oldest segment to the newest: in the order in which another engine must get
//! the items ([`Engine::put_in`]) to evict them as this one would have.

use crate::{
    Meta, Now, Value,
    engine::Engine,
    item::Shape,
    segment::{Order, Pool, Use},
};

/// How far a walk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    direction: Direction,
    phase: Phase,
    /// Segments from this number on were begun after the walk.
    begun: u64,
    /// The segment that is walked through, and the bytes of it that are done.
    number: u64,
    done: u32,
    /// Where it was when it was last seen.
    frame: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pool(Pool),
    Since,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    HottestFirst,
    OldestFirst,
}

impl Engine {
    /// The beginning of a walk.
    pub fn walk(&mut self) -> Cursor {
        self.walk_in(Direction::HottestFirst)
    }

    /// The beginning of a walk for another engine.
    pub fn walk_oldest_first(&mut self) -> Cursor {
        self.walk_in(Direction::OldestFirst)
    }

    fn walk_in(&mut self, direction: Direction) -> Cursor {
        self.segments.close_all();
        let begun = self.segments.next_number();
        let number = direction.before_first(begun);
        let phase = Phase::Pool(Pool::Main);
        Cursor { direction, phase, begun, number, done: 0, frame: 0 }
    }

    /// Looks at up to `count` items, and shows those that are neither dead nor over to `see`. Returns where to go on; `None` at the
    /// end.
    pub fn page(
        &mut self,
        cursor: Cursor,
        count: usize,
        now: Now,
        mut see: impl FnMut(&[u8], &Meta, Value<'_>),
    ) -> Option<Cursor> {
        self.page_with_pools(cursor, count, now, |_, key, meta, value| see(key, meta, value))
    }

    /// Likewise, with the pool that each item is in.
    pub fn page_with_pools(
        &mut self,
        mut cursor: Cursor,
        count: usize,
        now: Now,
        mut see: impl FnMut(Pool, &[u8], &Meta, Value<'_>),
    ) -> Option<Cursor> {
        let mut looks = 0;
        loop {
            let Some(frame) = self.current(&cursor) else {
                cursor = self.following(cursor)?;
                continue;
            };
            cursor.frame = frame;
            let Use::Segment(pool) = self.segments.frame(frame).used else { return None };
            let (start, written) =
                (self.frame_start(frame), self.segments.frame(frame).written as usize);
            while (cursor.done as usize) < written {
                if looks >= count {
                    return Some(cursor);
                }
                looks += 1;
                let place = (start + cursor.done as usize) as u64;
                let item = self.item(place);
                let shape = Shape::read(item);
                cursor.done += shape.bytes() as u32;
                if !shape.is_dead() && !self.is_over(place, now) {
                    see(pool, shape.key(item), &self.head(place).meta, self.value_at(place));
                }
            }
            if self.segments.is_open(frame) {
                self.segments.close(frame);
            }
            cursor = self.following(cursor)?;
        }
    }

    /// The frame of the segment at the cursor, if that still is.
    fn current(&self, cursor: &Cursor) -> Option<u32> {
        let is_it = |frame: u32| {
            let frame = self.segments.frame(frame);
            matches!(frame.used, Use::Segment(_)) && frame.number == cursor.number
        };
        if is_it(cursor.frame) {
            return Some(cursor.frame);
        }
        (0..self.segments.limit() as u32).find(|frame| is_it(*frame))
    }

    fn following(&self, cursor: Cursor) -> Option<Cursor> {
        let go_to = |frame: u32, phase| {
            let number = self.segments.frame(frame).number;
            Some(Cursor { phase, number, done: 0, frame, ..cursor })
        };
        match cursor.phase {
            Phase::Pool(pool) => {
                let next = self.following_in(pool, &cursor);
                match (next, pool) {
                    (Some(frame), _) => go_to(frame, cursor.phase),
                    (None, Pool::Main) => {
                        let phase = Phase::Pool(Pool::Small);
                        let number = cursor.direction.before_first(cursor.begun);
                        Some(Cursor { phase, number, done: 0, ..cursor })
                    }
                    (None, Pool::Small) => {
                        let frame = self.segments.next(Order::OldestFrom, None, cursor.begun)?;
                        go_to(frame, Phase::Since)
                    }
                }
            }
            Phase::Since => {
                let next = cursor.number + 1;
                let frame = self.segments.next(Order::OldestFrom, None, next)?;
                go_to(frame, Phase::Since)
            }
        }
    }

    /// The next segment of a pool, of those that were begun before the walk.
    fn following_in(&self, pool: Pool, cursor: &Cursor) -> Option<u32> {
        match cursor.direction {
            Direction::HottestFirst => {
                self.segments.next(Order::NewestBelow, Some(pool), cursor.number)
            }
            Direction::OldestFirst => {
                let next = self.segments.next(Order::OldestFrom, Some(pool), cursor.number + 1);
                next.filter(|frame| self.segments.frame(*frame).number < cursor.begun)
            }
        }
    }
}

impl Direction {
    /// A number before that of the first segment; segments are numbered from 1 on.
    fn before_first(self, begun: u64) -> u64 {
        match self {
            Direction::HottestFirst => begun,
            Direction::OldestFirst => 0,
        }
    }
}
