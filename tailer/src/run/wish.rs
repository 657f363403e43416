//! [`Wish`]: an epoch that an operator asks for, from when it is seen until it is in the log.

use schemas::record::Checkpoint;
use stream::{Desk, Ticket};

/// It is served by a connection that begins after it was seen: what the server has is asked for anew.
pub(super) struct Wish {
    ticket: Ticket,
    /// The newest epoch when it was seen.
    than: u16,
}

impl Wish {
    /// What somebody has left for this source, if there is anything.
    pub(super) fn seen(desk: &Desk, source: &str, newest: &Checkpoint) -> Option<Wish> {
        Some(Wish { ticket: desk.epoch_asked(source)?, than: epoch_of(newest) })
    }

    /// Whether a later epoch is durable of which nothing before is proven; a promotion may have brought it as well.
    pub(super) fn is_met(&self, durable: &Checkpoint) -> bool {
        let proven = durable.epoch.as_ref().is_none_or(|start| start.lossless);
        !proven && epoch_of(durable) > self.than
    }

    /// Takes it away. If that fails, another epoch follows, which does no harm.
    pub(super) async fn end(self, desk: &Desk) {
        tracing::info!("the epoch that was asked for has begun");
        if let Err(err) = desk.done(&self.ticket).await {
            tracing::warn!(%err, "the request for an epoch cannot be taken away, and will be served again");
        }
    }
}

fn epoch_of(checkpoint: &Checkpoint) -> u16 {
    checkpoint.epoch.as_ref().map_or(0, |start| start.epoch)
}

#[cfg(test)]
mod tests {
    use schemas::{
        gtid::{Dialect, GtidSet},
        record::{EpochStart, Origin},
        version::Version,
    };

    use super::*;

    #[test]
    fn only_a_later_epoch_without_proof_meets_it() {
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk::of_file(&folder.path().join("stream.db"));
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(Wish::seen(&desk, "shop", &proven(2)).is_none(), "nobody has asked");
        rt.block_on(desk.leave(&stream::Request::epoch("shop"))).unwrap();
        assert!(Wish::seen(&desk, "other", &proven(2)).is_none(), "it is for another source");
        let wish = Wish::seen(&desk, "shop", &proven(2)).unwrap();
        for (durable, met) in
            [(proven(2), false), (unproven(2), false), (proven(3), false), (unproven(3), true)]
        {
            assert_eq!(wish.is_met(&durable), met, "{durable:?}");
        }
        rt.block_on(wish.end(&desk));
        assert!(Wish::seen(&desk, "shop", &unproven(3)).is_none(), "it is served once");
    }

    fn unproven(epoch: u16) -> Checkpoint {
        let mut checkpoint = proven(epoch);
        checkpoint.epoch.iter_mut().for_each(|start| start.lossless = false);
        checkpoint
    }

    fn proven(epoch: u16) -> Checkpoint {
        let origin = Origin::MariaDb { domain: 0, server_id: 1 };
        let before = GtidSet::empty(Dialect::MariaDb);
        let source = "shop".into();
        let start = EpochStart { source, epoch, origin, first: 1, before, lossless: true };
        Checkpoint {
            source: "shop".into(),
            executed: GtidSet::empty(Dialect::MariaDb),
            position: None,
            epoch: Some(start),
            version: Version::ZERO,
            recent: Vec::new(),
        }
    }
}
