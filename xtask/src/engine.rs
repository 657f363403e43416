//! Servers out of container images, where the distribution has no packages for us.
//!
//! A container is made and never started: its `/usr` is copied out, and the server runs like one that was unpacked
//! from packages, with its own dynamic loader. So tests can freeze it, kill it and start it again as any other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::apt::on_path;

/// Whether an image may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// With `--pull`.
    Allowed,
    /// Only images that are there already.
    Never,
}

impl Pull {
    /// What the command line says; takes the option out of it.
    pub(crate) fn take(args: &[String]) -> (Pull, Vec<String>) {
        let rest: Vec<String> = args.iter().filter(|arg| *arg != "--pull").cloned().collect();
        (if rest.len() < args.len() { Pull::Allowed } else { Pull::Never }, rest)
    }
}

/// A container engine's command line.
pub(crate) struct Engine {
    program: PathBuf,
}

impl Engine {
    /// Docker or Podman, if the PATH has one.
    pub(crate) fn find() -> Option<Engine> {
        let program = ["docker", "podman"].into_iter().find_map(on_path)?;
        Some(Engine { program })
    }

    /// Copies the programs of `image` into the folder `into`.
    pub(crate) fn unpack(&self, image: &str, pull: Pull, into: &Path) -> Result<()> {
        self.copy(image, "/usr", pull, into)
    }

    /// Copies one folder of `image` into the folder `into`.
    pub(crate) fn copy(&self, image: &str, folder: &str, pull: Pull, into: &Path) -> Result<()> {
        if let Err(missing) = self.run(&["image", "inspect", image]) {
            ensure!(pull == Pull::Allowed, "{missing} (pull it, or give --pull)");
            println!("pulling {image}");
            self.run(&["pull", "--quiet", image])?;
        }
        fs::create_dir_all(into).context("make the folder to unpack into")?;
        let container = self.run(&["create", image])?;
        let container = container.trim();
        let copied =
            self.run(&["cp", &format!("{container}:{folder}"), &into.display().to_string()]);
        self.run(&["rm", container])?;
        copied.map(drop)
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.program).args(args).stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } =
            output.with_context(|| format!("run {}", self.program.display()))?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let last = stderr.lines().last().unwrap_or_default();
        let name = self.program.file_name().unwrap_or_default().display();
        ensure!(status.success(), "{name} {}: {last}", args.join(" "));
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! An engine that is a script.

    use std::{
        os::unix::fs::PermissionsExt,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    use super::*;

    /// Says what it was asked in `asked`; has the image only after a pull.
    const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/asked"
case "$1" in
    image) test -e "$here/image" || { echo "no such image" >&2; exit 1; } ;;
    pull) touch "$here/image" ;;
    create) echo c0ffee ;;
    cp) case "$2" in
        *:/usr) mkdir -p "$3/usr/local/bin" && echo memcached > "$3/usr/local/bin/memcached" ;;
        *:/opt/kafka/libs) mkdir -p "$3/libs" && echo jar > "$3/libs/kafka_2.13-4.1.0.jar" ;;
        esac ;;
esac
"#;

    /// A program that is being written cannot be run, and a process that another test starts at that moment holds it
    /// open for writing; so one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    pub(crate) fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn engine(folder: &Path) -> Engine {
        let program = folder.join("docker");
        if !program.exists() {
            fs::write(&program, SCRIPT).expect("write a script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make it run");
        }
        Engine { program }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        fake::{alone, engine as fake},
        *,
    };

    #[test]
    fn an_image_is_pulled_only_if_that_is_allowed() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let engine = fake(folder.path());
        let into = folder.path().join("servers/memcached");
        let refused = engine.unpack("memcached:1.6", Pull::Never, &into).expect_err("no image");
        assert_eq!(
            refused.to_string(),
            "docker image inspect memcached:1.6: no such image (pull it, or give --pull)"
        );
        for pull in [Pull::Allowed, Pull::Never] {
            engine.unpack("memcached:1.6", pull, &into).expect("an image");
        }
        assert!(into.join("usr/local/bin/memcached").is_file());
        let asked = fs::read_to_string(folder.path().join("asked")).expect("what was asked");
        let unpacked = |prefix: &str| {
            format!("{prefix}create memcached:1.6\ncp c0ffee:/usr {}\nrm c0ffee\n", into.display())
        };
        let expected = [
            "image inspect memcached:1.6\n".to_owned(),
            unpacked("image inspect memcached:1.6\npull --quiet memcached:1.6\n"),
            unpacked("image inspect memcached:1.6\n"),
        ];
        assert_eq!(asked, expected.concat());
    }

    #[test]
    fn a_failure_names_the_command_and_leaves_no_container() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let engine = fake(folder.path());
        fs::write(folder.path().join("image"), "").expect("an image");
        // The copy fails: a file stands where the folder should.
        let into = folder.path().join("into");
        fs::create_dir(&into).expect("a folder");
        fs::write(into.join("usr"), "").expect("a file in the way");
        let failed = engine.unpack("mysql:9", Pull::Never, &into).expect_err("a file in the way");
        let failed = failed.to_string();
        assert!(failed.contains("docker cp c0ffee:/usr"), "{failed}");
        let asked = fs::read_to_string(folder.path().join("asked")).expect("what was asked");
        assert!(asked.ends_with("rm c0ffee\n"), "{asked}");
    }

    #[test]
    fn pull_is_an_option_of_every_command() {
        let args = ["--stage".to_owned(), "--pull".to_owned(), "servers".to_owned()];
        let (pull, rest) = Pull::take(&args);
        assert_eq!((pull, rest.join(" ")), (Pull::Allowed, "--stage servers".to_owned()));
        assert_eq!(Pull::take(&rest).0, Pull::Never);
    }
}
