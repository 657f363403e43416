//! A switchover: another server takes the place of the one that was read, and has everything that it had.
//!
//! Then values that were cached before are as good as they were, and the new epoch is lossless. That is proven by asking:
//! every other server of the source answers, takes no writes, from nobody, and has executed nothing that the new one lacks. If
//! one of them is down, as after a crash, nothing is proven: it may have shown transactions to readers that nobody
//! else has.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use mysql_async::Conn;
use schemas::{
    gtid::{Dialect, GtidSet},
    record::EpochStart,
};
use tokio::time::timeout;

use crate::{
    epochs::writer,
    preflight::{self, Report},
    settings::Settings,
    source::{self, SourceError},
    tailer::Mode,
};

/// A server that takes longer to answer proves nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// The servers of a source but for the one that is read now.
pub(super) struct Others<'a> {
    pub(super) settings: &'a Settings,
    /// The place of the one that is read now.
    pub(super) at: usize,
    /// The epoch that ends if another server writes now.
    pub(super) before: &'a EpochStart,
}

/// Completes `report`, whose server `conn` leads to: with the last set of its predecessor, if that is known.
pub(super) async fn prove(
    others: &Others<'_>,
    conn: &mut Conn,
    report: &mut Report,
) -> Result<(), SourceError> {
    let wrote_last = writer(&others.before.origin);
    if report.mode != Mode::Gtid || wrote_last == report.server_id {
        return Ok(());
    }
    let Some(theirs) = others.executed(report, wrote_last).await else { return Ok(()) };
    // Asked after them: what they have by replicating from it, it has too.
    if let Some(states) = theirs.states
        && !contains_states(&preflight::binlog_state(conn).await?, &states)
    {
        return Ok(());
    }
    let executed = preflight::executed(conn, report.dialect).await?;
    report.server.executed = GtidSet::parse(report.dialect, &executed)
        .map_err(|error| SourceError::Answer(error.to_string()))?;
    report.server.predecessor = Some(theirs.executed);
    Ok(())
}

/// What the other servers have.
struct Theirs {
    executed: GtidSet,
    /// MariaDB's sets say only the highest number of a domain; two servers may have given it to different transactions. Its
    /// binlog states say the highest number of each server.
    states: Option<String>,
}

/// Whether a server with the binlog state `ours` has everything that is in `theirs`: `0-11-20,0-12-5`.
fn contains_states(ours: &str, theirs: &str) -> bool {
    let parse = |text: &str| {
        let (server, number) = text.trim().rsplit_once('-')?;
        Some((server.to_owned(), number.parse::<u64>().ok()?))
    };
    let ours: Option<BTreeMap<String, u64>> = parts(ours).map(parse).collect();
    let Some(ours) = ours else { return false };
    let has = |(server, number): (String, u64)| ours.get(&server).is_some_and(|&to| to >= number);
    parts(theirs).all(|part| parse(part).is_some_and(has))
}

fn parts(state: &str) -> impl Iterator<Item = &str> {
    state.split(',').filter(|part| !part.trim().is_empty())
}

impl Others<'_> {
    /// All that they have executed; `None` unless every one of them answers and is sealed, and the last writer is among
    /// them.
    async fn executed(&self, report: &Report, wrote_last: u32) -> Option<Theirs> {
        let count = self.settings.standbys.len().saturating_add(1);
        let ours = self.at.checked_rem(count)?;
        let asked = (0..count).filter(|&place| place != ours).map(|place| {
            let settings = self.settings.at(place);
            async move { timeout(PATIENCE, sealed(&settings, report)).await.ok().flatten() }
        });
        let mut sum = GtidSet::empty(report.dialect);
        let (mut has_last, mut states) = (false, Vec::new());
        for answer in join_all(asked).await {
            let Sealed { server_id, executed, state } = answer?;
            has_last |= server_id == wrote_last;
            if !sum.union(&executed) {
                return None;
            }
            states.push(state);
        }
        let states = (report.dialect == Dialect::MariaDb).then(|| states.join(","));
        has_last.then_some(Theirs { executed: sum, states })
    }
}

/// A server to which nobody can write, but for what it replicates.
struct Sealed {
    server_id: u32,
    executed: GtidSet,
    state: String,
}

async fn sealed(settings: &Settings, report: &Report) -> Option<Sealed> {
    let mut conn = source::connect(settings).await.ok()?;
    let standing = preflight::sealed(&mut conn, report.dialect).await.ok().flatten()?;
    let state = match report.dialect {
        Dialect::Mysql => String::new(),
        Dialect::MariaDb => preflight::binlog_state(&mut conn).await.ok()?,
    };
    drop(conn.disconnect().await); // The answers are here.
    let executed = GtidSet::parse(report.dialect, &standing.executed).ok()?;
    Some(Sealed { server_id: standing.server_id, executed, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_compared_server_by_server() {
        assert!(contains_states("0-11-20,0-12-25", "0-11-20"));
        assert!(contains_states("0-11-20,0-12-25", "0-12-24,0-11-19"));
        assert!(contains_states("", ""));
        assert!(!contains_states("0-12-25", "0-11-20"), "nothing of server 11");
        assert!(!contains_states("0-11-19,0-12-25", "0-11-20"), "not all of server 11");
        assert!(!contains_states("what", "0-11-20"));
        assert!(!contains_states("0-11-20", "what"));
    }
}
