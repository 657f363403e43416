//! `stats` in all its forms, by memcached's names, so that whatever reads them goes on.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::server::{Words, error};

use super::Turn;
use crate::{counters::Counters, node::Allowed, store::Eviction};

/// Hot keys that are shown.
const HOT_KEYS: usize = 20;

impl Turn<'_> {
    pub(super) fn stats(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        match words.next() {
            None => self.general(out),
            Some(b"settings") => self.settings(out),
            Some(b"items") => self.items(out),
            Some(b"slabs") => self.slabs(out),
            Some(b"conns") => self.conns(out),
            Some(b"sizes") => stat("sizes_status", "disabled", out),
            Some(b"hotkeys") => self.hot_keys(out),
            Some(b"reset") => {
                self.node.all_counters().iter().for_each(Counters::reset);
                self.node.usage().reset();
                return out.extend_from_slice(b"RESET\r\n");
            }
            Some(b"cachedump") => return self.cache_dump(words, out),
            Some(b"detail") => return self.detail(words, out),
            Some(_) => return out.extend_from_slice(error::UNKNOWN),
        }
        out.extend_from_slice(b"END\r\n");
    }

    fn detail(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        if !self.node.settings().allowed.has(Allowed::DUMP) {
            return out.extend_from_slice(b"CLIENT_ERROR stats detail not allowed\r\n");
        }
        let usage = self.node.usage();
        match words.next() {
            Some(b"on") => usage.begin(),
            Some(b"off") => usage.end(),
            Some(b"dump") => {
                out.extend_from_slice(usage.dump().as_bytes());
                return out.extend_from_slice(b"END\r\n");
            }
            _ => return out.extend_from_slice(b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
        }
        out.extend_from_slice(b"OK\r\n");
    }

    fn general(&mut self, out: &mut Vec<u8>) {
        let (server, totals) = (self.node.server(), self.node.totals());
        let uptime = self.now.unix.saturating_sub(get(&server.started));
        let connections = server.connections();
        stat("pid", get(&server.pid), out);
        stat("uptime", uptime, out);
        stat("time", self.now.unix, out);
        stat("version", "1.6.45", out);
        stat("mcsqueal_version", env!("CARGO_PKG_VERSION"), out);
        stat("pointer_size", usize::BITS, out);
        stat("rusage_user", seconds(get(&server.user_micros)), out);
        stat("rusage_system", seconds(get(&server.system_micros)), out);
        stat("max_connections", get(&server.connections_max), out);
        stat("curr_connections", connections, out);
        stat("total_connections", get(&server.connections_total), out);
        stat("rejected_connections", get(&server.connections_rejected), out);
        stat("connection_structures", connections, out);
        for (name, value) in Counters::sum(self.node.all_counters().iter()) {
            stat(name, value, out);
        }
        stat("limit_maxbytes", self.node.memory_bytes_max(), out);
        stat("accepting_conns", 1, out);
        stat("listen_disabled_num", 0, out);
        stat("threads", self.node.settings().workers, out);
        stat("bytes", totals.bytes, out);
        stat("curr_items", totals.entries, out);
        stat("expired_unfetched", totals.losses.expired_unfetched, out);
        stat("evicted_unfetched", totals.losses.evicted_unfetched, out);
        stat("evictions", totals.losses.evicted, out);
        stat("reclaimed", totals.losses.expired, out);
        stat("crawler_reclaimed", totals.losses.expired, out);
        self.catching_up(out);
    }

    /// With a source: whether it serves, and how old what it knows is. Whoever had not asked it for a while goes by that.
    fn catching_up(&self, out: &mut Vec<u8>) {
        let Some((quarantined, age)) = self.gate.catching_up(self.now) else { return };
        stat("quarantined", u8::from(quarantined), out);
        if let Some(age) = age {
            stat("stream_age_ms", age.as_millis(), out);
        }
    }

    fn settings(&mut self, out: &mut Vec<u8>) {
        let settings = self.node.settings();
        stat("maxbytes", self.node.memory_bytes_max(), out);
        stat("evictions", if settings.eviction == Eviction::Never { "off" } else { "on" }, out);
        stat("num_threads", settings.workers, out);
        stat("stat_key_prefix", char::from(settings.prefix_delimiter), out);
        stat("detail_enabled", if self.node.usage().is_detailed() { "yes" } else { "no" }, out);
        stat("item_size_max", settings.item_bytes_max, out);
        stat("verbosity", self.node.server().verbosity(), out);
        stat("cas_enabled", "yes", out);
        stat("client_flags_size", 4, out);
        for (name, right) in [
            ("flush_enabled", Allowed::FLUSH_ALL),
            ("dump_enabled", Allowed::DUMP),
            ("shutdown_command", Allowed::SHUTDOWN),
        ] {
            stat(name, if settings.allowed.has(right) { "yes" } else { "no" }, out);
        }
        for (name, value) in self.node.server().settings.get().into_iter().flatten() {
            stat(name, value, out);
        }
    }

    /// One class holds everything.
    fn items(&mut self, out: &mut Vec<u8>) {
        let totals = self.node.totals();
        if totals.entries == 0 {
            return;
        }
        let losses = totals.losses;
        let counters = Counters::sum(self.node.all_counters().iter());
        let hits =
            counters.iter().find(|(name, _)| *name == "get_hits").map_or(0, |(_, hits)| *hits);
        stat("items:1:number", totals.entries, out);
        stat("items:1:number_hot", 0, out);
        stat("items:1:number_warm", 0, out);
        stat("items:1:number_cold", totals.entries, out);
        stat("items:1:age", 0, out);
        stat("items:1:mem_requested", totals.bytes, out);
        stat("items:1:evicted", losses.evicted, out);
        stat("items:1:evicted_nonzero", 0, out);
        stat("items:1:evicted_time", 0, out);
        stat("items:1:outofmemory", 0, out);
        stat("items:1:tailrepairs", 0, out);
        stat("items:1:reclaimed", losses.expired, out);
        stat("items:1:expired_unfetched", losses.expired_unfetched, out);
        stat("items:1:evicted_unfetched", losses.evicted_unfetched, out);
        stat("items:1:evicted_active", 0, out);
        stat("items:1:crawler_reclaimed", losses.expired, out);
        stat("items:1:hits_to_cold", hits, out);
    }

    fn slabs(&mut self, out: &mut Vec<u8>) {
        let (totals, settings) = (self.node.totals(), self.node.settings());
        if totals.entries > 0 {
            stat("1:chunk_size", settings.item_bytes_max, out);
            stat("1:chunks_per_page", 1, out);
            stat("1:total_pages", 1, out);
            stat("1:total_chunks", totals.entries, out);
            stat("1:used_chunks", totals.entries, out);
            stat("1:free_chunks", 0, out);
            stat("1:free_chunks_end", 0, out);
            let counters = Counters::sum(self.node.all_counters().iter());
            let shown =
                ["get_hits", "cmd_set", "delete_hits", "incr_hits", "decr_hits", "cas_hits"];
            let shown = shown.into_iter().chain(["cas_badval", "touch_hits"]);
            for name in shown {
                let value =
                    counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, it)| *it);
                stat(&format!("1:{name}"), value, out);
            }
        }
        stat("active_slabs", u8::from(totals.entries > 0), out);
        stat("total_malloced", totals.bytes, out);
    }

    fn conns(&mut self, out: &mut Vec<u8>) {
        for (number, connection) in self.node.server().each_connection() {
            stat(&format!("{number}:addr"), &connection.address, out);
            if let Some(listener) = &connection.listener {
                stat(&format!("{number}:listen_addr"), listener, out);
            }
            let state = if connection.listener.is_some() { "conn_read" } else { "conn_listening" };
            stat(&format!("{number}:state"), state, out);
            let idle = self.now.unix.saturating_sub(get(&connection.last));
            stat(&format!("{number}:secs_since_last_cmd"), idle, out);
        }
    }

    /// The keys that are used most, each with its share of all accesses in percent.
    fn hot_keys(&mut self, out: &mut Vec<u8>) {
        for (key, share) in self.node.usage().hot_keys(HOT_KEYS) {
            let (percent, rest) = (share / 10_000, share % 10_000);
            let mut name = Vec::new();
            super::dump::percent_encode(&key, &mut name);
            stat(&String::from_utf8_lossy(&name), format!("{percent}.{rest:04}"), out);
        }
    }
}

fn stat(name: &str, value: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("STAT {name} {value}\r\n").as_bytes());
}

fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
