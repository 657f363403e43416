//! [`read_changes`]: what a server's binlog says, without epochs and stream: for tools that compare or replay.

use std::ops::ControlFlow;

use binlog::assemble::{Assembler, Change};
use schemas::gtid::GtidSet;

use crate::{
    settings::Settings,
    source::{self, SourceError},
    tailer::Input,
};

/// Reads the changes behind `executed`, until `each` breaks or the connection does.
pub async fn read_changes(
    settings: &Settings,
    executed: &GtidSet,
    each: &mut (dyn FnMut(Change<'_>) -> ControlFlow<()> + Send),
) -> Result<(), SourceError> {
    let dialect = executed.dialect();
    // The server then knows the password, which the dump's connection needs.
    drop(source::connect(settings).await?.disconnect().await);
    let mut reader = source::dump(settings, dialect, source::Resume::Executed(executed)).await?;
    let mut assembler = Assembler::new(dialect);
    let mut flow = ControlFlow::Continue(());
    while flow.is_continue() {
        for piece in reader.next().await? {
            let mut take = |change: Change<'_>| {
                if flow.is_continue() {
                    flow = each(change);
                }
            };
            match Input::from(&piece) {
                Input::Binlog(event) => assembler.push(event, &mut take),
                Input::Part(part) => assembler.push_part(part, &mut take),
                _ => {}
            }
        }
    }
    Ok(())
}
