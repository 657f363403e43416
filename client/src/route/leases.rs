//! [`Leases`]: whose token is this? A token is worth something only on the node that gave it. While a node stands in for another,
//! its tokens would reach the other: refused there, or, worse, taken. So the client gets a token of ours in place of that of a
//! node that stood in, and what comes back with it goes to that node.
//!
//! ```text
//! token of ours: 0x7aceb00c (mcrouter's mark) in the upper half, a number of ours in the lower
//! ```
//!
//! A node's own token that looks like one of ours is replaced, too, so none is ever taken for what it is not. A token of ours
//! is good once, and for [`LIFE`].

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use schemas::cure::Cure;
use tokio::time::Instant;

use super::{Change, Place, TargetId};

/// How long a token of ours is good: as long as a lease.
pub const LIFE: Duration = Duration::from_secs(10);

const MARK: u64 = 0x7ace_b00c_0000_0000;
const MARK_BITS: u64 = 0xffff_ffff_0000_0000;

/// Tokens that were given in place of others.
#[derive(Debug)]
pub struct Leases {
    most: usize,
    next: u32,
    given: HashMap<u32, Lease>,
    /// In the order of their ends; some may have been redeemed.
    ends: VecDeque<(Instant, u32)>,
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The node that gave it.
    pub target: TargetId,
    /// What it said.
    pub token: u64,
    /// How what is stored with it differs from what the client asks.
    pub change: Change,
}

/// What a client's token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It is not ours: it goes where the key lives.
    Home,
    /// It belongs there.
    Away(Lease),
    /// One of ours that has ended, or was redeemed: nothing is stored.
    Nobody,
}

impl Leases {
    /// At most so many at a time; beyond that, the oldest are forgotten.
    pub fn new(leases_max: usize) -> Leases {
        Leases { most: leases_max, next: 1, given: HashMap::new(), ends: VecDeque::new() }
    }

    /// What the client is given in place of a node's token. 0 and 1 are no tokens: they say that there is no lease.
    pub fn give(&mut self, now: Instant, lease: Lease, place: Place) -> u64 {
        let is_like_ours = lease.token & MARK_BITS == MARK;
        let stays = place == Place::Home && !is_like_ours;
        if lease.token <= 1 || stays || !Cure::TokenGoesBack.works() {
            return lease.token;
        }
        self.forget(now);
        while self.ends.len() >= self.most.max(1) {
            if let Some((_, oldest)) = self.ends.pop_front() {
                self.given.remove(&oldest);
            }
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.given.insert(number, lease);
        self.ends.push_back((now + LIFE, number));
        MARK | u64::from(number)
    }

    /// Whose token this is, which a client has come with; it is redeemed with that.
    pub fn redeem(&mut self, now: Instant, token: u64) -> Whose {
        if token & MARK_BITS != MARK {
            return Whose::Home;
        }
        self.forget(now);
        let number = u32::try_from(token & !MARK_BITS).unwrap_or(0);
        self.given.remove(&number).map_or(Whose::Nobody, Whose::Away)
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(end, number)) = self.ends.front()
            && end <= now
        {
            self.ends.pop_front();
            self.given.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Form, *};

    fn lease(target: u16, token: u64) -> Lease {
        let change = Change { strip: 0, form: Form::AsAsked, ttl_s_max: Some(60) };
        Lease { target: TargetId(target), token, change }
    }

    #[test]
    fn a_token_of_a_node_that_stood_in_goes_back_to_it_once() {
        let (now, mut leases) = (Instant::now(), Leases::new(10));
        let given = leases.give(now, lease(3, 77), Place::Away);
        assert_eq!(given, 0x7ace_b00c_0000_0001);
        assert_eq!(leases.redeem(now, given), Whose::Away(lease(3, 77)));
        assert_eq!(leases.redeem(now, given), Whose::Nobody);
    }

    #[test]
    fn other_tokens_are_left_as_they_are_but_for_those_that_look_like_ours() {
        let (now, mut leases) = (Instant::now(), Leases::new(10));
        assert_eq!(leases.give(now, lease(0, 77), Place::Home), 77);
        assert_eq!(leases.redeem(now, 77), Whose::Home);
        for no_token in [0, 1] {
            assert_eq!(leases.give(now, lease(3, no_token), Place::Away), no_token);
            assert_eq!(leases.redeem(now, no_token), Whose::Home);
        }
        let alike = lease(0, MARK | 0x1);
        let given = leases.give(now, alike, Place::Home);
        assert_eq!(leases.redeem(now, given), Whose::Away(alike));
        assert_eq!(leases.redeem(now, MARK | 0x3e7), Whose::Nobody);
    }

    #[test]
    fn they_end_and_are_bounded() {
        let (now, mut leases) = (Instant::now(), Leases::new(2));
        let given = [1, 2, 3].map(|token| leases.give(now, lease(0, 10 + token), Place::Away));
        assert_eq!(leases.redeem(now, given[0]), Whose::Nobody);
        let almost = now + LIFE - Duration::from_millis(1);
        assert_eq!(leases.redeem(almost, given[1]), Whose::Away(lease(0, 12)));
        assert_eq!(leases.redeem(now + LIFE, given[2]), Whose::Nobody);
        assert!(leases.given.is_empty() && leases.ends.is_empty());
    }
}
