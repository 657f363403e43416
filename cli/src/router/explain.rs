//! `mcsqueal route explain`: the way of a request, in words.

use std::io;

use anyhow::anyhow;
use client::route::{Ask, Op};

use super::{ExplainRouteArgs, RouteCommand, config};
use crate::{failure::Failure, invalidate::say};

/// Runs the command.
pub(crate) fn explain(command: &RouteCommand) -> Result<(), Failure> {
    let RouteCommand::Explain(args) = command;
    say(&mut io::stdout().lock(), &text(args)?)
}

fn text(args: &ExplainRouteArgs) -> Result<String, Failure> {
    let routes = config::routes(&args.config).map_err(Failure::Config)?;
    let ops = match &args.operation {
        None => vec![Op::Get, Op::Set, Op::Delete],
        Some(name) => {
            let known = Op::ALL.into_iter().find(|op| op.to_string() == *name);
            let names = Op::ALL.map(|op| op.to_string()).join(" ");
            let unknown = || Failure::Config(anyhow!("there is no command {name:?}: {names}"));
            vec![known.ok_or_else(unknown)?]
        }
    };
    let each = ops.into_iter().map(|op| routes.explain(&Ask { op, key: args.key.as_bytes() }));
    Ok(each.collect())
}
