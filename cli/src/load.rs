//! Reading the files that a command names: region, rules, password.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use schemas::{
    config::{Password, Region},
    rules::Rules,
};

use crate::failure::Failure;

/// Region files are read whole; nobody writes one of this size by hand.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads and validates the region file at `path`, and the rules files that it names.
pub(crate) fn region(path: &Path) -> Result<(Region, Rules), Failure> {
    let region = Region::parse(&path.display().to_string(), &read(path)?)
        .map_err(|err| Failure::Config(err.into()))?;
    let mut named = region.rules.iter().map(|named| rules(&beside(path, named)));
    let first = named.next().ok_or_else(|| Failure::Config(anyhow!("rules: name a file")))??;
    let all = named.try_fold(first, |all, more| {
        all.beside(more?).map_err(|err| Failure::Config(err.into()))
    })?;
    Ok((region, all))
}

/// Reads and validates the rules file at `path`.
pub(crate) fn rules(path: &Path) -> Result<Rules, Failure> {
    Rules::parse(&path.display().to_string(), &read(path)?)
        .map_err(|err| Failure::Config(err.into()))
}

/// A path that the file `config` names: relative to that file's folder.
pub(crate) fn beside(config: &Path, named: &Path) -> PathBuf {
    config.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named))
}

/// The password itself.
pub(crate) fn password(config: &Path, password: &Password) -> Result<String, Failure> {
    match password {
        Password::Empty => Ok(String::new()),
        Password::Env(name) => std::env::var(name)
            .with_context(|| format!("source.password_env: environment variable {name}"))
            .map_err(Failure::Config),
        Password::File(path) => {
            let text = read(&beside(config, path))?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        }
    }
}

/// A file, whole.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let refused =
        |err: anyhow::Error| Failure::Config(err.context(format!("read {}", path.display())));
    let bytes = std::fs::metadata(path).map_err(|err| refused(err.into()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(refused(anyhow!("{bytes} bytes are more than {FILE_BYTES_MAX}")));
    }
    std::fs::read_to_string(path).map_err(|err| refused(err.into()))
}
