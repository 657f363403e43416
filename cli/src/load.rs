//! Reading the files that a command names: region, rules, password.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use schemas::{
    config::{Password, Region},
    rules::Rules,
};
use xxhash_rust::xxh64::Xxh64;

use crate::failure::Failure;

/// Region files are read whole; nobody writes one of this size by hand.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A region file and its rules files, as they were at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) region: Region,
    pub(crate) rules: Rules,
    /// Of all their bytes.
    pub(crate) hash: u64,
}

/// Reads and validates the region file at `path`, and the rules files that it names.
pub(crate) fn region(path: &Path) -> Result<(Region, Rules), Failure> {
    loaded(path).map(|loaded| (loaded.region, loaded.rules)).map_err(|(_, failure)| failure)
}

/// Likewise. What cannot be used has a hash of what was read of it.
pub(crate) fn loaded(path: &Path) -> Result<Loaded, (u64, Failure)> {
    let mut hash = Xxh64::new(0);
    let loaded = loaded_with(path, &mut hash);
    loaded
        .map(|(region, rules)| Loaded { region, rules, hash: hash.digest() })
        .map_err(|failure| (hash.digest(), failure))
}

fn loaded_with(path: &Path, hash: &mut Xxh64) -> Result<(Region, Rules), Failure> {
    let mut read = |path: &Path| {
        let text = read(path)?;
        hash.update(&text.len().to_be_bytes());
        hash.update(text.as_bytes());
        Ok::<_, Failure>(text)
    };
    let region = Region::parse(&path.display().to_string(), &read(path)?)
        .map_err(|err| Failure::Config(err.into()))?;
    let mut all: Option<Rules> = None;
    for named in &region.rules {
        let path = beside(path, named);
        let rules = Rules::parse(&path.display().to_string(), &read(&path)?);
        let rules = rules.map_err(|err| Failure::Config(err.into()))?;
        all = Some(match all {
            None => rules,
            Some(all) => all.beside(rules).map_err(|err| Failure::Config(err.into()))?,
        });
    }
    let rules = all.ok_or_else(|| Failure::Config(anyhow!("rules: name a file")))?;
    Ok((region, rules))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_valid() {
        let mut seen = 0;
        for file in std::fs::read_dir("../region-configs").unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let valid = if name.contains(".rules.") {
                rules(&path).map(drop)
            } else if name.contains("node") || name.contains("router") {
                // Their own tests know what they may say.
                let table = read(&path).map(|text| text.parse::<toml::Table>());
                table.map(|table| assert!(table.is_ok(), "{name}: {table:?}"))
            } else {
                region(&path).map(drop)
            };
            assert!(valid.is_ok(), "{name}: {valid:?}");
            seen += 1;
        }
        assert!(seen >= 4, "{seen}");
    }

    #[test]
    fn passwords_are_in_files_or_the_environment_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "hush\nnot this\n").unwrap();
        let config = folder.path().join("shop.toml");
        let file = Password::File("secret".into());
        assert_eq!(password(&config, &file).unwrap(), "hush");
        let env = Password::Env("PATH".to_owned()); // What is always set.
        assert_eq!(password(&config, &env).unwrap(), std::env::var("PATH").unwrap());
        for missing in
            [Password::Env("MCSQUEAL_NO_SUCH_VARIABLE".to_owned()), Password::File("no".into())]
        {
            assert!(matches!(password(&config, &missing), Err(Failure::Config(_))), "{missing:?}");
        }
        let example = include_str!("../../region-configs/shop.toml");
        let from_file = example
            .replace("password_env = \"MCSQUEAL_SOURCE_PASSWORD\"", "password_file = \"secret\"");
        let region = Region::parse("shop.toml", &from_file).unwrap();
        let settings = crate::run::tailer_settings(&config, &region).unwrap();
        assert_eq!(settings.password.0, "hush");
        let (address, opts) = ("db-1:3306".to_owned(), settings.opts());
        let instance =
            invalidator::Instance { address, opts, role: invalidator::poller::Role::Primary };
        let shown = format!("{region:?} {settings:?} {instance:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
