//! Containers for end-to-end tests: an engine, and images of what this machine has.
//!
//! An engine that runs is used. Else, as root, one is unpacked from the distribution's packages into the cache and started with a folder, a socket
//! and settings of its own; what we have started is stopped again. It makes no rules for packets: containers use the machine's network, and
//! everything in them listens on 127.0.0.1.
//!
//! Images need no registry. They are made of unpacked packages: one base that all share, and on it a server at the very path at which it lies on
//! this machine, so that it is started by the same words inside and outside.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    apt::{is_program, on_path},
    servers::{self, Servers},
    stages,
};

/// The variable that tells tests to start servers in containers, and at which socket the engine listens.
const CONTAINERS_ENV: &str = "MCSQUEAL_CONTAINERS";
/// The variable that names the engine's client.
const CLIENT_ENV: &str = "MCSQUEAL_DOCKER";
/// Every container of ours has it. `e2e/src/servers/container.rs` has it too.
const LABEL: &str = "mcsqueal.e2e";
const BASE: &str = "mcsqueal-e2e/base";
/// The engine, and what runs containers for it.
const ENGINE_PACKAGES: [&str; 3] = ["docker.io", "containerd", "runc"];
/// A C library, what Java and C++ programs need, and a shell.
const BASE_PACKAGES: [&str; 14] = [
    "base-files",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "dash",
    "bash",
    "coreutils",
    "libtinfo6",
    "libselinux1",
    "libacl1",
    "libattr1",
    "libgmp10",
    "libpcre2-8-0",
];
/// Where Debian keeps Java.
const JVMS: &str = "/usr/lib/jvm";
const READY_POLLS: u32 = 150;
const POLL: Duration = Duration::from_millis(200);
/// How long our engine may take to end its containers.
const STOP_POLLS: u32 = 100;

/// An engine that answers.
pub(crate) struct Engine {
    docker: PathBuf,
    socket: String,
    /// If we have started it.
    ours: Option<Child>,
}

impl Engine {
    /// One that runs; else one that is installed, if need be, and started.
    pub(crate) fn provide() -> Result<Engine> {
        let running = std::env::var("DOCKER_HOST");
        let socket = running.unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        if let Some(docker) = on_path("docker") {
            let engine = Engine { docker, socket, ours: None };
            if engine.docker(&["version", "--format", "{{.Server.Version}}"]).is_ok() {
                return Ok(engine);
            }
        }
        ensure!(is_root(), "no container engine answers, and only root can start one");
        Engine::start(&servers::cache()?.join("engine"))
    }

    fn start(folder: &Path) -> Result<Engine> {
        let root = folder.join("root");
        unpack(&ENGINE_PACKAGES, &root, "usr/sbin/dockerd")?;
        let state = folder.join("state");
        fs::create_dir_all(&state).context("make the engine's folder")?;
        let (socket, pid) = (state.join("docker.sock"), state.join("docker.pid"));
        let socket = format!("unix://{}", socket.display());
        let config = format!(
            "{{\"ip\": \"127.0.0.1\", \"data-root\": \"{data}/data\", \"exec-root\": \"{data}/exec\", \"pidfile\": \"{}\",\n \
             \"hosts\": [\"{socket}\"], \"iptables\": false, \"ip6tables\": false, \"ip-masq\": false, \"bridge\": \"none\"}}\n",
            pid.display(),
            data = state.display()
        );
        let file = state.join("daemon.json");
        fs::write(&file, config).context("write the engine's settings")?;
        let log = fs::File::create(state.join("log")).context("make the engine's log")?;
        let programs = format!("{0}/usr/sbin:{0}/usr/bin", root.display());
        let path = std::env::var("PATH").unwrap_or_default();
        println!("starting a container engine in {}", state.display());
        let daemon = root.join("usr/sbin/dockerd").into_os_string();
        let ours = stages::ends_with_us(&[daemon])
            .arg("--config-file")
            .arg(&file)
            .env("PATH", format!("{programs}:{path}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the engine's log")?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let docker = on_path("docker").unwrap_or_else(|| root.join("usr/bin/docker"));
        let mut engine = Engine { docker, socket, ours: Some(ours) };
        for _ in 0..READY_POLLS {
            if engine.docker(&["version", "--format", "{{.Server.Version}}"]).is_ok() {
                return Ok(engine);
            }
            if let Some(Some(status)) = engine.ours.as_mut().map(|it| it.try_wait().ok().flatten())
            {
                let said = fs::read_to_string(state.join("log")).unwrap_or_default();
                bail!("dockerd ended with {status}: {}", said.lines().last().unwrap_or_default());
            }
            sleep(POLL);
        }
        bail!("the engine does not answer")
    }

    /// What tells tests to use it.
    pub(crate) fn env(&self) -> [(&'static str, PathBuf); 2] {
        [(CONTAINERS_ENV, self.socket.clone().into()), (CLIENT_ENV, self.docker.clone())]
    }

    /// Builds the images: the base, and one for each of the servers and for `program`.
    pub(crate) fn build_images(&self, found: &Servers, program: &Path) -> Result<()> {
        let cache = servers::cache()?;
        let base = cache.join("base");
        make_base(&base)?;
        self.build(BASE, "FROM scratch\nCOPY . /\n", &base, &[(base.clone(), PathBuf::from("."))])?;
        let on_base = format!("FROM {BASE}\nCOPY . /\n");
        let work = cache.join("images");
        let tree = |from: &Path| (from.to_owned(), inside(from));
        let mysql = cache.join("servers/mysql");
        ensure!(
            mysql.is_dir(),
            "MySQL was not unpacked on this machine, so no image can be made of it"
        );
        self.build("mcsqueal-e2e/mysql", &on_base, &work, &[tree(&mysql)])?;
        let java = found.first_word("kafka").context("there is no Kafka")?;
        let java = fs::canonicalize(java).context("find Java")?;
        let home = java.ancestors().nth(2).context("Java's home")?.to_owned();
        let jars = cache.join("kafka");
        ensure!(
            jars.is_dir(),
            "Kafka was not fetched on this machine, so no image can be made of it"
        );
        let trees = [tree(&home), tree(&jars)];
        let link = format!(
            "{on_base}RUN [\"/bin/ln\", \"-sf\", \"{}\", \"/usr/bin/java\"]\n",
            java.display()
        );
        self.build("mcsqueal-e2e/kafka", &link, &work, &trees)?;
        self.build("mcsqueal-e2e/mcsqueal", &on_base, &work, &[tree(program)])?;
        // What these have replaced.
        let filter = format!("label={LABEL}");
        self.docker(&["image", "prune", "--force", "--filter", &filter]).map(drop)
    }

    /// An image of these files, each at its place. `work` is the folder of the context, or the only tree itself.
    fn build(
        &self,
        tag: &str,
        dockerfile: &str,
        work: &Path,
        trees: &[(PathBuf, PathBuf)],
    ) -> Result<()> {
        println!("building the image {tag}");
        let file = work.with_extension("dockerfile");
        fs::write(&file, dockerfile).context("write a Dockerfile")?;
        if trees.iter().all(|(from, _)| from != work) {
            drop(fs::remove_dir_all(work));
            for (from, to) in trees {
                copy(from, &work.join(to))?;
            }
        }
        let context = work.display().to_string();
        let built = self
            .command(&[
                "build",
                "--quiet",
                "--network",
                "none",
                "--label",
                LABEL,
                "--tag",
                tag,
                "--file",
            ])
            .arg(&file)
            .arg(context)
            .env("DOCKER_BUILDKIT", "0")
            .output();
        checked(built, "docker build").map(drop)
    }

    /// Removes all containers of tests, of this run and of earlier ones.
    pub(crate) fn clean(&self) -> Result<()> {
        let filter = format!("label={LABEL}");
        let listed = self.docker(&["ps", "--all", "--quiet", "--filter", &filter])?;
        let all: Vec<&str> = listed.split_whitespace().collect();
        if !all.is_empty() {
            self.docker(&[&["rm", "--force"], &all[..]].concat())?;
        }
        Ok(())
    }

    fn docker(&self, args: &[&str]) -> Result<String> {
        checked(self.command(args).output(), &format!("docker {}", args.join(" ")))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.docker);
        command.args(["--host", &self.socket]).args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.clean());
        let Some(ours) = &mut self.ours else { return };
        drop(Command::new("kill").arg(ours.id().to_string()).status());
        for _ in 0..STOP_POLLS {
            if !matches!(ours.try_wait(), Ok(None)) {
                return;
            }
            sleep(POLL);
        }
        drop(ours.kill());
        drop(ours.wait());
    }
}

/// A small system, to build on.
fn make_base(base: &Path) -> Result<()> {
    if base.join("usr/bin/bash").is_file() {
        return Ok(());
    }
    unpack(&BASE_PACKAGES, base, "etc/debian_version")?;
    // Packages bring the folders of old; programs look for each other in either place.
    for name in ["bin", "sbin", "lib", "lib64"] {
        let (old, new) = (base.join(name), base.join("usr").join(name));
        fs::create_dir_all(&new).context("make the base")?;
        if old.is_dir() && !old.is_symlink() {
            let merged = Command::new("cp").arg("--archive").arg(old.join(".")).arg(&new).output();
            checked(merged, "cp")?;
            fs::remove_dir_all(&old).context("make the base")?;
        }
        if !old.exists() {
            symlink(format!("usr/{name}"), &old).context("make the base")?;
        }
    }
    for unused in ["usr/share/doc", "usr/share/man", "usr/share/locale"] {
        drop(fs::remove_dir_all(base.join(unused)));
    }
    fs::create_dir_all(base.join("tmp")).context("make the base")?;
    ensure!(base.join("usr/bin/bash").is_file(), "the base has no shell");
    Ok(())
}

/// Unpacks packages of the system's own suite, without installing them, unless `proof` is there.
fn unpack(packages: &[&str], into: &Path, proof: &str) -> Result<()> {
    if into.join(proof).is_file() {
        return Ok(());
    }
    for tool in ["apt-get", "dpkg-deb"] {
        ensure!(is_program(tool), "{tool} is not there: this is no Debian or Ubuntu");
    }
    println!("fetching {}", packages.join(" "));
    let debs = into.with_extension("debs");
    drop(fs::remove_dir_all(&debs));
    fs::create_dir_all(&debs).context("make the folder for packages")?;
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "-qq"]).args(packages).current_dir(&debs).output()
    };
    if checked(download(), "apt-get download").is_err() {
        // Its lists may be old.
        checked(Command::new("apt-get").args(["update", "-qq"]).output(), "apt-get update")?;
        checked(download(), "apt-get download")?;
    }
    fs::create_dir_all(into).context("make the folder to unpack into")?;
    for deb in fs::read_dir(&debs).context("read the packages")? {
        let unpacked = Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(into).output();
        checked(unpacked, "dpkg-deb")?;
    }
    fs::remove_dir_all(&debs).context("remove the packages")?;
    ensure!(into.join(proof).is_file(), "{proof} was not in {}", packages.join(" "));
    Ok(())
}

/// Copies a file or a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a path in a folder")?).context("make a folder")?;
    let mut command = Command::new("cp");
    command.arg("--archive");
    if from.starts_with(JVMS) {
        // Debian's Java has links to its settings in /etc; what some lead to may be absent.
        command.arg("--dereference");
    }
    let output = command.arg(from).arg(to).output().context("run cp")?;
    ensure!(to.exists(), "cp: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The same path, below a root.
fn inside(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

fn checked(output: std::io::Result<Output>, what: &str) -> Result<String> {
    let Output { status, stdout, stderr } = output.with_context(|| format!("run {what}"))?;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(status.success(), "{what}: {}", stderr.lines().last().unwrap_or_default());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|said| said.stdout == b"0\n")
}
