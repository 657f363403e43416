//! GTID sets of both dialects: never a panic, and what parses is printed so that it parses again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schemas::gtid::{Dialect, GtidSet};

fuzz_target!(|text: &str| {
    for dialect in [Dialect::Mysql, Dialect::MariaDb] {
        if let Ok(set) = GtidSet::parse(dialect, text) {
            assert_eq!(GtidSet::parse(dialect, &set.to_string()).as_ref(), Ok(&set));
        }
    }
});
