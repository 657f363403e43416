//! [`Access`]: whom a Kafka lets in, and what that takes on its side.

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The only user, and its password.
pub(super) const USER: &str = "shop";
pub(super) const PASSWORD: &str = "kafka-secret-5309";
/// Where the authority's certificate is, for clients.
pub(super) const CA_FILE: &str = "ca.pem";
const STORE: &str = "keys.p12";
const STORE_PASSWORD: &str = "of-no-interest";

/// Whom it lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever knows the password, which goes over the wire as it is (SASL PLAIN).
    Password,
    /// Whoever knows the password, and proves it (SCRAM), through TLS.
    Tls,
}

impl Access {
    /// What a client must set, but its password.
    pub fn client_properties(self, ca_file: &Path) -> Vec<(&'static str, String)> {
        let mechanism = match self {
            Access::Open => return Vec::new(),
            Access::Password => "PLAIN",
            Access::Tls => "SCRAM-SHA-512",
        };
        let mut properties = vec![
            ("security.protocol", self.protocol().to_lowercase()),
            ("sasl.mechanism", mechanism.to_owned()),
            ("sasl.username", USER.to_owned()),
        ];
        if self == Access::Tls {
            properties.push(("ssl.ca.location", ca_file.display().to_string()));
        }
        properties
    }

    /// The password.
    pub fn password(self) -> &'static str {
        PASSWORD
    }

    pub(super) fn protocol(self) -> &'static str {
        match self {
            Access::Open => "PLAINTEXT",
            Access::Password => "SASL_PLAINTEXT",
            Access::Tls => "SASL_SSL",
        }
    }

    /// What the broker must be told.
    pub(super) fn properties(self, directory: &Path) -> String {
        let login = "org.apache.kafka.common.security";
        match self {
            Access::Open => String::new(),
            Access::Password => format!(
                "listener.name.clients.sasl.enabled.mechanisms=PLAIN
listener.name.clients.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
"
            ),
            Access::Tls => format!(
                "listener.name.clients.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.clients.ssl.keystore.type=PKCS12
listener.name.clients.ssl.keystore.location={}
listener.name.clients.ssl.keystore.password={STORE_PASSWORD}
listener.name.clients.ssl.key.password={STORE_PASSWORD}
",
                directory.join(STORE).display()
            ),
        }
    }

    /// Whom the storage must know from the beginning.
    pub(super) fn users(self) -> Vec<String> {
        match self {
            Access::Open | Access::Password => Vec::new(),
            Access::Tls => vec![
                "--add-scram".to_owned(),
                format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]"),
            ],
        }
    }

    /// Makes the broker's key and certificate, with the tool that stands beside `java`.
    pub(super) fn prepare(self, java: &[OsString], directory: &Path) -> Result<()> {
        if self != Access::Tls {
            return Ok(());
        }
        let java = java.first().context("an empty argument vector")?;
        let real = std::fs::canonicalize(java).context("find java")?;
        let keytool = real.with_file_name("keytool");
        let make = "-genkeypair -alias broker -keyalg EC -dname CN=localhost -ext san=ip:127.0.0.1 -ext bc:c -validity 30";
        let show = "-exportcert -alias broker -rfc -file";
        let run = |args: Vec<&str>| -> Result<()> {
            let output = Command::new(&keytool)
                .args(args)
                .args(["-keystore", STORE, "-storetype", "PKCS12", "-storepass", STORE_PASSWORD])
                .current_dir(directory)
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("run {}", keytool.display()))?;
            if !output.status.success() {
                bail!("keytool: {}", String::from_utf8_lossy(&output.stdout).trim());
            }
            Ok(())
        };
        if !directory.join(STORE).exists() {
            run(make.split(' ').collect())?;
            run(show.split(' ').chain([CA_FILE]).collect())?;
        }
        Ok(())
    }
}
