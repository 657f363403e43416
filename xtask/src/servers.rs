//! Real servers: found on the PATH, else unpacked into the cache, from packages or a container image.
//!
//! What was found is written as JSON to a file that `MCSQUEAL_SERVERS` names for tests and demo:
//!
//! ```json
//! {"mysql": {"version": "...", "argv": ["program", "..."], "args": ["--option"], "share": "folder"}, "memcached": {...}}
//! ```
//!
//! Names: `mysql`, `mariadb`, `memcached`, `memccapable`, `nutcracker`, `mysqlbinlog`, `mariadb-binlog`, `python`, `go`, `kafka` (to which
//! the name of a class is added). `argv` starts the program, `args`
//! are options that its place needs, `share` is where MariaDB keeps the SQL of its system tables.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{
    apt::{Apt, on_path},
    engine::{Engine, Pull},
    kafka,
};

/// Everything that tests can use.
pub(crate) const ALL: [&str; 7] =
    ["mysql", "mariadb", "memcached", "memccapable", "python", "go", "kafka"];
/// Written last into an unpacked folder; one without it is made again.
const COMPLETE: &str = ".complete";
/// Python packages: independent clients that tests compare with.
const PYTHON_PACKAGES: [&str; 8] = [
    "pylibmc==1.6.3",
    "pymemcache==4.0.0",
    "pymysql",
    "meta-memcache==4.3.0",
    "pytest",
    "kafka-python==3.0.12",
    "lz4",
    "grpcio-tools",
];

/// Where programs lie in an unpacked folder; the last is where images put what they built.
const BINARIES: [&str; 3] = ["usr/sbin", "usr/bin", "usr/local/bin"];

/// A server, and where it can be had.
struct Recipe {
    name: &'static str,
    file: &'static str,
    /// The first that the distribution has.
    packages: &'static [&'static str],
    /// More that belongs to it.
    tools: &'static [&'static str],
    /// What an unpacked folder must have beside the program; one from before that was asked for is made again.
    parts: &'static [&'static str],
    /// `None` where no image has it.
    image: Option<&'static str>,
}

const MYSQL: Recipe = Recipe {
    name: "mysql",
    file: "mysqld",
    packages: &["mysql-server-core", "mysql-server-core-8.4", "mysql-server-core-8.0"],
    tools: &["mysql-client-core"],
    parts: &[],
    image: Some("mysql:9"),
};
const MARIADB: Recipe = Recipe {
    name: "mariadb",
    file: "mariadbd",
    packages: &["mariadb-server-core"],
    // The last has the plugins for ways to log in.
    tools: &["mariadb-client", "mariadb-server"],
    parts: &["usr/lib/mysql/plugin/auth_ed25519.so"],
    image: Some("mariadb:11.8"),
};
const MEMCACHED: Recipe = Recipe {
    name: "memcached",
    file: "memcached",
    packages: &["memcached"],
    tools: &[],
    parts: &[],
    image: Some("memcached:1.6"),
};
const MEMCCAPABLE: Recipe = Recipe {
    name: "memccapable",
    file: "memccapable",
    packages: &["libmemcached-tools"],
    tools: &[],
    parts: &[],
    image: None,
};
/// Twemproxy: another router, to measure ours beside it.
const NUTCRACKER: Recipe = Recipe {
    name: "nutcracker",
    file: "nutcracker",
    packages: &["nutcracker"],
    tools: &[],
    parts: &[],
    image: None,
};

/// What is used to get what is missing.
struct Fetcher {
    /// Opened when it is needed first.
    apt: Option<Apt>,
    pull: Pull,
}

/// How one program is started.
#[derive(Clone, Debug, Default)]
struct Program {
    version: String,
    argv: Vec<String>,
    args: Vec<String>,
    share: Option<String>,
}

/// What this machine has, and why it has not the rest.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    programs: BTreeMap<&'static str, Program>,
    missing: BTreeMap<&'static str, String>,
}

/// The folder where downloads and run directories are kept.
pub(crate) fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("mcsqueal");
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    Ok(cache)
}

/// Finds or unpacks what `wanted` names.
pub(crate) fn provide(wanted: &[&'static str], pull: Pull) -> Result<Servers> {
    let cache = cache()?;
    // Two of us at once would unpack into the same folder.
    let lock = File::create(cache.join("lock")).context("make the lock file")?;
    lock.lock().context("wait for another xtask to finish fetching")?;
    let mut servers = Servers::default();
    let mut fetcher = Fetcher { apt: None, pull };
    for &name in wanted {
        if let Err(err) = servers.add(name, &cache, &mut fetcher) {
            servers.missing.insert(name, format!("{err:#}"));
        }
    }
    Ok(servers)
}

impl Servers {
    fn add(&mut self, name: &'static str, cache: &Path, fetcher: &mut Fetcher) -> Result<()> {
        match name {
            "mysql" => {
                let root = fetcher.root(&MYSQL, cache)?;
                self.server(&MYSQL, root.as_deref())?;
                self.tool("mysqlbinlog", "mysqlbinlog", root.as_deref());
            }
            "mariadb" => {
                let root = fetcher.root(&MARIADB, cache)?;
                self.server(&MARIADB, root.as_deref())?;
                self.tool("mariadb-binlog", "mariadb-binlog", root.as_deref());
            }
            "memcached" => {
                let root = fetcher.root(&MEMCACHED, cache)?;
                let program =
                    program("memcached", root.as_deref()).context("memcached was not unpacked")?;
                self.programs.insert("memcached", program);
            }
            "memccapable" => {
                let root = fetcher.root(&MEMCCAPABLE, cache)?;
                let program = program("memccapable", root.as_deref());
                let program = program.context("memccapable was not unpacked")?;
                self.programs.insert("memccapable", program);
            }
            "nutcracker" => {
                let root = fetcher.root(&NUTCRACKER, cache)?;
                let program = program("nutcracker", root.as_deref());
                let program = program.context("nutcracker was not unpacked")?;
                self.programs.insert("nutcracker", program);
            }
            "kafka" => {
                let kafka::Kafka { version, argv } = kafka::provide(cache, fetcher.pull)?;
                self.programs.insert("kafka", Program { version, argv, ..Program::default() });
            }
            "go" => self.go()?,
            _ => self.python(cache)?,
        }
        Ok(())
    }

    fn server(&mut self, recipe: &Recipe, root: Option<&Path>) -> Result<()> {
        let Recipe { name, file, .. } = recipe;
        let mut program =
            program(file, root).with_context(|| format!("{file} was not unpacked"))?;
        let usr = root.map_or_else(|| PathBuf::from("/usr"), |root| root.join("usr"));
        let share = share(&usr, name).display().to_string();
        if root.is_some() {
            let plugins = ["lib/mysql/plugin", "lib64/mysql/plugin"].map(|folder| usr.join(folder));
            let plugins = plugins.iter().find(|folder| folder.is_dir()).unwrap_or(&plugins[0]);
            program.args = vec![
                format!("--lc-messages-dir={share}"),
                format!("--character-sets-dir={share}/charsets"),
                format!("--plugin-dir={}", plugins.display()),
            ];
        }
        if *name == "mysql" {
            program.args.push("--secure-file-priv=".to_owned());
        }
        program.share = Some(share);
        self.programs.insert(name, program);
        Ok(())
    }

    fn tool(&mut self, name: &'static str, file: &str, root: Option<&Path>) {
        if let Some(program) = program(file, root) {
            self.programs.insert(name, program);
        }
    }

    /// A virtual environment with clients from the package index.
    fn python(&mut self, cache: &Path) -> Result<()> {
        let python = on_path("python3").context("python3 is not on the PATH")?;
        // Other packages, another folder.
        let mut hasher = DefaultHasher::new();
        PYTHON_PACKAGES.hash(&mut hasher);
        let folder = cache.join(format!("python-{:016x}", hasher.finish()));
        let inside = folder.join("bin/python3");
        let wanted = PYTHON_PACKAGES.join(" ");
        let have = fs::read_to_string(folder.join(COMPLETE)).unwrap_or_default();
        if have != wanted {
            println!("fetching Python packages: {wanted}");
            drop(fs::remove_dir_all(&folder));
            let made = Command::new(python)
                .args(["-m", "venv"])
                .arg(&folder)
                .output()
                .context("run python3")?;
            ensure!(made.status.success(), "python3 has no venv: install python3-venv");
            let fetched = Command::new(&inside)
                .args(["-m", "pip", "install", "-q", "--disable-pip-version-check"])
                .args(PYTHON_PACKAGES)
                .stdin(Stdio::null())
                .output()
                .context("run pip")?;
            ensure!(
                fetched.status.success(),
                "pip: {}",
                String::from_utf8_lossy(&fetched.stderr).trim_end()
            );
            fs::write(folder.join(COMPLETE), wanted).context("mark the folder as complete")?;
        }
        let argv = vec![inside.display().to_string()];
        self.programs
            .insert("python", Program { version: version(&argv), argv, ..Program::default() });
        Ok(())
    }

    /// For a client in Go, with its own tests. Where Go's own archive is unpacked, the PATH often does not lead.
    fn go(&mut self) -> Result<()> {
        let usual = PathBuf::from("/usr/local/go/bin/go");
        let go = on_path("go").or_else(|| Some(usual).filter(|path| path.is_file()));
        let argv = vec![go.context("go is not on the PATH: install it")?.display().to_string()];
        // It has no `--version`.
        self.programs
            .insert("go", Program { version: "any".to_owned(), argv, ..Program::default() });
        Ok(())
    }

    /// The program that starts it.
    pub(crate) fn first_word(&self, name: &str) -> Option<&str> {
        self.programs.get(name)?.argv.first().map(String::as_str)
    }

    /// Whether the machine has it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.programs.contains_key(name)
    }

    /// What is missing, with reasons.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.missing.iter().map(|(name, why)| (*name, why.as_str()))
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for (name, program) in &self.programs {
            let file = program.argv.last().map_or("", String::as_str);
            out.push_str(&format!("{name:15} {:32} {file}\n", program.version));
        }
        for (name, why) in &self.missing {
            out.push_str(&format!("{name:15} missing: {why}\n"));
        }
        out
    }

    /// Writes the file that tests and demo read, and returns its path.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let path = cache()?.join(format!("servers-{}.json", std::process::id()));
        let entries: Vec<String> =
            self.programs.iter().map(|(name, program)| program.json(name)).collect();
        fs::write(&path, format!("{{{}}}\n", entries.join(",\n ")))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl Program {
    fn json(&self, name: &str) -> String {
        let list =
            |texts: &[String]| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        let share = self
            .share
            .as_ref()
            .map(|share| format!(", \"share\": {}", quoted(share)))
            .unwrap_or_default();
        format!(
            "{}: {{\"version\": {}, \"argv\": [{}], \"args\": [{}]{share}}}",
            quoted(name),
            quoted(&self.version),
            list(&self.argv),
            list(&self.args)
        )
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

impl Fetcher {
    /// `None`: the PATH has it. Else the folder into which it is unpacked.
    fn root(&mut self, recipe: &Recipe, cache: &Path) -> Result<Option<PathBuf>> {
        let Recipe { name, file, .. } = recipe;
        let local = Path::new("/usr/sbin").join(file).is_file();
        if on_path(file).is_some() || local {
            return Ok(None);
        }
        let folder = cache.join("servers").join(name);
        if is_whole(&folder) && recipe.parts.iter().all(|part| folder.join(part).exists()) {
            return Ok(Some(folder));
        }
        println!("{name} is not on the PATH");
        fs::create_dir_all(cache.join("servers")).context("make the folder for servers")?;
        drop(fs::remove_dir_all(&folder));
        if let Err(no_package) = self.unpack(recipe, cache, &folder) {
            drop(fs::remove_dir_all(&folder));
            let from_image = match (Engine::find(), recipe.image) {
                (Some(engine), Some(image)) => engine.unpack(image, self.pull, &folder),
                (None, _) => Err(anyhow!("there is no docker or podman")),
                (_, None) => Err(anyhow!("none that we know of")),
            };
            if let Err(no_image) = from_image {
                drop(fs::remove_dir_all(&folder));
                bail!("install it; no package: {no_package:#}; no image: {no_image:#}");
            }
        }
        let whole = content(&folder, file).with_context(|| format!("{file} was not in it"))?;
        fs::write(folder.join(COMPLETE), whole).context("mark the folder as complete")?;
        Ok(Some(folder))
    }

    fn unpack(&mut self, recipe: &Recipe, cache: &Path, into: &Path) -> Result<()> {
        let apt = match &self.apt {
            Some(apt) => apt,
            None => self.apt.insert(Apt::open(cache)?),
        };
        apt.unpack(recipe.packages, recipe.tools, into)
    }
}

/// Where a database server keeps its messages; images name the folder after the version.
fn share(usr: &Path, name: &str) -> PathBuf {
    let listed = fs::read_dir(usr.join("share")).into_iter().flatten().flatten();
    let versioned = listed.map(|entry| entry.path()).find(|path| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        file.starts_with(&format!("{name}-")) && path.join("charsets").is_dir()
    });
    let plain = usr.join("share").join(name);
    if plain.join("charsets").is_dir() { plain } else { versioned.unwrap_or(plain) }
}

/// Whether what was unpacked once is still what it was.
fn is_whole(folder: &Path) -> bool {
    let Ok(marker) = fs::read_to_string(folder.join(COMPLETE)) else { return false };
    let file = marker
        .split_whitespace()
        .last()
        .and_then(|path| Path::new(path).file_name()?.to_str().map(str::to_owned));
    file.and_then(|file| content(folder, &file)).is_some_and(|now| now == marker)
}

/// SHA-256 and path of the program, as `sha256sum` prints them.
fn content(folder: &Path, file: &str) -> Option<String> {
    let path =
        BINARIES.into_iter().map(|bin| folder.join(bin).join(file)).find(|path| path.is_file())?;
    let output = Command::new("sha256sum").arg(path).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program(file: &str, root: Option<&Path>) -> Option<Program> {
    let Some(root) = root else {
        let path = on_path(file)
            .or_else(|| Some(Path::new("/usr/sbin").join(file)).filter(|path| path.is_file()))?;
        let argv = vec![path.display().to_string()];
        return Some(Program { version: version(&argv), argv, ..Program::default() });
    };
    let path =
        BINARIES.into_iter().map(|bin| root.join(bin).join(file)).find(|path| path.is_file())?;
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = [
        format!("usr/lib/{triple}"),
        format!("lib/{triple}"),
        "usr/lib64".to_owned(),
        "usr/lib/mysql/private".to_owned(),
        "usr/lib64/mysql/private".to_owned(),
    ];
    let libraries = libraries.map(|folder| root.join(folder).display().to_string());
    let argv = vec![
        loader(root)?.display().to_string(),
        "--library-path".to_owned(),
        libraries.join(":"),
        path.display().to_string(),
    ];
    Some(Program { version: version(&argv), argv, ..Program::default() })
}

/// The folder's own dynamic loader: its libraries are newer than the system's.
fn loader(root: &Path) -> Option<PathBuf> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    // First where it is a file: elsewhere it may be a link, and lead to the system's own.
    let folders = [
        format!("usr/lib/{triple}"),
        format!("lib/{triple}"),
        "usr/lib64".to_owned(),
        "lib64".to_owned(),
        "usr/lib".to_owned(),
    ];
    let names = ["ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    folders
        .iter()
        .flat_map(|folder| names.map(|name| root.join(folder).join(name)))
        .find(|path| path.is_file())
}

/// The first number with dots that the program says with `--version`, wherever it says it, or that stands behind a dash.
fn version(argv: &[String]) -> String {
    let Some((program, args)) = argv.split_first() else { return String::new() };
    let output = Command::new(program).args(args).arg("--version").stdin(Stdio::null()).output();
    let Ok(output) = output else { return "unknown".to_owned() };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_number =
        |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let behind_dash = || text.split_whitespace().filter_map(|word| Some(word.split_once('-')?.1));
    let word = text.split_whitespace().find(is_number).or_else(|| behind_dash().find(is_number));
    word.unwrap_or("unknown").trim_end_matches(',').to_owned()
}
