//! Cache nodes inside another daemon's process: `mcsqueal run --nodes mcsqueal`.

use std::{collections::HashMap, net::Ipv4Addr};

use anyhow::Context;
use cache_node::{
    control::{self, ControlServer, random},
    server::Server,
};
use invalidator::ControlPort;
use protocol::control::Secret;
use schemas::config::Region;
use tokio_util::sync::CancellationToken;

use super::{
    Control,
    config::Config,
    snapshot::{Made, make},
};
use crate::failure::Failure;

/// Starts a node, with memcached's defaults, at each address that the region names. They run until `shutdown`. Returns where each
/// one's control port is: nobody but this process knows, or has the secret.
pub(crate) async fn inside(
    region: &Region,
    shutdown: &CancellationToken,
) -> Result<HashMap<String, ControlPort>, Failure> {
    let mut ports = HashMap::new();
    let secret = [random(), random()];
    let [first, second] = secret.map(|it| it.map(u64::to_le_bytes));
    let secret = [first.context("start")?, second.context("start")?].concat();
    let secret = Secret::new(&secret).context("start")?;
    for cluster in &region.clusters {
        for address in cluster.nodes.iter().map(|node| node.address.to_string()) {
            let mut config =
                Config::at(&address).context("--nodes mcsqueal").map_err(Failure::Config)?;
            let listen = (Ipv4Addr::LOCALHOST, 0).into();
            config.control = Some(Control::at(listen, cluster.fill_age_max, Some(secret.clone())));
            let Made { node, control } = make(&config)?;
            let server = Server::bind(node, config.server).await.context("--nodes mcsqueal")?;
            let control = control.context("a node with a control port")?;
            let options = control::Options { listen, tls: None };
            let control = ControlServer::bind(control, server.clock(), &options).await;
            let control = control.context("listen for the invalidator")?;
            let port = control.address().context("listen for the invalidator")?.to_string();
            let port = ControlPort {
                address: port,
                secret: Some(secret.clone()),
                tls: None,
                ring_version: cluster.ring_version,
            };
            ports.insert(address.clone(), port);
            tokio::spawn(control.run(shutdown.clone()));
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                if let Err(err) = server.run(shutdown).await {
                    tracing::error!(address, error = %err, "a node has ended");
                }
            });
        }
    }
    Ok(ports)
}
