//! Data directories, initialised once and copied from then on: that saves seconds at every start.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    Program,
    child::{Child, Launch, log_tail},
    manifest::Kind,
};

/// Initialising takes seconds; a machine that needs longer than this is broken.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(180);

/// Puts a fresh data directory at `target`.
pub(super) async fn fresh_data(
    kind: Kind,
    program: &Program,
    target: &Path,
    pids: Option<&Path>,
) -> Result<()> {
    let template = cache().join(format!("{}-{:016x}", kind.name(), fingerprint(program)));
    if !template.exists() {
        initialise_once(kind, program, &template, pids).await?;
    }
    copy(&template, target).with_context(|| format!("copy {}", template.display()))?;
    // Two servers with the same UUID would be one in the eyes of whoever replicates from them.
    match fs::remove_file(target.join("auto.cnf")) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err).context("remove auto.cnf"),
        _ => Ok(()),
    }
}

/// Where templates are kept between runs.
fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("mcsqueal").join("templates")
}

/// Tells one installation from another: by arguments, and size and time of every file named in them.
fn fingerprint(program: &Program) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    mix(b"layout 1");
    for argument in program.argv.iter().chain(&program.args) {
        mix(argument.as_encoded_bytes());
        if let Ok(file) = fs::metadata(argument) {
            mix(&file.len().to_le_bytes());
            mix(&file.mtime().to_le_bytes());
        }
    }
    hash
}

/// Initialises beside the template and renames, so that others see all of it or nothing.
async fn initialise_once(
    kind: Kind,
    program: &Program,
    template: &Path,
    pids: Option<&Path>,
) -> Result<()> {
    let parent = template.parent().context("a template has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    let work = tempfile::Builder::new().prefix("new-").tempdir_in(parent);
    let work = work.context("make a directory for a template")?;
    initialise(kind, program, work.path(), pids).await?;
    match fs::rename(work.path().join("data"), template) {
        // Another process was faster; its template is as good.
        Err(_) if template.exists() => Ok(()),
        renamed => renamed.with_context(|| format!("keep {}", template.display())),
    }
}

async fn initialise(kind: Kind, program: &Program, work: &Path, pids: Option<&Path>) -> Result<()> {
    let data = format!("--datadir={}", work.join("data").display());
    let (options, input): (&[&str], _) = match kind {
        Kind::Mysql => (&["--initialize-insecure", "--innodb-redo-log-capacity=8M"], None),
        Kind::Mariadb => {
            fs::create_dir(work.join("data")).context("make the data directory")?;
            (
                &[
                    "--bootstrap",
                    "--skip-networking",
                    "--log-warnings=0",
                    "--innodb-log-file-size=8M",
                ],
                Some(bootstrap_sql(program, work)?),
            )
        }
    };
    let log = work.join("log");
    let tmp = format!("--tmpdir={}", work.display());
    let mut argv = program.command(["--user=root", &data, &tmp]);
    argv.extend(options.iter().map(OsString::from));
    let launch = Launch {
        name: format!("the initialisation of {kind}"),
        argv,
        env: Vec::new(),
        directory: work.to_owned(),
        log: log.clone(),
        input,
        pids: pids.map(Path::to_owned),
    };
    let status = Child::start(&launch)?.wait(DEADLINE).await?;
    if !status.success() {
        bail!("initialise {kind}: {status}\n{}", log_tail(&log));
    }
    Ok(())
}

/// The SQL that makes MariaDB's system tables, with a root that needs no password.
fn bootstrap_sql(program: &Program, work: &Path) -> Result<PathBuf> {
    let share = program.share.as_ref().context("the manifest names no share folder of MariaDB")?;
    let mut sql = String::from(
        "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n\
         set @skip_auth_anonymous=1;\nset @current_hostname='localhost';\n",
    );
    for file in ["mariadb_system_tables.sql", "mariadb_system_tables_data.sql"] {
        let path = Path::new(share).join(file);
        sql += &fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    }
    let path = work.join("bootstrap.sql");
    fs::write(&path, sql).context("write the bootstrap SQL")?;
    Ok(path)
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
