//! `mcsqueal stream tail`: the records, decoded, one line per key.

use std::io::{self, Write};

use anyhow::Context;
use schemas::{
    cursor::{Partition, Place},
    record::{Record, Scope},
};
use serde_json::{Value, json};
use stream::{AnyReader, Entry, Reader};

use super::{Found, begin, next, select::Select, time};
use crate::{args::TailArgs, failure::Failure};

/// Prints until the heads, or for ever with `--follow`.
pub(super) async fn tail(
    args: &TailArgs,
    select: &Select,
    mut reader: AnyReader,
) -> Result<(), Failure> {
    let partitions: Vec<Partition> = match args.partition {
        Some(partition) => vec![Partition(partition)],
        None => (0..reader.partitions()).map(Partition).collect(),
    };
    let mut places: Vec<(Partition, Place)> = Vec::new();
    for partition in partitions {
        places.push((partition, begin(&reader, partition, args.from).await?));
    }
    let mut out = Printer { out: io::BufWriter::new(io::stdout()), left: args.limit, args };
    loop {
        let mut news = false;
        for (partition, place) in &mut places {
            match next(&reader, *partition, place).await? {
                Found::Gap { from, resume } => {
                    news = true;
                    out.line(&json!({
                        "kind": "gap", "partition": partition.0, "from": from.to_string(),
                        "place": resume.to_string(),
                    }))?;
                }
                Found::Entries(entries) => {
                    news |= !entries.is_empty();
                    for entry in &entries {
                        show(*partition, entry, select, &mut out)?;
                    }
                }
            }
            if out.is_done() {
                return out.flush();
            }
        }
        out.flush()?;
        if !news {
            if !args.follow {
                return Ok(());
            }
            reader.changed().await;
        }
    }
}

fn show(
    partition: Partition,
    entry: &Entry,
    select: &Select,
    out: &mut Printer<'_>,
) -> Result<(), Failure> {
    if !select.wants_version_of(&entry.record) {
        return Ok(());
    }
    let line = |kind: &str, more: Value| {
        let mut line = json!({
            "kind": kind, "partition": partition.0, "place": entry.place.to_string(),
            "at": time(entry.appended_at),
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        line
    };
    match &entry.record {
        Record::Invalidations(invalidations) => {
            for transaction in &invalidations.transactions {
                for invalidation in select.keys_of(transaction) {
                    out.line(&line(
                        "key",
                        json!({
                            "version": transaction.version.to_string(),
                            "operation": invalidation.operation.to_string(),
                            "table": &*invalidation.table, "rule": &*invalidation.rule,
                            "key": invalidation.key.to_string(),
                        }),
                    ))?;
                }
            }
            Ok(())
        }
        Record::Floor(floor) if select.wants_floor(floor) => {
            let scope = match &floor.scope {
                Scope::All => json!("all"),
                Scope::Prefixes(prefixes) => {
                    json!(prefixes.iter().map(|prefix| &**prefix).collect::<Vec<_>>())
                }
            };
            let version = floor.version.to_string();
            let more = json!({"version": version, "scope": scope, "reason": &*floor.reason});
            out.line(&line("floor", more))
        }
        Record::Progress(progress) if select.wants_all_kinds() && out.args.progress => {
            let version = progress.version.to_string();
            let executed = progress.executed.to_string();
            out.line(&line("progress", json!({"version": version, "executed": executed})))
        }
        Record::Epoch(start) if select.wants_all_kinds() => {
            let origin = format!("{:?}", start.origin);
            let more = json!({
                "epoch": start.epoch, "first": start.first, "lossless": start.lossless,
                "origin": origin,
            });
            out.line(&line("epoch", more))
        }
        Record::TermStart(start) if select.wants_all_kinds() => {
            out.line(&line("term", json!({"previous": start.previous.to_string()})))
        }
        Record::Floor(_) | Record::Progress(_) | Record::Epoch(_) | Record::TermStart(_) => Ok(()),
    }
}

struct Printer<'a> {
    out: io::BufWriter<io::Stdout>,
    left: Option<u64>,
    args: &'a TailArgs,
}

impl Printer<'_> {
    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// JSON as it is; for people the values, in the order in which they were named.
    fn line(&mut self, line: &Value) -> Result<(), Failure> {
        if self.is_done() {
            return Ok(());
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        let text = if self.args.json { line.to_string() } else { for_people(line) };
        writeln!(self.out, "{text}").context("write to standard output").map_err(Failure::Failed)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().context("write to standard output").map_err(Failure::Failed)
    }
}

/// Time, place and kind, then the rest by name.
fn for_people(line: &Value) -> String {
    let text = |name: &str| match line.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    let head = format!("{} {}@{}", text("at"), text("partition"), text("place"));
    if text("kind") == "key" {
        let names = ["version", "operation", "table", "rule", "key"];
        return format!("{head} {}", names.map(text).join(" "));
    }
    let known = ["at", "partition", "place", "kind"];
    let rest = line.as_object().into_iter().flatten();
    let rest = rest.filter(|(name, _)| !known.contains(&name.as_str()));
    let rest: Vec<String> = rest.map(|(name, _)| format!("{name}={}", text(name))).collect();
    format!("{head} [{}] {}", text("kind"), rest.join(" "))
}
