//! [`Cure`]: what keeps each race from serving a stale value, as a switch that tests can turn off.
//!
//! A test that passes with its cure switched off proves nothing. So every comparison and every step
//! that a race depends on asks [`Cure::works`], and the simulation runs the same seeds with each one
//! off: all of them must be missed. In a release build `works` is the constant `true`, and nothing
//! can be switched.

macro_rules! cures {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One thing that must hold. Named for what it does; its documentation says what goes wrong without.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cure { $($(#[doc = $doc])+ $name,)+ }

        impl Cure {
            /// Every cure.
            pub const ALL: &'static [Cure] = &[$(Cure::$name,)+];

            /// Its name, and what goes wrong without it.
            pub fn describe(self) -> (&'static str, String) {
                match self { $(Cure::$name => (stringify!($name), [$($doc.trim()),+].join(" ")),)+ }
            }
        }
    };
}

cures! {
    // --- the node's rules: filling ---
    /// A delete leaves a tombstone also where the key is absent; else the slow reader's fill lands after it.
    TombstoneWhenAbsent,
    /// A fill is compared with the tombstone of its key; else a delete stops only fills that came before.
    AcceptAsksTombstone,
    /// A tombstone keeps the highest version; else a delivery that comes again lowers it.
    TombstoneKeepsHighest,
    /// A tombstone that is evicted raises the fill floor; else forgetting a delete undoes it.
    EvictionRaisesFillFloor,
    /// A fill is compared with the fill floor; else evicted tombstones protect nothing.
    AcceptAsksFillFloor,
    /// A fill is compared with the age floor; else an old one lands after its tombstone lapsed.
    AcceptAsksAgeFloor,
    /// The age floor never falls; else a position that goes back lets old fills in.
    AgeFloorNeverFalls,
    /// A tombstone lapses only below the age floor; else a reader that opened before is let in.
    LapseBelowAgeFloor,
    /// The age floor is 0 while the history is short; else the first position counts as an old one.
    HistoryStartsUnknown,
    /// A lease's fill version is the position when it was issued; else the reader's snapshot may be older.
    LeaseTakesPositionAtIssue,
    /// A lease at the primary takes the primary's position, and an ordinary one the region's.
    LeasePositionByReader,
    /// A plain set's fill version is the lowest position of its possible snapshots; else it counts as new.
    PlainSetTakesOldPosition,
    /// Only the newest token of a key is accepted; else a token from before a delete is good after it.
    LeaseNewestOnly,
    /// A delete voids the lease of its key; else nobody can fill the key until the holder's time is over.
    DeleteVoidsLease,
    /// A derived value (incr, append) keeps the older of two fill versions; else it makes an old value new.
    DerivedKeepsOlder,

    // --- the node's rules: serving ---
    /// An entry that is older than the delete is dropped or marked.
    DeleteDropsOlder,
    /// An entry that is as new as the delete stays; else what is delivered twice, or replayed, empties the cache.
    DeleteSparesNewer,
    /// A stale mark stays on its entry; else it is gone when the tombstone is.
    StaleMarkSticks,
    /// An entry below the serve floor is a miss; else keys that nobody could list are served for ever.
    ServeAsksFloor,
    /// A floor for prefixes covers every key that begins with one of them.
    ServeAsksPrefixFloor,
    /// After a promotion that may have lost something, what may hold lost values is a miss.
    ServeAsksCuts,
    /// The cut reaches below the new epoch as far as the proof, whatever epoch the entry's own version is of.
    CutReachesOlderEpochs,
    /// A server that lacks what was published proves nothing by having all of its predecessor; else what the predecessor
    /// had lost itself counts as kept.
    ProofAsksPublished,
    /// A proof counts only if nobody, the primary included, was past the cut; else lost values survive it.
    ProofAsksHighest,
    /// A proof takes the age floor from before its poll began; else values read between are thought clean.
    ProofTakesEchoedFloor,
    /// A token is compared with the entry's version or with what the node applied.
    ServeAsksToken,
    /// What the node applied meets a token; else every entry that was not filled just now is too old for it.
    TokenAsksApplied,
    /// What a client named in an epoch that had ended is asked for in the next one, where the transaction is; else it is
    /// thought to be there before it is.
    AskedVersionIsRaised,
    /// What a client named past the end of an epoch is in nothing that is known; else what the server wrote after it had
    /// its post again is thought to be there before that is announced.
    AskedVersionAsksEnd,
    /// A fill of an epoch that the node has not heard of is refused; else every version named before is thought to be in it.
    AcceptAsksEpochKnown,
    /// A marked key is a miss.
    ServeAsksMarker,
    /// A quarantined node serves nothing.
    ServeAsksQuarantine,
    /// A node that is not fresh says so, or serves nothing.
    ServeAsksFreshness,
    /// In degraded mode an entry is served only until it is `degraded_ttl` old.
    DegradedAgeBounded,

    // --- the node's rules: cursors, attaching, restarts ---
    /// A batch that begins beyond the cursor moves nothing; else its hole is never filled.
    BatchAsksFrom,
    /// What is applied never falls back or runs ahead: it moves with the cursor only.
    AppliedMovesWithCursor,
    /// A cursor never goes back: a lane that lags must not undo what another has confirmed.
    CursorNeverFalls,
    /// Quarantine ends when every partition has reached its head; else a delete of another is still on its way.
    QuarantineEveryPartition,
    /// A node that one partition holds in quarantine also takes the heads that other lanes name; else it leaves before their
    /// deletes came.
    QuarantineTakesEveryHead,
    /// A node that returns from an absence is quarantined until it has caught up.
    QuarantineOnReturn,
    /// A node counts as fresh only if every partition does.
    FreshEveryPartition,
    /// What a node has applied everywhere is unknown until every partition has reported.
    AppliedAsksEveryPartition,
    /// A hole in the stream raises the serve floor.
    GapRaisesServeFloor,
    /// How far a hole reached is said by a progress behind it; else an old one of another lane makes it look small.
    BeginAsksLaterProgress,
    /// A node that attaches raises the serve floor: deletes of what it took before will not come.
    AttachRaisesServeFloor,
    /// A snapshot's cursors are older than its entries; else deletes between the two are never applied.
    SnapshotCursorsFirst,
    /// A snapshot has the tombstones; else fills that they refused are accepted after the restart.
    SnapshotKeepsTombstones,
    /// A copy carries the applied version that the peer had together with the value.
    CopyAppliedWithValue,
    /// A copy carries the applied version of its own key's partition.
    CopyAppliedOfPartition,
    /// A peer copies out only what it would serve.
    CopyOnlyServable,
    /// A fill of a key that is another node's is refused; else nobody deletes it.
    AcceptAsksRing,
    /// An entry of a key that has left is a miss until it is swept; else it is served again when its key comes back.
    ServeAsksSweep,
    /// A sweep that has not ended remembers the rings before; else what has left and come back was never away.
    SweepRemembersRings,
    /// Keys that come from other nodes are not filled below what the stream held then; else their tombstones are missed.
    GainHasFillFloor,

    // --- markers ---
    /// Naming the version of a marked write is a delete; else the old value is served until the stream comes.
    MarkerDeletes,
    /// Each writer's pending mark stands by itself; else one writer clears another's.
    MarkerPerWriter,
    /// A marker keeps the highest version; else the first write to arrive clears it for the second.
    MarkerKeepsHighest,
    /// A marker is lifted when the region's position has reached it, not when the delete arrives.
    MarkerLiftsAtPosition,
    /// A node that lost its markers treats every key as marked until they would have expired.
    MarkersUnknownAfterStart,

    /// A fill is compared with what clients have named; else it lands when the mark is lifted, before the delete comes.
    AcceptAsksMarker,

    // --- lanes ---
    /// A lane begins where the node's cursor is, not where it was itself.
    LaneResumesAtNodeCursor,
    /// A lane goes back to the node's cursor when the node refuses a batch.
    LaneRewinds,
    /// A lane names heads that were sampled after the node came back.
    LaneNamesHeads,
    /// A lane tells the node of a gap in the stream.
    LaneReportsGap,
    /// A record of an older term that comes late is skipped: its epochs are not the log's, its places not the cursor's.
    LateRecordSkipped,
    /// A place says in which term it is; else numbers that a new term gives out again look like old ones.
    PlaceHasTerm,
    /// A hole in a partition's sequences is noticed.
    FollowerSeesHole,
    /// A version counts as applied only in an epoch that is known; else what a replaced tailer counts is taken for what its successor does,
    /// where the record is lost that says who leads.
    AppliedAsksEpoch,
    /// A transaction counts as applied with its last part; else a token for it is met by half of it.
    AppliedWithLastPart,
    /// A lane that sees clocks apart says that the node is not fresh.
    LaneMeasuresSkew,
    /// A node is not fresh before a lane has looked at its clock, in this life; else what is old counts as new when the clock fell behind
    /// before the first batch.
    FreshAsksFinding,
    /// Ages that a node took while clocks were apart count for nothing once they agree; else what is old counts as new then.
    AgeAsksAgreement,
    /// The wall clock is read for every batch, as it is in the answer that a lane judges; else what it showed long before, when it was
    /// behind, is taken for what the lane found good.
    ClockReadForEveryBatch,
    /// A node notices that its wall clock has jumped back, and is not fresh until a lane has looked at it; else what is old counts as new
    /// until the lane has noticed.
    AgeAsksBothClocks,
    /// What a lane found of a clock counts for nothing once that has jumped back; else what was found long before, or is on its way, is
    /// taken for the clock as it is now.
    FindingAsksSteps,

    // --- positions ---
    /// An instance is asked for what its readers see; its binlog is ahead of them.
    PositionAsksVisible,
    /// The region's position is the lowest of all instances that are read from.
    PositionIsLowest,
    /// A node takes a position that is lower than the last; else an instance that went back is read as if it had not.
    PositionMayFall,
    /// An instance's position is the contiguous part of what it has.
    PositionIsContiguous,
    /// The primary's position is held back by former primaries that readers may still take for it.
    PrimaryPositionAsksFormer,
    /// An instance that cannot be reached holds the position.
    UnreachableHolds,
    /// An instance with transactions that the source lost counts with its old position until it is fenced.
    ForeignHoldsPosition,
    /// An instance with transactions that were lost in an older epoch stands in none after that one; else two promotions later it counts
    /// as if it had kept its place.
    LostHoldsItsEpoch,
    /// A number of an origin that wrote before is of its old epoch only if it survived; else a write of a primary that
    /// returned gets a version that is long passed.
    VersionAsksSurvival,
    /// A client names a version only where its server has nothing that the epochs do not explain; else a primary that was
    /// one before gives its new transactions versions of its old epoch.
    VersionAsksWholeSet,
    /// The position enters a new epoch even before it has a transaction; else fills are refused for ever.
    PositionEntersEmptyEpoch,
    /// An answer places an instance only in epochs that were known when it was asked; else one that has lost its place,
    /// and is away, counts as of the new epoch.
    AnswerAfterEpoch,
    /// While a former primary is counted, nobody stands in a lossy epoch without a transaction of it; else what the former
    /// one shows late is taken for new.
    FormerPrimaryHoldsEpoch,
    /// A highest version is said only if every instance answered and none has foreign transactions.
    HighestAsksEveryInstance,

    // --- rows to keys ---
    /// New rows are mapped, too; else what was cached as absent stays absent.
    MapsInserts,
    /// An update is mapped before and after; else a row that moves leaves a ghost behind.
    MapsBothImages,
    /// Rows are read with the table map that they came with; else columns are taken for others after an ALTER.
    MapsWithOwnTableMap,
    /// A statement that may have changed rows is a floor.
    StatementRaisesFloor,
    /// Rows that the rules cannot read are a floor.
    UnreadableRowsRaiseFloor,
    /// An event that may carry changes and cannot be read is a floor.
    UndecodableRaisesFloor,
    /// Keys of a transaction that are too many to list are a floor.
    UnlistedKeysRaiseFloor,

    // --- tailer and stream ---
    /// The epoch rises when another server numbers the transactions; else its numbers are taken for old ones.
    EpochOnNewOrigin,
    /// What a server wrote before it was connected may be of an earlier reign, and does not begin the present one; else what
    /// was lost between the two is taken for kept.
    EpochAsksPresentReign,
    /// A server that takes writes again is asked anew what it has; else what another wrote meanwhile, and lost, is taken for
    /// kept until somebody writes.
    ReturnIsAskedAnew,
    /// What was published is read once more at each connection, and compared; else other transactions that got the same
    /// numbers are taken for it.
    PublishedIsCompared,
    /// What was published must come before the end that the binlog had at the connection; else it is taken for there.
    PublishedMustCome,
    /// The epoch rises when numbers start anew.
    EpochOnLowerNumber,
    /// An epoch without proof that nothing was lost says so.
    EpochNotProven,
    /// A new source that has no transaction yet opens its epoch all the same.
    EpochOpensWithoutTransaction,
    /// A checkpoint is written only after everything before it; else a crash skips what was on its way.
    CheckpointAfterRecords,
    /// Progress is said only after everything up to it was published.
    ProgressAfterRecords,
    /// Progress is said on every partition; else one without changes makes its nodes look cut off.
    ProgressEverywhere,
    /// Progress is said only of a server that takes writes; else a former primary keeps caches fresh for ever.
    ProgressAsksWriter,
    /// The clock is read before the source is asked.
    ProgressClockBeforeSource,
    /// A log that is shorter than its checkpoint says becomes a floor.
    TermStartSeesLostTail,
    /// Binlogs that were purged before they were read become a floor.
    PurgeRaisesFloor,

    // --- rings ---
    /// While some client uses the former ring, its owners get deletes, too; else what he fills there stays.
    DeletesAtFormerOwner,
    /// A node that has missed a ring forgets what it holds; else it gets back a key whose deletes went elsewhere.
    MissedRingForgets,

    // --- routes ---
    /// A token of a node that stood in goes back to it; else the one that has the key may take it for its own.
    TokenGoesBack,
    /// What comes with a token of a node that is away goes to no other; else one that stands in may take it for its own.
    TokenAsksItsNode,
    /// A delete goes to every node that a read may reach; else the gutter has at the second absence what it got at the first.
    DeletesReachEveryRead,
    /// What the gutter is given lives for a short time; else a delete that did not come through a router never reaches it.
    GutterCapsTime,
    /// A change that a node has not got is missing there, whatever it said; else one that is too busy for deletes is read from.
    FailedChangeIsMissed,
    /// A node on which changes are missing is not read from; else it serves what was true before them.
    MissedKeepsFromReads,
    /// Only a probe brings a node back; else a late answer does, and with it what the node had when it went away.
    ReturnAsksProbe,
    /// A node of ours that answers again is not asked while it is in quarantine; else its keys are misses, and nobody else has them.
    ReturnAsksQuarantine,
    /// A node of ours that answers again is asked when it has heard of the stream since; else it may not know yet that it was away.
    ReturnAsksNews,
}

#[cfg(debug_assertions)]
thread_local! {
    /// A bit for each cure that is off in this thread.
    static OFF: std::cell::Cell<u128> = const { std::cell::Cell::new(0) };
}

const _: () = assert!(Cure::ALL.len() <= 128);

impl Cure {
    /// Whether this cure is switched on: always, outside of tests that say otherwise.
    #[inline]
    pub fn works(self) -> bool {
        #[cfg(debug_assertions)]
        return OFF.with(|off| off.get() & self.bit() == 0);
        #[cfg(not(debug_assertions))]
        true
    }

    /// Runs `test` in this thread with the cure switched off, and on again at the end (of a panic, too).
    #[cfg(debug_assertions)]
    pub fn off<T>(self, test: impl FnOnce() -> T) -> T {
        Cure::all_off(&[self], test)
    }

    /// Likewise with several.
    #[cfg(debug_assertions)]
    pub fn all_off<T>(cures: &[Cure], test: impl FnOnce() -> T) -> T {
        struct Restore(u128);
        impl Drop for Restore {
            fn drop(&mut self) {
                OFF.with(|off| off.set(self.0));
            }
        }
        let bits = cures.iter().fold(0, |bits, cure| bits | cure.bit());
        let _restore = Restore(OFF.with(|off| off.replace(off.get() | bits)));
        test()
    }

    #[cfg(debug_assertions)]
    fn bit(self) -> u128 {
        1 << (self as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_ends_with_its_test() {
        let cure = Cure::TombstoneWhenAbsent;
        assert!(cure.works());
        cure.off(|| {
            assert!(!cure.works());
            Cure::MarkerDeletes.off(|| assert!(!cure.works() && !Cure::MarkerDeletes.works()));
            assert!(Cure::MarkerDeletes.works());
        });
        assert!(cure.works());
        let panicked = std::panic::catch_unwind(|| cure.off(|| panic!("on purpose")));
        assert!(panicked.is_err() && cure.works());
    }

    #[test]
    fn every_cure_says_what_it_is_for() {
        for cure in Cure::ALL {
            let (name, why) = cure.describe();
            assert!(why.ends_with('.') && why.len() > 20, "{name}: {why}");
        }
    }
}
