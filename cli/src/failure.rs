//! [`Failure`]: why a command ends, and with which exit status: 64 bad flags or configuration, 1 all else.

use std::{io::Write, process::ExitCode};

/// Exit status for bad flags, configuration or rules (`EX_USAGE`).
pub(crate) const EXIT_USAGE: u8 = 64;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user must change a file or a flag; nothing was started.
    Config(anyhow::Error),
    /// Something went wrong while it ran.
    Failed(anyhow::Error),
    /// The command has said on standard output what is wrong.
    Said,
    /// Likewise, and it is the configuration that must change.
    SaidConfig,
}

impl Failure {
    /// Prints the failure, for a person, and says how to exit.
    pub(crate) fn report(failure: &Failure) -> ExitCode {
        let (status, err) = match failure {
            Failure::Config(err) => (EXIT_USAGE, Some(err)),
            Failure::Failed(err) => (1, Some(err)),
            Failure::Said => (1, None),
            Failure::SaidConfig => (EXIT_USAGE, None),
        };
        if let Some(err) = err {
            // A closed standard error is no reason to change the exit status.
            drop(writeln!(std::io::stderr(), "mcsqueal: {err:#}"));
        }
        ExitCode::from(status)
    }
}

impl Failure {
    /// What went wrong, for somebody who says in what context.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Config(err) | Failure::Failed(err) => err,
            Failure::Said | Failure::SaidConfig => anyhow::anyhow!("see above"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(err: anyhow::Error) -> Failure {
        Failure::Failed(err)
    }
}

/// Help and version are a success; everything else that clap says is bad usage.
pub(crate) fn usage(err: &clap::Error) -> ExitCode {
    let status = if err.use_stderr() { EXIT_USAGE } else { 0 };
    drop(err.print());
    ExitCode::from(status)
}
