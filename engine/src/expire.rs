//! What is over goes: whole segments where all is, item by item where much is.

use crate::{Now, engine::Engine, item::Head, segment::Use, slot::Slot};

/// What a sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    pub removed: usize,
    /// Where to go on; `None` at the end.
    pub next: Option<u32>,
}

impl Engine {
    /// Looks through up to `frames` frames from `from` on, at items only where enough are over.
    pub fn sweep(&mut self, from: u32, frames: usize, now: Now) -> Swept {
        let end = self.segments.limit() as u32;
        let (mut removed, mut looked) = (0, 0);
        for frame in from..end {
            let segment = self.segments.frame(frame);
            if !matches!(segment.used, Use::Segment(_)) || !segment.is_due(now.unix) {
                continue;
            }
            if looked == frames {
                return Swept { removed, next: Some(frame) };
            }
            looked += 1;
            removed += self.expire(frame, now);
        }
        Swept { removed, next: None }
    }

    fn expire(&mut self, frame: u32, now: Now) -> usize {
        let before = self.len();
        let segment = self.segments.frame_mut(frame);
        (segment.expiry_min, segment.expiry_max) = (u32::MAX, 0);
        let (mut first, mut last) = (u32::MAX, 0);
        self.each_item(frame, Head::expires, |engine, place, hash| {
            if engine.is_over(place, now) {
                let (found, _) = engine.look_at(hash, place);
                engine.note_expired(place);
                engine.bury(found, Slot::EMPTY);
            } else {
                let expiry = engine.head(place).meta.expiry;
                (first, last) = (first.min(expiry), last.max(expiry));
            }
        });
        let segment = self.segments.frame_mut(frame);
        (segment.expiry_min, segment.expiry_max) = (first, last);
        if segment.live == 0 {
            self.segments.release(frame);
        }
        before - self.len()
    }
}
