//! How often the database is read when a key changes that a thousand readers want.

use anyhow::{Context, Result};
use e2e::herd::Herd;

use super::region::{Backend, Whole};

const READERS: u32 = 1000;
const THING: u32 = 7;
const ROUNDS: u32 = 5;

/// With the replica at hand, and while it stands still: the worst of some rounds.
pub(super) async fn reads() -> Result<[u64; 2]> {
    let whole = Whole::start(Backend::Embedded, 1).await?;
    let (primary, replica) = (&whole.databases[0], &whole.databases[1]);
    let herd = Herd {
        nodes: whole.nodes.clone(),
        key: format!("thing:{THING}"),
        select: format!("SELECT value FROM bench.things WHERE id = {THING}"),
        near: replica.root(),
        primary: primary.root(),
        readers: READERS,
    };
    let round = async |round: u32| -> Result<u64> {
        let value = format!("v{round}");
        let change = format!("UPDATE bench.things SET value = '{value}' WHERE id = {THING}");
        let reads = herd.run(&value, primary.run(&[&change])).await.context("a herd")?;
        Ok(reads.near + reads.primary)
    };
    let mut worst = [0; 2];
    round(0).await?; // The first finds nothing.
    for at in 1..=ROUNDS {
        worst[0] = worst[0].max(round(at).await?);
    }
    replica.stop_applying().await?;
    for at in 1..=ROUNDS {
        worst[1] = worst[1].max(round(ROUNDS + at).await?);
    }
    Ok(worst)
}
