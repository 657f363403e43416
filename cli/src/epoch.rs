//! `mcsqueal epoch`: an epoch of which nothing before is proven, by hand and through the stream.

use std::io;

use stream::Request;

use crate::{
    args::EpochArgs,
    failure::Failure,
    invalidate::{ask, confirm, say},
    load,
    stream::block_on,
};

/// Runs the command.
pub(crate) fn epoch(args: &EpochArgs) -> Result<(), Failure> {
    let (region, _) = load::region(&args.config)?;
    let source = &region.source.name;
    let what = format!(
        "a new epoch of {source}: nodes of ours keep what was stored well before anybody saw more than all databases show, the rest \
         becomes misses; on stock memcached nothing changes\n"
    );
    say(&mut io::stdout().lock(), &what)?;
    if !args.yes {
        confirm("Go on?", "--yes")?;
    }
    let waiting = "the request waits: an epoch begins when a tailer leads that has read all that the database has; look at its log";
    block_on(ask(&args.config, &region, vec![Request::epoch(source)], args.wait, waiting))?;
    say(&mut io::stdout().lock(), "it has begun\n")
}
