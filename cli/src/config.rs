//! `mcsqueal config push | status | withdraw`: what all processes of a region run. They are told by a note beside the stream, and each
//! says by a note what it runs.

use std::io;

use ::stream::Board;
use anyhow::{Context, anyhow};

use crate::{
    args::{ConfigCommand, PushArgs, StatusArgs},
    failure::Failure,
    invalidate::say,
    load, log,
    reload::{Process, Published, note_of},
    stream::block_on,
};

/// Runs the command.
pub(crate) fn config(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Push(args) => push(args),
        ConfigCommand::Status(args) => status(args),
        ConfigCommand::Withdraw(args) => withdraw(args),
    }
}

fn push(args: &PushArgs) -> Result<(), Failure> {
    let (region, _) = load::region(&args.config)?;
    let text = load::read(&args.config)?;
    let mut rules = Vec::new();
    for path in &region.rules {
        rules.push((path.display().to_string(), load::read(&load::beside(&args.config, path))?));
    }
    block_on(async {
        let board = log::board(&args.config, &region).await?;
        let name = note_of(&region.name);
        let newest = published(&board, &name).await?;
        let version = newest.map_or(0, |newest| newest.version).saturating_add(1);
        let published = Published::new(version, &text, rules).map_err(Failure::Config)?;
        let said = format!("version {version}, {:016x}", published.hash());
        // Every process must be able to put it into a file of its own; this one is such a file.
        published.merged(&args.config, &text).map_err(Failure::Config)?;
        if args.dry_run {
            return say(&mut io::stdout().lock(), &format!("dry run: {said} is not published\n"));
        }
        board.put(&name, published.encode()?).await.context("publish it")?;
        if self::published(&board, &name).await?.as_ref() != Some(&published) {
            return Err(Failure::Failed(anyhow!("somebody else has published at the same time")));
        }
        say(&mut io::stdout().lock(), &format!("published: {said}\n"))
    })
}

async fn published(board: &Board, name: &str) -> Result<Option<Published>, Failure> {
    let notes = board.fresh().await.context("read the notes beside the stream")?;
    let note = notes.get(name).map(|note| Published::decode(note)).transpose();
    note.map_err(Failure::Failed)
}

fn withdraw(args: &StatusArgs) -> Result<(), Failure> {
    let (region, _) = load::region(&args.config)?;
    block_on(async {
        let board = log::board(&args.config, &region).await?;
        board.put(&note_of(&region.name), Vec::new()).await.context("take it back")?;
        say(&mut io::stdout().lock(), "every process runs its own files\n")
    })
}

fn status(args: &StatusArgs) -> Result<(), Failure> {
    let (region, _) = load::region(&args.config)?;
    block_on(async {
        let board = log::board(&args.config, &region).await?;
        let notes = board.fresh().await.context("read the notes beside the stream")?;
        let newest = published(&board, &note_of(&region.name)).await?;
        let prefix = Process::notes_of(&region.name);
        let of_ours = notes.iter().filter(|(name, _)| name.starts_with(&prefix));
        // What a newer mcsqueal says may not be understood here.
        let processes = of_ours.filter_map(|(_, note)| serde_json::from_slice(note).ok());
        let (text, same) = table(newest.as_ref(), &processes.collect::<Vec<_>>());
        say(&mut io::stdout().lock(), &text)?;
        if same { Ok(()) } else { Err(Failure::Said) }
    })
}

/// For people; and whether all processes that are there run the same, which is what was published.
fn table(newest: Option<&Published>, processes: &[Process]) -> (String, bool) {
    let mut out = match newest {
        Some(newest) => format!("published: version {}, {:016x}\n", newest.version, newest.hash()),
        None => "nothing is published: every process runs its own files\n".to_owned(),
    };
    let (mut hashes, mut same) = (Vec::new(), true);
    for process in processes {
        let Process { id, daemon, config, .. } = process;
        let version = config
            .published
            .map_or_else(|| "own files".to_owned(), |version| format!("version {version}"));
        let mut line = format!("{id}\t{daemon}\t{version}\t{}", config.hash);
        if process.is_silent() {
            line.push_str("\tsilent");
        } else {
            hashes.push(config.hash.clone());
            same &= config.refused.is_none();
        }
        if let Some(refused) = &config.refused {
            line.push_str(&format!("\trefused: {}", refused.replace(['\n', '\t'], " ")));
        }
        out.push_str(&line);
        out.push('\n');
    }
    hashes.extend(newest.map(|newest| format!("{:016x}", newest.hash())));
    hashes.dedup();
    (out, same && hashes.len() <= 1)
}
