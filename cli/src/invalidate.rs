//! `mcsqueal invalidate`: keys, or all keys with a prefix or of a table, by hand and through the stream.
//!
//! Nothing is written here: a request is left for whoever leads the stream, see [`stream::Request`].

use std::{
    collections::BTreeSet,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use schemas::{
    config::{OnFloor, Region},
    key::Key,
    record::Scope,
    rules::{Rule, Rules},
};
use stream::{REQUEST_KEYS_MAX, Request};
use tokio::time::{Instant, sleep};

use crate::{args::InvalidateArgs, clock, failure::Failure, load, log, stream::block_on};

/// How often it is asked whether a request is in the stream.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// What floors say of themselves.
const REASON: &str = "invalidated by hand";

/// What is to become stale.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Keys(Vec<Key>),
    Scope(Scope),
}

/// Runs the command.
pub(crate) fn invalidate(args: &InvalidateArgs) -> Result<(), Failure> {
    let (region, rules) = load::region(&args.config)?;
    let wish = wish(args, &rules)?;
    let mut out = io::stdout().lock();
    say(&mut out, &describe(&wish, &region))?;
    if args.dry_run {
        return say(&mut out, "dry run: nothing was done\n");
    }
    if matches!(wish, Wish::Scope(_)) && !args.yes {
        confirm("Go on?", "--yes")?;
    }
    let requests = requests(wish, &region.source.name);
    let waiting = "nobody leads the stream at the moment: the request waits, and is appended by the next one who does";
    block_on(ask(&args.config, &region, requests, args.wait, waiting))?;
    say(&mut io::stdout().lock(), "it is in the stream\n")
}

/// Leaves requests where the stream's leader looks, and waits until they are in the stream; else fails, saying that they wait.
pub(crate) async fn ask(
    config: &Path,
    region: &Region,
    requests: Vec<Request>,
    wait_s: u64,
    waiting: &'static str,
) -> Result<(), Failure> {
    let desk = log::desk(config, region).await?;
    let mut tickets = Vec::new();
    for request in requests {
        tickets.push(desk.leave(&request).await.context("leave a request")?);
    }
    let late = Instant::now() + Duration::from_secs(wait_s);
    while let Some(ticket) = tickets.last() {
        if desk.is_done(ticket).await.context("look whether the request is done")? {
            tickets.pop();
        } else if Instant::now() >= late {
            return Err(Failure::Failed(anyhow!(waiting)));
        } else {
            sleep(ASK_INTERVAL).await;
        }
    }
    Ok(())
}

fn wish(args: &InvalidateArgs, rules: &Rules) -> Result<Wish, Failure> {
    if let Some(table) = &args.table {
        return scope_of_table(rules, table).map(Wish::Scope);
    }
    if !args.prefix.is_empty() {
        if args.prefix.iter().any(String::is_empty) {
            return Ok(Wish::Scope(Scope::All));
        }
        let prefixes = args.prefix.iter().map(|prefix| Arc::from(prefix.as_str())).collect();
        return Ok(Wish::Scope(Scope::Prefixes(prefixes)));
    }
    let key = |text: &String| {
        let key = Key::new(text.clone()).with_context(|| format!("key {text:?}"));
        key.map_err(Failure::Config)
    };
    let keys: Result<BTreeSet<Key>, Failure> = args.keys.iter().map(key).collect();
    Ok(Wish::Keys(keys?.into_iter().collect()))
}

/// What the rules can make of a table.
fn scope_of_table(rules: &Rules, table: &str) -> Result<Scope, Failure> {
    let (schema, name) = table
        .split_once('.')
        .ok_or_else(|| Failure::Config(anyhow!("--table {table:?}: write SCHEMA.TABLE")))?;
    let about = rules.iter().filter(|rule| rule.matches(schema, name));
    let prefixes: BTreeSet<&str> = about.flat_map(Rule::prefixes).collect();
    if prefixes.is_empty() {
        return Err(Failure::Config(anyhow!("--table {table}: no rule is about this table")));
    }
    if prefixes.contains("") {
        return Ok(Scope::All);
    }
    Ok(Scope::Prefixes(prefixes.into_iter().map(Arc::from).collect()))
}

fn requests(wish: Wish, source: &str) -> Vec<Request> {
    match wish {
        Wish::Scope(scope) => vec![Request::floor(source, scope, REASON)],
        Wish::Keys(keys) => {
            let some = |keys: &[Key]| Request::keys(source, keys, clock::now());
            keys.chunks(REQUEST_KEYS_MAX).map(some).collect()
        }
    }
}

fn describe(wish: &Wish, region: &Region) -> String {
    let nodes: usize = region.clusters.iter().map(|cluster| cluster.nodes.len()).sum();
    let clusters = region.clusters.len();
    match wish {
        Wish::Keys(keys) => {
            let shown: Vec<String> = keys.iter().take(10).map(Key::to_string).collect();
            let more = if keys.len() > shown.len() { " ..." } else { "" };
            format!(
                "{} key(s), each on its node of {clusters} cluster(s): {}{more}\n",
                keys.len(),
                shown.join(" ")
            )
        }
        Wish::Scope(scope) => {
            let what = match scope {
                Scope::All => "every key".to_owned(),
                Scope::Prefixes(prefixes) => {
                    let prefixes: Vec<String> =
                        prefixes.iter().map(|prefix| format!("{prefix}*")).collect();
                    format!("every key {}", prefixes.join(" "))
                }
            };
            let mut text = format!("{what}, on {nodes} node(s) of {clusters} cluster(s)\n");
            for cluster in &region.clusters {
                let becomes = match cluster.on_floor {
                    OnFloor::FlushAll => {
                        "stock memcached cannot list keys, so each of its nodes is emptied (on_floor)"
                    }
                    OnFloor::Alarm => {
                        "stock memcached cannot list keys, so there is only an alarm, and stale values stay (on_floor)"
                    }
                };
                text.push_str(&format!("  cluster {}: {becomes}\n", cluster.name));
            }
            text
        }
    }
}

/// Asks a person; whoever is none must say so with `flag`.
pub(crate) fn confirm(question: &str, flag: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Config(anyhow!("this must be confirmed: give {flag}")));
    }
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ").and_then(|()| err.flush()).context("ask")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("read the answer")?;
    if matches!(line.trim(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::Failed(anyhow!("not confirmed; nothing was done")))
}

/// Prints what a tool has to say.
pub(crate) fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).context("write to standard output").map_err(Failure::Failed)
}
