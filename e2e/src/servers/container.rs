//! [`Container`]: a child process in a container, where the environment says so. Its files are at the same paths inside and outside, and it has
//! the machine's network, where it listens on 127.0.0.1 only.

use std::{
    env,
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

use super::{RUN_DIR_ENV, child::Launch};

/// The engine's socket; without it, there are no containers.
const CONTAINERS_ENV: &str = "MCSQUEAL_CONTAINERS";
/// The engine's client, if it is not on the PATH.
const CLIENT_ENV: &str = "MCSQUEAL_DOCKER";
/// By which containers of tests are found and removed.
const LABEL: &str = "mcsqueal.e2e";
/// Programs, as they end a path or stand alone among the arguments; their images, and the memory that they may take.
const IMAGES: [(&str, &str, &str); 3] = [
    ("mysqld", "mcsqueal-e2e/mysql", "1g"),
    ("kafka.Kafka", "mcsqueal-e2e/kafka", "1g"),
    ("mcsqueal", "mcsqueal-e2e/mcsqueal", "512m"),
];

/// Names have numbers.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// See the module.
#[derive(Debug)]
pub(super) struct Container {
    socket: String,
    name: String,
}

impl Container {
    /// The container for `launch`, and what to start instead; `None` if it runs without.
    pub(super) fn wrap(launch: &Launch) -> Option<(Container, Vec<OsString>)> {
        let socket = env::var(CONTAINERS_ENV).ok()?;
        let (_, image, memory) = IMAGES
            .into_iter()
            .find(|(program, ..)| launch.argv.iter().any(|it| is(it, program)))?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("mcsqueal-e2e-{}-{number}", std::process::id());
        let shared = env::var(RUN_DIR_ENV).map(OsString::from);
        let shared = shared.unwrap_or_else(|_| launch.directory.clone().into_os_string());
        let mut volume = shared.clone();
        volume.push(":");
        volume.push(shared);
        let mut argv = vec![client()];
        argv.extend(["--host", &socket, "run", "--rm", "--network", "host"].map(Into::into));
        argv.extend(["--name", &name, "--label", LABEL, "--memory", memory].map(Into::into));
        argv.extend(["--volume".into(), volume, "--workdir".into()]);
        argv.push(launch.directory.clone().into());
        for (name, value) in &launch.env {
            argv.extend(["--env".into(), format!("{name}={value}").into()]);
        }
        argv.push(image.into());
        argv.extend(launch.argv.iter().cloned());
        Some((Container { socket, name }, argv))
    }

    /// `kill`, `pause`, `unpause` or `rm --force`.
    pub(super) fn tell(&self, words: &[&str]) -> Result<()> {
        let said = Command::new(client())
            .args(["--host", &self.socket])
            .args(words)
            .arg(&self.name)
            .stdin(Stdio::null())
            .output()
            .context("run docker")?;
        if !said.status.success() {
            bail!("docker {}: {}", words.join(" "), String::from_utf8_lossy(&said.stderr));
        }
        Ok(())
    }
}

fn client() -> OsString {
    env::var_os(CLIENT_ENV).unwrap_or_else(|| "docker".into())
}

fn is(word: &OsString, program: &str) -> bool {
    word == program || Path::new(word).file_name().is_some_and(|name| name == program)
}
