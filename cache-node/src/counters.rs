//! [`Counters`]: what the commands of one worker did, by memcached's names. Summed up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// One number for each kind of thing that happens.
        // On cache lines of its own: what another worker counts does not slow this one down.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(pub $name: Counter,)*
        }

        impl Counters {
            /// All of them, in memcached's order, each summed over `parts`.
            pub fn sum<'a>(parts: impl Iterator<Item = &'a Counters> + Clone) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), parts.clone().map(|part| part.$name.get()).sum()),)*]
            }

            /// From zero again.
            pub fn reset(&self) {
                $(self.$name.0.store(0, Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    cmd_get, cmd_set, cmd_flush, cmd_touch, cmd_meta, get_hits, get_misses, get_expired, get_flushed,
    delete_misses, delete_hits, incr_misses, incr_hits, decr_misses, decr_hits, cas_misses, cas_hits, cas_badval,
    touch_hits, touch_misses, store_too_large, store_no_memory, store_refused, auth_cmds, auth_errors,
    bytes_read, bytes_written, total_items, conn_yields,
}

/// Only ever rises, until it is reset.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn up(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
