//! The router under test: `mcsqueal router`.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
};

use anyhow::{Context, Result};

use super::{Servers, served::Served};

/// A running (or ended) router.
#[derive(Debug)]
pub struct RunningRouter(Served);

impl Servers {
    /// Starts a router with this file; `DIR` in it stands for a folder of its own. It has a side port, and a socket for handing over.
    pub async fn router(&self, file: &str) -> Result<RunningRouter> {
        self.router_with(&[], file).await
    }

    /// Likewise, with flags.
    pub async fn router_with(&self, flags: &[&str], file: &str) -> Result<RunningRouter> {
        self.router_under(&[], flags, file).await
    }

    /// Likewise, where names are those of `hosts`, in the form of `/etc/hosts`; an error where the kernel does not let us.
    pub async fn router_among(&self, hosts: &Path, file: &str) -> Result<RunningRouter> {
        let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
        let under = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
        self.router_under(&under, &[], file).await
    }

    async fn router_under(
        &self,
        under: &[&str],
        flags: &[&str],
        file: &str,
    ) -> Result<RunningRouter> {
        let directory = self.new_directory("router")?;
        write(directory.path(), file)?;
        let path = directory.path().join("router.toml").display().to_string();
        let flags = [&["--config", &path], flags].concat();
        let served = Served::start_under(under, self, "router", directory, &flags).await?;
        Ok(RunningRouter(served))
    }
}

impl RunningRouter {
    /// `host:port` of the side port.
    pub fn http(&self) -> &str {
        self.0.http().unwrap_or_default()
    }

    /// Another file; the router takes it up by itself, or when it is told.
    pub fn write(&self, file: &str) -> Result<()> {
        write(self.directory(), file)
    }

    /// `kill -9`, then another one on the same ports.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.restart().await
    }
}

impl Deref for RunningRouter {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0
    }
}

impl DerefMut for RunningRouter {
    fn deref_mut(&mut self) -> &mut Served {
        &mut self.0
    }
}

fn write(directory: &Path, file: &str) -> Result<()> {
    let text =
        format!("handover = \"take\"\n{}", file.replace("DIR", &directory.display().to_string()));
    let (partial, path) = (directory.join("router.partial"), directory.join("router.toml"));
    std::fs::write(&partial, text).context("write a router file")?;
    std::fs::rename(partial, path).context("write a router file")
}
