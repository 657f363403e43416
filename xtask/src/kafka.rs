//! A real Apache Kafka: what `KAFKA_HOME` names, else the newest 4.x from Maven, else what a container image has; the
//! latter two into the cache.
//!
//! Maven resolves the broker and what it needs into one folder of jars, and an image has such a folder; the Java of the
//! machine runs them. Nothing is installed, and nothing of it stays outside of the cache and Maven's own repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    apt::on_path,
    engine::{Engine, Pull},
};

/// Memory for the one JVM that is broker and controller.
const HEAP: &str = "-Xmx512m";
/// The project's own image, and where it keeps the jars.
const IMAGE: &str = "docker.io/apache/kafka:4.1.0";
const IMAGE_JARS: &str = "/opt/kafka/libs";
/// Written last: the broker's version.
const COMPLETE: &str = ".complete";
/// The tools' interface is left out: it has no part in a broker. `slf4j-simple` prints what the broker has to say.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>mcsqueal</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>[4.0,5.0)</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"#;

/// How Kafka's classes are run: the argument vector before the name of the class, and the version.
pub(crate) struct Kafka {
    pub(crate) version: String,
    pub(crate) argv: Vec<String>,
}

/// Finds or fetches it.
pub(crate) fn provide(cache: &Path, pull: Pull) -> Result<Kafka> {
    let jars = match std::env::var_os("KAFKA_HOME") {
        Some(home) => PathBuf::from(home).join("libs"),
        None => fetched(cache, on_path("mvn"), Engine::find(), pull)?,
    };
    let version = version(&jars)?;
    let java = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let java = java.filter(|java| java.is_file()).or_else(|| on_path("java"));
    let java = java.context("java is not on the PATH: install a Java runtime, 17 or newer")?;
    let jars = jars.join("*").display().to_string();
    let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned();
    let argv = vec![java.display().to_string(), HEAP.to_owned(), quiet, "-cp".to_owned(), jars];
    Ok(Kafka { version, argv })
}

/// The folder of jars, filled by Maven or out of an image if it is not there yet.
fn fetched(
    cache: &Path,
    maven: Option<PathBuf>,
    engine: Option<Engine>,
    pull: Pull,
) -> Result<PathBuf> {
    let folder = cache.join("kafka");
    let jars = folder.join("libs");
    if folder.join(COMPLETE).is_file() {
        return Ok(jars);
    }
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).context("make the folder for Kafka")?;
    let by_maven = maven.map(|maven| resolve(&maven, &folder));
    match (by_maven, engine) {
        (Some(Ok(())), _) => {}
        (Some(Err(err)), None) => return Err(err),
        (None, None) => bail!(
            "neither KAFKA_HOME is set nor is mvn, docker or podman on the PATH: install maven, or unpack Kafka and name its folder"
        ),
        (refused, Some(engine)) => {
            if let Some(Err(err)) = refused {
                println!("Kafka from Maven: {err:#}; trying an image");
            }
            engine.copy(IMAGE, IMAGE_JARS, pull, &folder)?;
        }
    }
    fs::write(folder.join(COMPLETE), version(&jars)?).context("mark the folder as complete")?;
    Ok(jars)
}

/// Maven copies the broker and what it needs into `libs`.
fn resolve(maven: &Path, folder: &Path) -> Result<()> {
    println!("fetching Kafka with Maven");
    fs::write(folder.join("pom.xml"), POM).context("write pom.xml")?;
    let output = Command::new(maven)
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("run mvn")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = said.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
    ensure!(output.status.success(), "mvn: {error}");
    Ok(())
}

/// From the name of the broker's jar.
fn version(jars: &Path) -> Result<String> {
    let listed = fs::read_dir(jars).with_context(|| format!("read {}", jars.display()))?;
    for jar in listed {
        let name = jar?.file_name();
        let name = name.to_str().unwrap_or_default();
        let number = name.strip_prefix("kafka_2.13-").and_then(|rest| rest.strip_suffix(".jar"));
        if let Some(number) =
            number.filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        {
            return Ok(number.to_owned());
        }
    }
    bail!("there is no kafka_2.13 in {}", jars.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{self, alone};

    #[test]
    fn an_image_is_the_third_source() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let engine = || Some(fake::engine(folder.path()));
        let cache = folder.path().join("cache");
        let none = fetched(&cache, None, None, Pull::Never).expect_err("nothing there");
        assert!(none.to_string().starts_with("neither KAFKA_HOME"), "{none}");
        let absent = fetched(&cache, None, engine(), Pull::Never).expect_err("no image");
        assert!(absent.to_string().contains("or give --pull"), "{absent}");
        let maven = Some(PathBuf::from("/bin/false"));
        let jars = fetched(&cache, maven, engine(), Pull::Allowed).expect("an image");
        assert_eq!(version(&jars).expect("a broker"), "4.1.0");
        // Complete: nobody is asked again.
        assert_eq!(fetched(&cache, None, None, Pull::Never).expect("the cache"), jars);
    }
}
