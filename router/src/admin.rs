//! Commands that are about no key: what the router says of itself, and what it does not let pass.

use std::{rc::Rc, sync::atomic::Ordering};

use protocol::server::{Admin, Words};
use tokio::time::timeout;

use crate::{
    desk::{Desk, Work},
    lane,
    settings::{Discovery, FlushAll},
    target::Target,
    wire::{answer::Silence, cut::Shape},
};

/// What older clients with discovery read.
const CLUSTER_KEY: &[u8] = b"AmazonElastiCache:cluster";
/// In mcrouter's words.
const NOT_SUPPORTED: &[u8] = b"SERVER_ERROR Command not supported\r\n";

/// Whether a `get` asks the router about itself.
pub(crate) fn is_question(keys: &Words<'_>) -> bool {
    let first = keys.clone().next().unwrap_or_default();
    first.first() == Some(&b'A') && first == CLUSTER_KEY
}

/// Answers such a `get`.
pub(crate) fn question(desk: &Rc<Desk>) {
    let said = cluster(&desk.hub.current.borrow().discovery);
    desk.say(
        format!("VALUE AmazonElastiCache:cluster 0 {}\r\n{said}\r\nEND\r\n", said.len()).as_bytes(),
    );
}

/// Takes one command.
pub(crate) fn command(desk: &Rc<Desk>, admin: Admin, mut words: Words<'_>) {
    let quiet = words.clone().last() == Some(b"noreply");
    match admin {
        Admin::Config if words.next() == Some(b"get") && words.next() == Some(b"cluster") => {
            let said = cluster(&desk.hub.current.borrow().discovery);
            desk.say(format!("CONFIG cluster 0 {}\r\n{said}\r\nEND\r\n", said.len()).as_bytes());
        }
        Admin::Stats => stats(desk, words),
        Admin::FlushAll if desk.hub.current.borrow().flush_all == FlushAll::Allowed => {
            flush_all(desk, words);
        }
        Admin::Verbosity | Admin::FlushAll if quiet => {}
        Admin::Verbosity => desk.say(b"OK\r\n"),
        _ => desk.say(NOT_SUPPORTED),
    }
}

/// A version, and `host|ip|port` of each, as discovery has it.
fn cluster(discovery: &Discovery) -> String {
    let each = discovery.addresses.iter().map(|address| {
        let (host, port) = crate::link::host_and_port(address);
        let ip = if host.parse::<std::net::IpAddr>().is_ok() { host } else { "" };
        format!("{host}|{ip}|{port}")
    });
    format!("{}\n{}\n", discovery.version, each.collect::<Vec<_>>().join(" "))
}

/// Empties all nodes, and says whether all are empty.
fn flush_all(desk: &Rc<Desk>, words: Words<'_>) {
    let quiet = words.clone().last() == Some(b"noreply");
    let mut line = b"flush_all".to_vec();
    for word in words.filter(|word| *word != b"noreply" && word.iter().all(u8::is_ascii_digit)) {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    line.extend_from_slice(b"\r\n");
    let silence = if quiet { Silence::All } else { Silence::None };
    let slot = desk.put(silence, Work::Elsewhere);
    let (desk, targets) = (Rc::clone(desk), desk.hub.table.borrow().targets.clone());
    tokio::task::spawn_local(async move {
        let mut failed = None;
        for target in targets {
            if let Err(why) = flush(&target, &line).await {
                failed = Some(format!("SERVER_ERROR {}: {why}\r\n", target.facts.address));
            }
        }
        let said = failed.unwrap_or_else(|| "OK\r\n".to_owned());
        desk.finish(slot, if quiet { b"" } else { said.as_bytes() });
    });
}

async fn flush(target: &Target, line: &[u8]) -> Result<(), String> {
    let asked = timeout(target.connect_timeout + target.server_timeout, async {
        let mut stream = target.link.connect(&target.facts.address).await?;
        lane::ask(&mut stream, line, Shape::Line).await
    });
    match asked.await {
        Ok(Ok(said)) if said == b"OK\r\n" => Ok(()),
        Ok(Ok(said)) => Err(said.trim_ascii_end().escape_ascii().to_string()),
        Ok(Err(err)) => Err(err.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn stats(desk: &Rc<Desk>, mut words: Words<'_>) {
    let hub = &desk.hub;
    let sum = |of: fn(&crate::shared::Counters) -> &crate::shared::Counter| -> u64 {
        hub.all_counters.iter().map(|each| of(each).get()).sum()
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| lines.push((name.to_owned(), value));
    match words.next() {
        None | Some(b"all") => {
            put("pid", std::process::id().to_string());
            put("uptime", hub.started.elapsed().as_secs().to_string());
            put("time", hub.unix_s.get().to_string());
            put("version", env!("CARGO_PKG_VERSION").to_owned());
            put("num_proxies", hub.workers.to_string());
            let facts = hub.facts.all();
            let down = |it: &&std::sync::Arc<crate::shared::NodeFacts>| {
                it.down_workers.load(Ordering::Relaxed) > 0
            };
            put("num_servers", hub.table.borrow().targets.len().to_string());
            put("num_suspect_servers", facts.iter().filter(down).count().to_string());
            put(
                "num_clients",
                sum(|it| &it.connections).wrapping_sub(sum(|it| &it.connections_ended)).to_string(),
            );
            put("total_connections", sum(|it| &it.connections).to_string());
            put("rejected_connections", sum(|it| &it.refused).to_string());
            put("cmd_get", sum(|it| &it.reads).to_string());
            put("cmd_set", sum(|it| &it.updates).to_string());
            put("cmd_delete", sum(|it| &it.deletes).to_string());
            put("keys", sum(|it| &it.keys).to_string());
            put("errands", sum(|it| &it.errands).to_string());
            put("asynclog_requests", sum(|it| &it.kept).to_string());
            put("asynclog_spool_failed", sum(|it| &it.not_kept).to_string());
            put("bytes_read", sum(|it| &it.bytes_read).to_string());
            put("bytes_written", sum(|it| &it.bytes_written).to_string());
        }
        Some(b"servers") => {
            for it in hub.facts.all() {
                put(
                    &it.address,
                    format!(
                        "{} tkos:{} timeouts:{} owed:{}",
                        if it.down_workers.load(Ordering::Relaxed) > 0 { "tko" } else { "up" },
                        it.tkos.load(Ordering::Relaxed),
                        it.timeouts.load(Ordering::Relaxed),
                        it.owed.load(Ordering::Relaxed),
                    ),
                );
            }
        }
        Some(b"suspect_servers") => {
            for it in hub.facts.all() {
                let down = it.down_workers.load(Ordering::Relaxed);
                if down > 0 {
                    put(&it.address, format!("status:tko workers:{down}"));
                }
            }
        }
        Some(_) => return desk.say(NOT_SUPPORTED),
    }
    let mut said = String::new();
    for (name, value) in lines {
        said.push_str(&format!("STAT {name} {value}\r\n"));
    }
    said.push_str("END\r\n");
    desk.say(said.as_bytes());
}
