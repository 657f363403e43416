//! Logging in: the server's greeting, TLS, and the account's proof of its password.
//!
//! Of `caching_sha2_password`, only what a server asks that has seen the password lately, and over TLS the password
//! itself. The long way over a plain connection has been gone a moment before, by `mysql_async`.

use binlog::dump::{EOF, OK};
use mysql_common::{
    constants::CapabilityFlags,
    io::ParseBuf,
    packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest},
    proto::MySerialize,
};
use tokio::net::TcpStream;

use super::Wire;
use crate::{
    settings::{Settings, Tls},
    source::SourceError,
};

/// Bytes of a server's random challenge.
const NONCE_BYTES: usize = 20;
/// Packets of one login; servers need half of it.
const ROUNDS_MAX: usize = 8;
/// utf8mb4_general_ci.
const COLLATION: u8 = 45;
/// Largest packet that we say to take: the protocol's own limit.
const PACKET_BYTES_MAX: u32 = 1 << 30;
/// `caching_sha2_password`: the server knows the password, or needs it whole.
const KNOWN: u8 = 3;
const UNKNOWN: u8 = 4;
/// More of an authentication method.
const MORE: u8 = 1;

pub(super) async fn login(socket: TcpStream, settings: &Settings) -> Result<Wire, SourceError> {
    let mut wire = Wire::new(socket);
    let greeting = wire.receive().await?;
    let greeting: HandshakePacket<'_> = ParseBuf(&greeting).parse(()).map_err(strange)?;
    let mut nonce = greeting.scramble_1_ref().to_vec();
    nonce.extend_from_slice(greeting.scramble_2_ref().unwrap_or_default());
    nonce.resize(NONCE_BYTES, 0);
    let capabilities = greeting.capabilities() & wanted(&settings.tls);
    let plugin = match greeting.auth_plugin() {
        Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
        _ => AuthPlugin::MysqlNativePassword,
    };
    if let Tls::Required { ca_file } = &settings.tls {
        if !capabilities.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(SourceError::Answer("the server does not speak TLS".to_owned()));
        }
        wire.send_struct(&SslRequest::new(capabilities, PACKET_BYTES_MAX, COLLATION)).await?;
        wire = wire.encrypted(&settings.address.host, ca_file.as_deref()).await?;
    }
    let password = Some(settings.password.0.as_str());
    let response = HandshakeResponse::new(
        plugin.gen_data(password, &nonce).map(|data| data.to_vec()),
        (8, 0, 0),
        Some(settings.user.as_bytes()),
        None::<&[u8]>,
        Some(plugin.borrow()),
        capabilities,
        None,
        PACKET_BYTES_MAX,
    );
    wire.send_struct(&response).await?;
    wire.capabilities = capabilities;
    prove(&mut wire, settings, plugin).await?;
    Ok(wire)
}

fn wanted(tls: &Tls) -> CapabilityFlags {
    let plain = CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
    if *tls == Tls::Off { plain } else { plain | CapabilityFlags::CLIENT_SSL }
}

/// Answers whatever the server asks until it is content.
async fn prove(
    wire: &mut Wire,
    settings: &Settings,
    mut plugin: AuthPlugin<'static>,
) -> Result<(), SourceError> {
    let password = settings.password.0.as_str();
    for _ in 0..ROUNDS_MAX {
        let packet = wire.receive().await?;
        match (&packet[..], &plugin) {
            ([OK, ..], _) => return Ok(()),
            ([EOF, ..], _) => {
                let switch: AuthSwitchRequest<'_> = ParseBuf(&packet).parse(()).map_err(strange)?;
                plugin = match switch.auth_plugin() {
                    AuthPlugin::CachingSha2Password => AuthPlugin::CachingSha2Password,
                    AuthPlugin::MysqlNativePassword => AuthPlugin::MysqlNativePassword,
                    AuthPlugin::Ed25519 => AuthPlugin::Ed25519,
                    other => {
                        let name = String::from_utf8_lossy(other.as_bytes()).into_owned();
                        let what = format!("the account needs {name}, which we do not speak");
                        return Err(SourceError::Answer(what));
                    }
                };
                let data = plugin.gen_data(Some(password), switch.plugin_data());
                wire.send(&data.map(|data| data.to_vec()).unwrap_or_default()).await?;
            }
            ([MORE, KNOWN], AuthPlugin::CachingSha2Password) => {}
            ([MORE, UNKNOWN], AuthPlugin::CachingSha2Password) if settings.tls != Tls::Off => {
                wire.send(&[password.as_bytes(), &[0]].concat()).await?;
            }
            ([MORE, UNKNOWN], AuthPlugin::CachingSha2Password) => {
                let what = "the server has forgotten the password since the connection before";
                return Err(SourceError::Answer(what.to_owned()));
            }
            _ => return Err(SourceError::Answer("a login packet that makes no sense".to_owned())),
        }
    }
    Err(SourceError::Answer("the server asks for a password again and again".to_owned()))
}

fn strange(error: std::io::Error) -> SourceError {
    SourceError::Answer(format!("a login packet that cannot be read: {error}"))
}

impl Wire {
    async fn send_struct(&mut self, packet: &impl MySerialize) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        packet.serialize(&mut bytes);
        self.send(&bytes).await
    }
}
