//! The way of a request in words: for `mcsqueal route explain`, which needs no node to be there.

use std::fmt::Write as _;

use super::{
    NodeId,
    ask::{Ask, Class, Op},
    tree::{Entrance, GoOn, Judge, Plan, Routes, Work},
};

impl Routes {
    /// What happens to a request, one line for each route and node that it may reach, those that are reached through another
    /// one indented below it.
    pub fn explain(&self, ask: &Ask<'_>) -> String {
        let mut out = format!("{} {}\n", ask.op, ask.key.escape_ascii());
        match self.entrance(ask.key) {
            Entrance::Unknown => out.push_str("  SERVER_ERROR no such routing prefix\n"),
            Entrance::One { node, strip } => {
                let key = ask.key.get(usize::from(strip)..).unwrap_or_default();
                if strip > 0 {
                    line(&mut out, 1, format_args!("sent as {}", key.escape_ascii()));
                }
                self.tell(&mut out, node, ask.op, key, 1);
            }
            Entrance::Several { nodes, strip } => {
                let key = ask.key.get(usize::from(strip)..).unwrap_or_default();
                let whose = if ask.op.class() == Class::Delete { "worst" } else { "first" };
                let what =
                    format_args!("sent as {} to all; the {whose} answers", key.escape_ascii());
                line(&mut out, 1, what);
                for node in nodes {
                    self.tell(&mut out, node, ask.op, key, 2);
                }
            }
        }
        out
    }

    fn tell(&self, out: &mut String, node: NodeId, op: Op, key: &[u8], depth: usize) {
        let Some(part) = self.nodes.get(usize::from(node.0)) else { return };
        let what = match &part.work {
            Work::Pool(pool) => {
                let hashing = self.pools.get(*pool).map_or("", |pool| pool.hashing);
                format!("pool, {hashing}")
            }
            Work::Hash { .. } => "by hash".to_owned(),
            Work::Prefix { prefixes, .. } => match prefixes.found(key) {
                Some(prefix) => format!("by prefix: {}", prefix.escape_ascii()),
                None => "by prefix: none fits".to_owned(),
            },
            Work::Operation { .. } => "by operation".to_owned(),
            Work::RollOver { share, .. } if share.has(key) => "roll-over: moved".to_owned(),
            Work::RollOver { .. } => "roll-over: not moved yet".to_owned(),
            Work::Random { .. } => "any of these".to_owned(),
            Work::WarmUp { .. } => "warm-up".to_owned(),
            Work::Series(series) => of_series(series.on, series.ttl_s_max),
            Work::All { .. } => "all".to_owned(),
            Work::Null => "nobody: a miss".to_owned(),
            Work::Error(message) => format!("nobody: SERVER_ERROR {message}"),
        };
        line(out, depth, format_args!("{}: {what}", part.name));
        if let Work::Random { children } = &part.work {
            for &child in children {
                self.tell(out, child, op, key, depth + 1);
            }
            return;
        }
        match self.plan(node, op, key, 0) {
            Plan::To(child) | Plan::ToAny(child) => self.tell(out, child, op, key, depth + 1),
            Plan::Target(target) => {
                let address = self.targets.get(target.index()).map_or("", |it| &it.address);
                line(out, depth + 1, format_args!("{address}"));
            }
            Plan::Series(series) => {
                for &child in &series.children {
                    self.tell(out, child, op, key, depth + 1);
                }
            }
            Plan::All { children, judge } => {
                let whose = match judge {
                    Judge::Worst => "the worst answer counts".to_owned(),
                    Judge::Fastest => "the first that is no failure answers".to_owned(),
                    Judge::Majority => "what most answer counts".to_owned(),
                    Judge::Nth(at) => format!("all are asked, number {} answers", at + 1),
                };
                line(out, depth + 1, format_args!("({whose})"));
                for &child in children {
                    self.tell(out, child, op, key, depth + 1);
                }
            }
            Plan::WarmUp { cold, warm, .. } => {
                for child in [cold, warm] {
                    self.tell(out, child, op, key, depth + 1);
                }
            }
            Plan::Nothing | Plan::Error(_) => {}
        }
    }
}

fn of_series(on: GoOn, ttl_s_max: Option<u32>) -> String {
    match (on, ttl_s_max) {
        (GoOn::Misses, _) => "the next one on a miss or failure".to_owned(),
        (GoOn::Failures { .. }, Some(ttl)) => {
            format!("the next one on failure, for {ttl} s at most")
        }
        (GoOn::Failures { .. }, None) => "the next one on failure".to_owned(),
    }
}

fn line(out: &mut String, depth: usize, what: std::fmt::Arguments<'_>) {
    let indent = depth * 2;
    // Writing to a string cannot fail.
    writeln!(out, "{:indent$}{what}", "").unwrap_or_default();
}
