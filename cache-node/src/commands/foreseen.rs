//! [`Foreseen`]: look-ups that the input seems to ask for next. What they will read is fetched all at once, so that they do not wait for
//! memory one after the other.
//!
//! A guess: what looks like a line is taken for one, and nothing depends on it.

use protocol::server::Words;

use crate::node::Node;

/// As many look-ups as the processor can wait for.
const MOST: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Foreseen<'i> {
    /// Keys where they stand in the input, with their hashes.
    keys: [(&'i [u8], u64); MOST],
    count: usize,
    /// Those before it have been looked up.
    next: usize,
}

impl<'i> Foreseen<'i> {
    pub(super) const NOTHING: Foreseen<'i> = Foreseen { keys: [(&[], 0); MOST], count: 0, next: 0 };

    /// Fetches what the next look-ups will read. Returns for how many bytes of the input that holds.
    pub(super) fn fetch(&mut self, node: &Node, input: &'i [u8]) -> usize {
        let (count, end) = guess(input, MOST, |at, key| {
            if let Some(place) = self.keys.get_mut(at) {
                *place = (key, node.glance(key));
            }
        });
        // One look-up alone would only wait twice.
        if count > 1 {
            self.keys.iter().take(count).for_each(|(_, hash)| node.prefetch(*hash));
        }
        (self.count, self.next) = (count, 0);
        end.max(1)
    }

    /// The hash of a key that is looked up now, if it was foreseen.
    #[inline]
    pub(super) fn hash(&mut self, key: &[u8]) -> Option<u64> {
        let left = self.keys.get(self.next..self.count)?;
        let at = left.iter().position(|(seen, _)| std::ptr::eq(*seen, key))?;
        self.next = self.next.saturating_add(at).saturating_add(1);
        left.get(at).map(|(_, hash)| *hash)
    }
}

/// Shows keys that the input seems to look up, up to `most` of them, each with its number. Returns how many there were, and in how many
/// bytes.
pub(crate) fn guess<'i>(
    input: &'i [u8],
    most: usize,
    mut see: impl FnMut(usize, &'i [u8]),
) -> (usize, usize) {
    let (mut count, mut end) = (0, 0);
    for line_end in memchr::memchr_iter(b'\n', input) {
        let line = input.get(end..line_end).unwrap_or_default();
        let verbs = [&b"get "[..], b"gets ", b"mg ", b"lease-get "];
        let keys = verbs.iter().find_map(|verb| line.strip_prefix(*verb));
        let words = Words::new(keys.unwrap_or_default().trim_ascii_end());
        let here = if line.starts_with(b"mg ") { 1 } else { most };
        let here = here.min(most.saturating_sub(count));
        for key in words.take(here) {
            see(count, key);
            count = count.saturating_add(1);
        }
        end = line_end.saturating_add(1);
        if count >= most {
            break;
        }
    }
    (count, end)
}
