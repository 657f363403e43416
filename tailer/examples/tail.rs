//! Prints what a live server's changes mean: `cargo run -p tailer --example tail -- ADDRESS RULES STREAM [user [password]]`.
//!
//! One line for each record, until Ctrl-C. The stream is an ordinary file, so a second run goes on where the first
//! stopped.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that prints")]

use std::{path::Path, sync::Arc, time::Duration};

use schemas::{
    cursor::{Partition, Place},
    record::{Record, UnixMicros},
    rules::Rules,
};
use stream::{
    Read, ReadLimit, Reader,
    embedded::{Embedded, Options},
};
use tailer::{Metrics, Password, Settings, Status, run};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, rules, path, account @ ..] = &args[..] else {
        return Err("usage: tail ADDRESS RULES STREAM [user [password]]".into());
    };
    let rules = Arc::new(Rules::parse(rules, &std::fs::read_to_string(rules)?)?);
    let options = Options {
        partitions: 2,
        retention_bytes: 1 << 30,
        retention_age: Duration::from_secs(3600),
        now,
    };
    let log = Embedded::open(Path::new(path), options)?;
    let mut settings = Settings::new("example", address.parse()?, 4217);
    settings.progress_interval = Duration::from_secs(5);
    if let Some(user) = account.first() {
        settings.user.clone_from(user);
    }
    settings.password = Password(account.get(1).cloned().unwrap_or_default());
    let mut readers = Vec::new();
    for partition in (0..log.reader().partitions()).map(Partition) {
        let head = log.reader().head(partition).await?;
        readers.push(tokio::spawn(print(log.reader(), partition, head)));
    }
    let shutdown = CancellationToken::new();
    let (status, mut seen) = watch::channel(Status::default());
    tokio::spawn(async move {
        while seen.changed().await.is_ok() {
            let status = seen.borrow_and_update().clone();
            if let Some(error) = status.last_error {
                eprintln!("error: {error}");
            }
        }
    });
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let (_keep, rules) = watch::channel(rules);
    run(settings, rules, log, Metrics::default(), status, shutdown).await?;
    Ok(())
}

async fn print(mut reader: impl Reader, partition: Partition, mut after: Place) {
    let limit = ReadLimit { records_max: 1000, bytes_max: 1 << 20 };
    loop {
        match reader.read_after(partition, after, limit).await {
            Ok(Read::Entries(entries)) if entries.is_empty() => reader.changed().await,
            Ok(Read::Entries(entries)) => {
                for entry in entries {
                    after = entry.place;
                    show(partition, &entry.record);
                }
            }
            Ok(Read::Gap { resume }) => after = resume,
            Err(error) => return eprintln!("partition {partition}: {error}"),
        }
    }
}

fn show(partition: Partition, record: &Record) {
    let Record::Invalidations(invalidations) = record else {
        return println!("{partition} {record:?}");
    };
    for transaction in &invalidations.transactions {
        let keys = transaction.keys.iter().map(|key| {
            format!(
                "{}[{} {} {}]",
                String::from_utf8_lossy(key.key.as_bytes()),
                key.operation,
                key.table,
                key.rule
            )
        });
        let (version, last) = (transaction.version, if transaction.last { "" } else { " ..." });
        println!("{partition} {version} {}{last}", keys.collect::<Vec<_>>().join(" "));
    }
}

fn now() -> UnixMicros {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
