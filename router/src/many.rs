//! [`Many`]: a read of several keys: one read for each node, and an errand for each key that this does not answer. Only so many keys are
//! asked for at a time: their answers would else arrive all at once.

use std::rc::Rc;

use client::route::{Ask, Direct, Op, Outcome, TargetId};
use protocol::server::{Command, GetVerb};

use crate::{
    desk::{Single, Work, with_command},
    speak,
    table::Table,
    target::{Arrival, From},
    trip::{Place, Trip},
    wire::{
        answer::{self, Silence},
        cut::{Cut, Entries, Said, Shape},
        request::{self, Lifetime},
    },
};

/// The last line of a read.
const END: &[u8] = b"END\r\n";
/// Sendings of one trip have numbers of their own, from its number shifted by so many bits.
const TRIP_SHIFT: u32 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Many {
    table: Rc<Table>,
    op: Op,
    raw: Rc<[u8]>,
    keys: usize,
    /// The first key that has not been asked for.
    next: usize,
    /// Groups and trips that are under way.
    outstanding: usize,
    groups: Vec<Group>,
    trips: Vec<Option<Box<Trip>>>,
    /// An error line in place of the end.
    failed: Option<Vec<u8>>,
}

/// Keys that one node was asked for.
#[derive(Debug)]
struct Group {
    target: TargetId,
    keys: Vec<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: usize,
    direct: Direct,
    dice: u64,
}

impl Many {
    pub(crate) fn new(table: Rc<Table>, op: Op, raw: &[u8], keys: usize) -> Many {
        Many {
            table,
            op,
            raw: Rc::from(raw),
            keys,
            next: 0,
            outstanding: 0,
            groups: Vec::new(),
            trips: Vec::new(),
            failed: None,
        }
    }

    /// Asks for as many keys as may be under way.
    pub(crate) fn go_on(&mut self, place: &Place<'_>, said: &mut Vec<u8>) {
        let most = place.hub().current.borrow().multiget_keys_max.max(1);
        while self.outstanding == 0 && self.next < self.keys {
            let raw = Rc::clone(&self.raw);
            let (first, count) = (self.next, most.min(self.keys.saturating_sub(self.next)));
            self.next = first.saturating_add(count);
            with_command(&raw, |command| {
                let (keys, verb) = match command {
                    Command::Get { keys, verb } => (keys, Some(*verb)),
                    Command::LeaseGet { keys } => (keys, None),
                    _ => return,
                };
                let window: Vec<&[u8]> = keys.clone().skip(first).take(count).collect();
                self.ask(&window, (first, verb), place, said);
            });
        }
    }

    fn ask(
        &mut self,
        window: &[&[u8]],
        (first, verb): (usize, Option<GetVerb>),
        place: &Place<'_>,
        said: &mut Vec<u8>,
    ) {
        let groups_before = self.groups.len();
        let mut alone = Vec::new();
        for (at, key) in window.iter().enumerate() {
            let (dice, ask) = (fastrand::u64(..), Ask { op: self.op, key });
            let direct = verb.and_then(|_| self.table.routes.direct(&ask, &*self.table, dice));
            let Some(direct) = direct else {
                alone.push(first.saturating_add(at));
                continue;
            };
            let asked = Asked { at: first.saturating_add(at), direct, dice };
            let new = self.groups.get_mut(groups_before..).unwrap_or_default();
            match new.iter_mut().find(|group| group.target == direct.target) {
                Some(group) => group.keys.push(asked),
                None => self.groups.push(Group { target: direct.target, keys: vec![asked] }),
            }
        }
        let now = tokio::time::Instant::now();
        for (part, group) in self.groups.iter().enumerate().skip(groups_before) {
            let Some(target) = self.table.targets.get(group.target.index()) else { continue };
            self.outstanding = self.outstanding.saturating_add(1);
            let part = u64::try_from(part).unwrap_or(u64::MAX);
            let from = From { desk: Rc::clone(place.desk), slot: place.slot, part };
            target.send(from, now, |out| {
                let keys = group.keys.iter().filter_map(|asked| {
                    let key = window.get(asked.at.wrapping_sub(first))?;
                    key.get(usize::from(asked.direct.strip)..)
                });
                request::reads(verb.unwrap_or(GetVerb::Get), keys, Lifetime::Sent, out);
                Shape::Values
            });
        }
        for at in alone {
            let asked = (self.op, Rc::clone(&self.raw), at);
            let trip = Trip::begin(&Rc::clone(&self.table), asked, self.next_part(), place);
            self.begun(trip, said);
        }
    }

    fn next_part(&self) -> u64 {
        u64::try_from(self.trips.len().saturating_add(1)).unwrap_or(u64::MAX) << TRIP_SHIFT
    }

    fn begun(&mut self, trip: Trip, said: &mut Vec<u8>) {
        self.outstanding = self.outstanding.saturating_add(1);
        self.trips.push(Some(Box::new(trip)));
        self.ended(self.trips.len().saturating_sub(1), said);
    }

    /// What a node has said, or that it has not.
    pub(crate) fn arrived(
        &mut self,
        part: u64,
        arrival: Arrival<'_>,
        place: &Place<'_>,
        said: &mut Vec<u8>,
    ) {
        let trip = usize::try_from(part >> TRIP_SHIFT).unwrap_or(usize::MAX);
        match trip.checked_sub(1) {
            None => {
                self.group_arrived(
                    usize::try_from(part).unwrap_or(usize::MAX),
                    arrival,
                    place,
                    said,
                );
                self.outstanding = self.outstanding.saturating_sub(1);
            }
            Some(at) => {
                let Some(Some(trip)) = self.trips.get_mut(at) else { return };
                trip.arrived(part, arrival, place);
                self.ended(at, said);
            }
        }
        self.go_on(place, said);
    }

    fn group_arrived(
        &mut self,
        group: usize,
        arrival: Arrival<'_>,
        place: &Place<'_>,
        said: &mut Vec<u8>,
    ) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let keys = std::mem::take(&mut group.keys);
        match arrival {
            Arrival::Reply(reply, Cut { said: Said::Hit | Said::Miss, .. }) => {
                self.values(reply, &keys, said);
                let goes_on = |asked: &&Asked| !asked.direct.ends_with(Outcome::NotFound);
                let unsure: Vec<Asked> = keys.iter().filter(goes_on).copied().collect();
                if unsure.is_empty() {
                    return;
                }
                let missed =
                    Arrival::Reply(END, Cut { bytes: END.len(), said: Said::Miss, values: 0 });
                for asked in self.missing(reply, &unsure) {
                    self.resume(asked, missed, place, said);
                }
            }
            Arrival::Reply(reply, cut) => {
                let outcome = speak::outcome_of(self.op, reply, cut);
                for asked in keys {
                    if asked.direct.ends_with(outcome) {
                        self.failed = Some(reply.to_vec());
                    } else {
                        self.resume(asked, arrival, place, said);
                    }
                }
            }
            Arrival::Failed(_) => {
                for asked in keys {
                    self.resume(asked, arrival, place, said);
                }
            }
        }
    }

    /// Appends the values of a node's reply, under the keys that the client sent.
    fn values(&self, reply: &[u8], keys: &[Asked], said: &mut Vec<u8>) {
        if keys.iter().all(|asked| asked.direct.strip == 0) {
            said.extend_from_slice(reply.strip_suffix(END).unwrap_or(reply));
            return;
        }
        with_command(&self.raw, |command| {
            let Command::Get { keys: words, .. } = command else { return };
            let all: Vec<&[u8]> = words.clone().collect();
            let sent = |key: &[u8]| {
                let mut of_group = keys.iter().filter_map(|it| Some((it, *all.get(it.at)?)));
                let same = |(it, sent): &(&Asked, &[u8])| {
                    sent.get(usize::from(it.direct.strip)..) == Some(key)
                };
                of_group.find(|it| same(it)).map(|(_, sent)| sent)
            };
            answer::merge(reply, sent, said);
        });
    }

    /// Those of the keys that a reply has no value for.
    fn missing(&self, reply: &[u8], unsure: &[Asked]) -> Vec<Asked> {
        let mut out = Vec::new();
        with_command(&self.raw, |command| {
            let Command::Get { keys: words, .. } = command else { return };
            let all: Vec<&[u8]> = words.clone().collect();
            let found: std::collections::HashSet<&[u8]> =
                Entries(reply).map(|entry| entry.key).collect();
            out.extend(unsure.iter().copied().filter(|asked| {
                let key =
                    all.get(asked.at).and_then(|key| key.get(usize::from(asked.direct.strip)..));
                key.is_some_and(|key| !found.contains(key))
            }));
        });
        out
    }

    fn resume(
        &mut self,
        asked: Asked,
        arrival: Arrival<'_>,
        place: &Place<'_>,
        said: &mut Vec<u8>,
    ) {
        let Asked { at, direct, dice } = asked;
        let single =
            Single { table: Rc::clone(&self.table), direct, op: self.op, dice, raw: Vec::new() };
        let of = (Rc::clone(&self.raw), at);
        let trip = Trip::resume_key(single, of, arrival, self.next_part(), place);
        self.begun(trip, said);
    }

    /// Takes what a trip has brought, if it has.
    fn ended(&mut self, at: usize, said: &mut Vec<u8>) {
        let Some(place) = self.trips.get_mut(at) else { return };
        if !place.as_ref().is_some_and(|trip| trip.can_tell()) {
            return;
        }
        let Some(mut trip) = place.take() else { return };
        let mut told = Vec::new();
        trip.tell(Silence::None, &mut told);
        self.outstanding = self.outstanding.saturating_sub(1);
        match told.strip_suffix(END) {
            Some(values) => said.extend_from_slice(values),
            None => self.failed = Some(told),
        }
    }

    /// Appends the end, if it is reached; what is left to do then.
    pub(crate) fn settled(self: Box<Many>, said: &mut Vec<u8>) -> (Work, Option<Box<Trip>>) {
        if self.outstanding > 0 || self.next < self.keys {
            return (Work::Many(self), None);
        }
        said.extend_from_slice(self.failed.as_deref().unwrap_or(END));
        (Work::Done, None)
    }
}
