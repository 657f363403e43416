//! [`Shown`]: which configuration runs, for `/health`, metrics and logs, from the same values.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Which configuration a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Counted in this process, from 1.
    pub(crate) number: u64,
    /// The published version; null: its own files.
    pub(crate) published: Option<u64>,
    /// Of what the region file and its rules files say; the same in all processes that run the same.
    pub(crate) hash: String,
    /// Why the newest one is not in force, if so.
    pub(crate) refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HashLabel {
    hash: String,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    config: Arc<watch::Sender<Config>>,
    running: Family<HashLabel, Gauge>,
    number: Gauge,
    refused: Gauge,
    refusals: Counter,
}

impl Shown {
    pub(crate) fn register(registry: &mut Registry) -> Shown {
        let shown = Shown {
            config: Arc::new(watch::Sender::new(Config::default())),
            running: Family::default(),
            number: Gauge::default(),
            refused: Gauge::default(),
            refusals: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("mcsqueal_config");
        let Shown { running, number, refused, refusals, .. } = shown.clone();
        registry.register("running", "1 for the hash of the configuration in force", running);
        registry.register("number", "How many configurations this process has run", number);
        registry.register("refused", "1 while the newest files are not in force", refused);
        registry.register("refusals", "Configurations that were refused", refusals);
        shown
    }

    /// Another one is in force.
    pub(crate) fn took(&self, number: u64, published: Option<u64>, hash: u64) {
        let hash = format!("{hash:016x}");
        self.running.clear();
        self.running.get_or_create(&HashLabel { hash: hash.clone() }).set(1);
        self.number.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.refused.set(0);
        self.config.send_replace(Config { number, published, hash, refused: None });
    }

    /// The newest one is not.
    pub(crate) fn refused(&self, why: String) {
        self.refused.set(1);
        self.refusals.inc();
        self.config.send_modify(|config| config.refused = Some(why));
    }

    /// What was found last is what runs; perhaps by another number.
    pub(crate) fn accepted(&self, published: Option<u64>) {
        self.refused.set(0);
        self.config.send_modify(|config| (config.refused, config.published) = (None, published));
    }

    pub(crate) fn number(&self) -> u64 {
        self.config.borrow().number
    }

    /// `NUMBER:HASH`, for logs.
    pub(crate) fn name(&self) -> String {
        let config = self.config.borrow();
        format!("{}:{}", config.number, config.hash)
    }

    pub(crate) fn look(&self) -> Config {
        self.config.borrow().clone()
    }
}
