//! `[stream.relay]`: the stream, pushed to other regions, and read from there.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{Address, ControlTls, file::RawControlTls, raw::Check};

/// Relays that are tried in turn.
const RELAYS_MAX: usize = 16;

/// How the stream comes to other regions. Empty: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// Where this process pushes the stream to readers elsewhere.
    pub listen: Option<SocketAddr>,
    /// Its certificate.
    pub listen_tls: Option<ListenTls>,
    /// Relays that this process reads the stream from.
    pub from: Vec<Address>,
    /// How connections to them are encrypted; `None`: not at all.
    pub from_tls: Option<ControlTls>,
    /// What both sides must know.
    pub secret: Option<PathBuf>,
}

/// Encrypted connections from others. Files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    pub certificate_chain: PathBuf,
    pub key: PathBuf,
    /// Readers must show a certificate that one of these has signed.
    pub client_authorities: Option<PathBuf>,
}

/// The stream for other regions: `listen` where the log is, `from` where it is far away.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Relay")]
pub(super) struct RawRelay {
    /// Where this process pushes the stream to readers in other regions, `ip:port`. On another address than loopback it asks for a
    /// secret or for certificates.
    #[schemars(with = "Option<SocketAddr>")]
    listen: Option<Spanned<SocketAddr>>,
    /// TLS there; with `client_authorities` a certificate will do instead of a secret.
    listen_tls: Option<RawListenTls>,
    /// Relays to read the stream from, `host:port`: the next one is tried when one is gone. If none answers, Kafka itself is read.
    #[schemars(with = "Vec<String>")]
    #[serde(default)]
    from: Vec<Spanned<String>>,
    /// TLS to them.
    from_tls: Option<RawControlTls>,
    /// What both sides must know: a file whose first line has at least 16 bytes.
    secret_file: Option<PathBuf>,
}

/// The certificate that readers are shown.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenTls")]
struct RawListenTls {
    /// Our certificate, and those between it and its authority.
    certificate_chain: PathBuf,
    /// Its private key.
    key: PathBuf,
    /// With it, readers must show a certificate that one of these has signed.
    client_authorities: Option<PathBuf>,
}

impl RawRelay {
    pub(super) fn check(self, check: &mut Check<'_>) -> Relay {
        let mut from: Vec<Address> = Vec::new();
        for text in &self.from {
            let Some(address) = check.address("stream.relay.from", text) else { continue };
            if from.contains(&address) || from.len() >= RELAYS_MAX {
                let what =
                    format!("stream.relay.from: {address} is listed twice, or beyond {RELAYS_MAX}");
                check.refuse(text, what);
            }
            from.push(address);
        }
        let shown = self.listen_tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        if let Some(listen) = &self.listen
            && !listen.get_ref().ip().is_loopback()
            && self.secret_file.is_none()
            && !shown
        {
            let what = "stream.relay.listen: not a loopback address: whoever reaches it can read every key; give secret_file, or \
                        listen_tls with client_authorities";
            check.refuse(listen, what.to_owned());
        }
        let from_tls = self.from_tls.and_then(|tls| {
            let checked = tls.check();
            if checked.is_none()
                && let Some(text) = self.from.first()
            {
                let what = "stream.relay.from_tls: certificate_chain and key belong together";
                check.refuse(text, what.to_owned());
            }
            checked
        });
        let listen_tls = self.listen_tls.map(|tls| {
            let RawListenTls { certificate_chain, key, client_authorities } = tls;
            ListenTls { certificate_chain, key, client_authorities }
        });
        let listen = self.listen.map(Spanned::into_inner);
        Relay { listen, listen_tls, from, from_tls, secret: self.secret_file }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Region;

    /// The example, with this section.
    fn check(section: &str, expect: Expect) {
        expect.assert_eq(&said(section));
    }

    fn said(section: &str) -> String {
        let example = include_str!("../../../region-configs/shop.toml");
        let head = "#[stream.relay]";
        let lines = example.lines().take_while(|line| *line != head).count() + 1;
        let whole = example.replacen(head, &format!("[stream.relay]\n{section}\n"), 1);
        assert_ne!(whole, example);
        match Region::parse("r.toml", &whole) {
            Ok(Region { relay, .. }) => {
                let from: Vec<String> = relay.from.iter().map(ToString::to_string).collect();
                let tls = (relay.listen_tls.is_some(), relay.from_tls.is_some());
                format!("{:?} {from:?} {tls:?} {:?}", relay.listen, relay.secret)
            }
            Err(err) => {
                let text = err.to_string();
                let all = text.lines().map(|line| {
                    let mut parts = line.splitn(3, ':').skip(1);
                    let at: usize = parts.next().unwrap().parse().unwrap();
                    format!("line {}:{}", at - lines, parts.next().unwrap())
                });
                all.collect::<Vec<_>>().join("\n")
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let open = "line 1: stream.relay.listen: not a loopback address: whoever reaches it can read every key; give secret_file, or \
                    listen_tls with client_authorities";
        let bare = "listen = \"0.0.0.0:9620\"";
        assert_eq!(said(bare), open);
        assert_eq!(
            said(&format!("{bare}\nlisten_tls = {{ certificate_chain = \"c\", key = \"k\" }}")),
            open
        );
        check(
            "from = [\"a:1\", \"here\", \"a:1\"]",
            expect![[r#"
                line 1: stream.relay.from: "here" is no host:port
                line 1: stream.relay.from: a:1 is listed twice, or beyond 16"#]],
        );
        check(
            "from = [\"a:1\"]\nfrom_tls = { ca_file = \"a\", key = \"k\" }",
            expect!["line 1: stream.relay.from_tls: certificate_chain and key belong together"],
        );
        check(
            "form = [\"a:1\"]",
            expect![
                "line 1: unknown field `form`, expected one of `listen`, `listen_tls`, `from`, `from_tls`, `secret_file`"
            ],
        );
    }

    #[test]
    fn what_is_taken() {
        check(
            "listen = \"127.0.0.1:9620\"",
            expect!["Some(127.0.0.1:9620) [] (false, false) None"],
        );
        check(
            "listen = \"0.0.0.0:9620\"\nsecret_file = \"s\"",
            expect![[r#"Some(0.0.0.0:9620) [] (false, false) Some("s")"#]],
        );
        check(
            "from = [\"a:1\", \"b:1\"]\nfrom_tls = { ca_file = \"a\" }",
            expect![[r#"None ["a:1", "b:1"] (false, true) None"#]],
        );
    }
}
