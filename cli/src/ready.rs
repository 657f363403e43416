//! Files that somebody waits for: which addresses a process has bound, and who it is.

use std::{net::SocketAddr, path::Path};

use anyhow::Context;

use crate::failure::Failure;

/// What a process has bound, an address to a line.
pub(crate) fn lines(
    tcp: &[SocketAddr],
    http: Option<SocketAddr>,
    control: Option<SocketAddr>,
) -> String {
    let mut lines: Vec<String> = tcp.iter().map(|address| format!("tcp={address}\n")).collect();
    lines.extend(http.map(|address| format!("http={address}\n")));
    lines.extend(control.map(|address| format!("control={address}\n")));
    lines.concat()
}

/// Written beside and renamed, so that whoever waits for the file reads it whole.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let partial = path.with_extension("partial");
    let written = std::fs::write(&partial, text);
    let renamed = written.and_then(|()| std::fs::rename(&partial, path));
    renamed.with_context(|| format!("write {}", path.display())).map_err(Failure::Failed)
}
