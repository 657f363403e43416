//! [`History`]: past invalidations, for tools: as the stream has them, or made anew from the binlog with the rules of
//! today. In steps, each of which can be resumed from.

mod binlog;
mod stream;

use anyhow::Context;
use schemas::{config::Region, key::Key, record::Scope, rules::Rules, version::Version};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(crate) use binlog::{
    Known, add, begin, end, map, read as read_binlog, settings as binlog_settings,
};

use crate::{failure::Failure, stream::From, stream::Select};

/// Steps that wait for whoever takes them.
const STEPS_MAX: usize = 4;
/// Keys of one step, about.
const STEP_KEYS_MAX: usize = 500;

/// From where to where, which keys, and who says so.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) from: From,
    pub(crate) to: From,
    pub(crate) select: Select,
}

/// A key that was invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) key: Key,
    pub(crate) version: Version,
}

/// Keys that were invalidated, and cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastFloor {
    pub(crate) scope: Scope,
    pub(crate) version: Version,
}

/// Some of the keys, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) keys: Vec<Past>,
    /// Floors among them: keys that cannot be listed.
    pub(crate) floors: Vec<PastFloor>,
    /// Holes: what is gone from the stream cannot be replayed.
    pub(crate) gaps: u64,
    /// Where to go on after this step; nothing if it does not end anywhere.
    pub(crate) mark: Option<Mark>,
}

/// A place in a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Mark {
    /// After this place of this partition; partitions come one after the other.
    Stream { partition: u16, place: String },
    /// After these transactions.
    Binlog { executed: String },
}

/// Where a history comes from.
pub(crate) enum History {
    Stream(Box<stream::Past>),
    Binlog(Box<binlog::Past>),
}

impl History {
    /// As the stream has it.
    pub(crate) async fn of_stream(
        reader: ::stream::AnyReader,
        range: Range,
    ) -> Result<History, Failure> {
        stream::Past::find(reader, range).await.map(|past| History::Stream(Box::new(past)))
    }

    /// From the binlog, by `rules`.
    pub(crate) async fn of_binlog(
        reader: ::stream::AnyReader,
        range: Range,
        region: &Region,
        settings: tailer::Settings,
        rules: Rules,
    ) -> Result<History, Failure> {
        let past = binlog::Past::find(&reader, range, region, settings, rules).await?;
        Ok(History::Binlog(Box::new(past)))
    }

    /// Whether nothing can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            History::Stream(past) => past.is_empty(),
            History::Binlog(past) => past.is_empty(),
        }
    }

    /// Hands out steps from `mark` on, or from the beginning, until the end or until nobody takes them.
    pub(crate) fn read(&self, mark: Option<Mark>) -> Steps {
        let (tell, told) = mpsc::channel(STEPS_MAX);
        let task = match self {
            History::Stream(past) => tokio::spawn(past.as_ref().clone().read(mark, tell)),
            History::Binlog(past) => tokio::spawn(past.as_ref().clone().read(mark, tell)),
        };
        Steps { told, task: Some(task) }
    }
}

/// A history on its way.
pub(crate) struct Steps {
    told: mpsc::Receiver<Step>,
    task: Option<tokio::task::JoinHandle<Result<(), Failure>>>,
}

impl Steps {
    /// The next step; `None` at the end. Cancelled, it can be called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Step>, Failure> {
        if let Some(step) = self.told.recv().await {
            return Ok(Some(step));
        }
        match self.task.take() {
            Some(task) => task.await.context("the history's reader panicked")?.map(|()| None),
            None => Ok(None),
        }
    }
}
