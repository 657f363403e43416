//! Going into the background, and becoming another user.
//!
//! A process with threads cannot be forked, so the program is started again; its standard output leads to the one that started
//! it, which waits for a line there and then ends.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use nix::unistd::{User, dup2_stderr, dup2_stdout, geteuid, initgroups, setgid, setsid, setuid};

use crate::failure::{EXIT_USAGE, Failure};

/// Tells the process in the background that it is the one.
const CHILD: &str = "MCSQUEAL_NODE_DAEMON";
/// What it says when every socket is bound.
const READY: &str = "ready";

/// What becomes of standard error in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stderr {
    /// It stays: somebody wants to read the log.
    Keep,
    Close,
}

/// Whether this process is the one in the background.
pub(super) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Starts this program again, and waits until every socket is bound, or it has failed; then it has said why.
pub(super) fn spawn() -> Result<(), Failure> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(CHILD, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("start in the background")?;
    let stdout = child.stdout.take().context("listen to the background")?;
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said).context("listen to the background")?;
    if said.trim_end() == READY {
        return Ok(());
    }
    let status = child.wait().context("wait for the background")?;
    Err(if status.code() == Some(EXIT_USAGE.into()) { Failure::SaidConfig } else { Failure::Said })
}

/// In the background: leaves the terminal's session.
pub(super) fn begin() -> Result<()> {
    setsid().context("-d: begin a session").map(drop)
}

/// In the background: tells whoever waits that every socket is bound, and lets go of what it has from him.
pub(super) fn ready(stderr: Stderr) -> Result<()> {
    writeln!(std::io::stdout(), "{READY}").context("-d: tell that we are ready")?;
    let nowhere = OpenOptions::new().write(true).open("/dev/null").context("-d: open /dev/null")?;
    dup2_stdout(&nowhere).context("-d: close standard output")?;
    if stderr == Stderr::Close {
        dup2_stderr(&nowhere).context("-d: close standard error")?;
    }
    Ok(())
}

/// Gives up root's rights; whoever is not root stays who he is.
pub(super) fn become_user(name: &str) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_name(name).context("-u: look the user up")?;
    let user = user.with_context(|| format!("-u: there is no user {name:?}"))?;
    let c_name = std::ffi::CString::new(name).context("-u")?;
    initgroups(&c_name, user.gid).context("-u: take the user's groups")?;
    setgid(user.gid).context("-u: take the user's group")?;
    setuid(user.uid).with_context(|| format!("-u: become {name}"))
}
