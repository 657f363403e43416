//! Distribution packages, unpacked without root and without touching the system.
//!
//! A private apt configuration (own sources, lists, cache and an empty status) finds a package and all that it needs;
//! apt checks their hashes; `dpkg-deb -x` unpacks them into one folder, whose own dynamic loader starts the programs.
//! On Debian the packages come from the unstable suite of the mirror that the machine already uses, because that
//! has current servers; elsewhere from the system's own suites.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// Packages that servers drag in and that nothing here runs, by the beginning of their names.
const NOT_NEEDED: [&str; 16] = [
    "perl",
    "libperl",
    "systemd",
    "adduser",
    "passwd",
    "login",
    "debconf",
    "iproute2",
    "rsync",
    "lsof",
    "gawk",
    "psmisc",
    "galera",
    "socat",
    "procps",
    "libdbi-perl",
];

/// A private apt.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sets it up below `cache` and reads the lists of packages.
    pub(crate) fn open(cache: &Path) -> Result<Apt> {
        for tool in ["apt-get", "dpkg-deb"] {
            ensure!(is_program(tool), "{tool} is not there: this is no Debian or Ubuntu");
        }
        let folder = cache.join("apt");
        fs::create_dir_all(folder.join("lists/partial"))
            .context("make the folder for package lists")?;
        fs::create_dir_all(folder.join("cache/archives/partial"))
            .context("make the folder for packages")?;
        let apt = Apt { folder };
        apt.configure()?;
        println!("reading the distribution's package lists");
        if let Err(err) = apt.run(&["update", "-qq"]) {
            println!(
                "the package lists could not be refreshed ({err:#}); going on with the last ones"
            );
        }
        Ok(apt)
    }

    fn configure(&self) -> Result<()> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let dir = self.folder.display();
        let mut conf = format!(
            "Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\nDir::State::status \"/dev/null\";\n\
             Dir::Cache \"{dir}/cache\";\nAPT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        if release.lines().any(|line| line == "ID=debian") {
            let sources = self.folder.join("sources.list");
            fs::write(&sources, format!("deb {} sid main\n", mirror()?))
                .context("write sources.list")?;
            let own = format!(
                "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\n",
                sources.display()
            );
            conf.push_str(&own);
        }
        fs::write(self.folder.join("apt.conf"), conf).context("write apt.conf")
    }

    /// Unpacks the first of `names` that the distribution has, together with `more`, and all that they need.
    pub(crate) fn unpack(&self, names: &[&str], more: &[&str], into: &Path) -> Result<()> {
        let mut refusal = None;
        for name in names {
            let mut wanted = vec![*name];
            wanted.extend(more);
            match self.closure(&wanted) {
                Ok(packages) => return self.fetch(&packages, into),
                Err(err) => refusal = Some(err),
            }
        }
        Err(refusal.context("no package to unpack")?)
    }

    /// Name and size in bytes of every package that is needed.
    fn closure(&self, wanted: &[&str]) -> Result<Vec<(String, u64)>> {
        let mut args = vec!["install", "-y", "--print-uris", "-qq"];
        args.extend(wanted);
        let listed = self.run(&args)?;
        let mut out = Vec::new();
        for line in listed.lines().filter(|line| line.starts_with('\'')) {
            let mut words = line.split(' ').skip(1);
            let (Some(file), Some(bytes)) = (words.next(), words.next()) else {
                bail!("apt printed {line:?}")
            };
            let name = file.split('_').next().unwrap_or(file).to_owned();
            if !NOT_NEEDED.iter().any(|other| name.starts_with(other)) {
                out.push((name, bytes.parse().unwrap_or(0)));
            }
        }
        ensure!(!out.is_empty(), "apt found nothing for {}", wanted.join(" "));
        Ok(out)
    }

    fn fetch(&self, packages: &[(String, u64)], into: &Path) -> Result<()> {
        let bytes: u64 = packages.iter().map(|(_, bytes)| bytes).sum();
        println!("fetching {} packages, {} MB", packages.len(), bytes / 1_000_000);
        let debs = into.with_extension("debs");
        drop(fs::remove_dir_all(&debs));
        fs::create_dir_all(&debs).context("make the folder for packages")?;
        let mut command = self.command();
        command
            .current_dir(&debs)
            .args(["download", "-qq"])
            .args(packages.iter().map(|(name, _)| name));
        ensure!(command.status().context("run apt-get")?.success(), "apt-get download failed");
        fs::create_dir_all(into).context("make the folder to unpack into")?;
        for deb in fs::read_dir(&debs).context("read the packages")? {
            let status = Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(into).status();
            ensure!(
                status.context("run dpkg-deb")?.success(),
                "dpkg-deb could not unpack a package"
            );
        }
        for unused in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"] {
            drop(fs::remove_dir_all(into.join(unused)));
        }
        fs::remove_dir_all(&debs).context("remove the packages")
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let output =
            self.command().args(args).stdin(Stdio::null()).output().context("run apt-get")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default();
        ensure!(output.status.success(), "apt-get {}: {last}", args.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", self.folder.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

/// The mirror that the machine itself uses.
fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"])
        .output()
        .context("run apt-get indextargets")?;
    let sites = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut sites: Vec<&str> = sites.lines().filter(|site| !site.contains("security")).collect();
    sites.sort_unstable();
    let site = sites.first().context("apt knows no mirror: run apt-get update once")?;
    Ok((*site).to_owned())
}

/// Whether a program of this name is on the PATH.
pub(crate) fn is_program(name: &str) -> bool {
    on_path(name).is_some()
}

/// Where the PATH has it.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
