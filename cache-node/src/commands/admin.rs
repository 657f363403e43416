//! Commands that are not about one key.

use protocol::server::{Admin, Reply, Words, error, number as parse};

use super::{
    After, Turn,
    dump::{Dump, DumpForm},
    say,
};
use crate::{node::Allowed, now::Expiry, store::Traits};

const OK: &[u8] = b"OK\r\n";
/// Smallest memory limit, in megabytes.
const MEMORY_MEGABYTES_MIN: usize = 8;
/// Most keys of `stats cachedump`.
const CACHEDUMP_KEYS_MAX: usize = 10_000;

impl Turn<'_> {
    pub(super) fn admin(&mut self, admin: Admin, words: Words<'_>, out: &mut Vec<u8>) -> After {
        match admin {
            Admin::Stats => self.stats(words, out),
            Admin::FlushAll => self.flush_all(words, out),
            Admin::Verbosity => self.verbosity(words, out),
            Admin::CacheMemlimit => self.memory_limit(words, out),
            Admin::LruCrawler => return self.crawler(words, out),
            Admin::Lru | Admin::Slabs => out.extend_from_slice(tuning(words)),
            Admin::Shutdown => return self.shutdown(words, out),
            Admin::DebugTime => self.debug_time(words, out),
            Admin::RefreshCerts => match self.node.server().renew_certificates() {
                None => out.extend_from_slice(b"Error TLS not enabled\r\n"),
                Some(Ok(())) => out.extend_from_slice(OK),
                Some(Err(err)) => out.extend_from_slice(format!("Error {err}\r\n").as_bytes()),
            },
            Admin::Config | Admin::Watch => out.extend_from_slice(error::UNKNOWN),
        }
        After::Next
    }

    fn flush_all(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        let reply = reply(&words);
        self.counters.cmd_flush.up();
        if !self.node.settings().allowed.has(Allowed::FLUSH_ALL) {
            return say(reply, b"CLIENT_ERROR flush_all not allowed\r\n", out);
        }
        let delay = match words.next() {
            None | Some(b"noreply") => 0,
            Some(word) => match parse(word) {
                Some(delay) => delay,
                None => return say(reply, error::EXPTIME, out),
            },
        };
        // A delay is told like an expiry time: seconds, or unix time.
        let at = if delay <= 0 { None } else { Expiry::from_client(delay, self.now).unix() };
        self.node.flush(at.unwrap_or(self.now.unix), self.now);
        say(reply, OK, out);
    }

    fn verbosity(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        let reply = reply(&words);
        match words.next().map(parse::<u64>) {
            Some(Some(level)) => {
                self.node.server().set_verbosity(level);
                say(reply, OK, out);
            }
            Some(None) | None => say(reply, error::FORMAT, out),
        }
    }

    fn memory_limit(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        let reply = reply(&words);
        let Some(megabytes) = words.next().and_then(parse::<usize>) else {
            return say(reply, error::UNKNOWN, out);
        };
        if megabytes < MEMORY_MEGABYTES_MIN {
            let line = b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n";
            return say(reply, line, out);
        }
        self.node.limit_memory(megabytes.saturating_mul(1 << 20), self.now);
        say(reply, OK, out);
    }

    fn crawler(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) -> After {
        let form = match words.next() {
            Some(b"metadump") => DumpForm::Facts,
            Some(b"mgdump") => DumpForm::Commands,
            Some(b"enable" | b"disable") => {
                out.extend_from_slice(OK);
                return After::Next;
            }
            // Everything that is over is swept anyway: there is nothing to tune.
            Some(b"sleep" | b"tocrawl" | b"crawl") if !words.is_empty() => {
                out.extend_from_slice(OK);
                return After::Next;
            }
            _ => {
                out.extend_from_slice(error::UNKNOWN);
                return After::Next;
            }
        };
        if words.is_empty() {
            out.extend_from_slice(error::UNKNOWN);
            return After::Next;
        }
        if !self.node.settings().allowed.has(Allowed::DUMP) {
            out.extend_from_slice(match form {
                DumpForm::Facts => b"ERROR metadump not allowed\r\n",
                DumpForm::Commands => b"ERROR key dump not allowed\r\n",
            });
            return After::Next;
        }
        out.extend_from_slice(OK);
        After::Dump(Dump::new(form))
    }

    fn shutdown(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) -> After {
        if !self.node.settings().allowed.has(Allowed::SHUTDOWN) {
            out.extend_from_slice(b"SERVER_ERROR: shutdown not enabled\r\n");
            return After::Next;
        }
        match words.next() {
            None | Some(b"graceful") => After::Shutdown,
            Some(_) => {
                out.extend_from_slice(b"CLIENT_ERROR invalid shutdown mode\r\n");
                After::Next
            }
        }
    }

    fn debug_time(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        let server = self.node.server();
        if !self.node.settings().allowed.has(Allowed::DEBUG_TIME) {
            return out.extend_from_slice(error::UNKNOWN);
        }
        match words.next() {
            Some(b"p") => server.stop_time(Some(self.now.unix)),
            Some(b"r") => server.stop_time(None),
            Some(word) => match parse(word) {
                Some(seconds) => {
                    server.move_time(seconds);
                    self.now.unix = self.now.unix.saturating_add_signed(seconds);
                }
                None => return out.extend_from_slice(error::UNKNOWN),
            },
            None => return out.extend_from_slice(error::UNKNOWN),
        }
        out.extend_from_slice(OK);
    }

    /// Some keys, for `memdump`. There is one class, the first.
    pub(super) fn cache_dump(&mut self, mut words: Words<'_>, out: &mut Vec<u8>) {
        if !self.node.settings().allowed.has(Allowed::DUMP) {
            return out.extend_from_slice(b"CLIENT_ERROR stats cachedump not allowed\r\n");
        }
        let numbers = (words.next().and_then(parse::<u64>), words.next().and_then(parse::<usize>));
        let (Some(class), Some(most)) = numbers else {
            return out.extend_from_slice(b"CLIENT_ERROR bad command line\r\n");
        };
        let most = if most == 0 { CACHEDUMP_KEYS_MAX } else { most.min(CACHEDUMP_KEYS_MAX) };
        let (mut left, mut at) = (if class == 1 { most } else { 0 }, 0_usize);
        while let Some(mut shard) = self.node.shard_at(at).filter(|_| left > 0) {
            let (begin, now) = (shard.walk(self.now), self.now);
            shard.page(begin, left, now, |key, entry, value| {
                if entry.traits.has(Traits::PLACEHOLDER) {
                    return;
                }
                left = left.saturating_sub(1);
                out.extend_from_slice(b"ITEM ");
                out.extend_from_slice(key);
                let unix = entry.expiry.unix().unwrap_or(0);
                out.extend_from_slice(format!(" [{} b; {unix} s]\r\n", value.len()).as_bytes());
            });
            at = at.saturating_add(1);
        }
        out.extend_from_slice(b"END\r\n");
    }
}

/// Memcached's storage can be tuned; ours has nothing to tune. Who sends an order with an argument is told that all is well.
fn tuning(words: Words<'_>) -> &'static [u8] {
    if words.count() >= 2 { OK } else { error::UNKNOWN }
}

fn reply(words: &Words<'_>) -> Reply {
    if words.clone().last() == Some(b"noreply") { Reply::Unwanted } else { Reply::Wanted }
}
