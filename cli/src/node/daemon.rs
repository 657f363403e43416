//! Going into the background, and becoming another user.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use super::args::NodeArgs;
use crate::failure::Failure;

/// Tells the process in the background that it is the one.
const CHILD: &str = "MCSQUEAL_NODE_DAEMON";
const READY_POLL: Duration = Duration::from_millis(20);
const READY_POLLS_MAX: u32 = 500;

/// Whether this process is the one in the background.
pub(super) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Starts this program again, in a process group of its own, and waits until every socket is bound.
pub(super) fn spawn(args: &NodeArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().context("find this program")?;
    let ready = std::env::temp_dir().join(format!("mcsqueal-node-{}.ready", std::process::id()));
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(CHILD, "1").process_group(0);
    if args.ready_file.is_none() {
        command.arg("--ready-file").arg(&ready);
    }
    let path = args.ready_file.clone().unwrap_or_else(|| ready.clone());
    drop(std::fs::remove_file(&path));
    // What it has to say before it is ready is said to whoever started it.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().context("start in the background")?;
    for _ in 0..READY_POLLS_MAX {
        if path.exists() {
            drop(std::fs::remove_file(&ready));
            return Ok(());
        }
        if child.try_wait().context("wait for the background")?.is_some() {
            return Err(Failure::Said);
        }
        thread::sleep(READY_POLL);
    }
    Err(Failure::Failed(anyhow!("the process in the background is not ready in time")))
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
