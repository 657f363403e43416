//! Cache nodes inside another daemon's process: `mcsqueal run --nodes mcsqueal`.

use std::sync::Arc;

use anyhow::Context;
use cache_node::{node::Node, server::Server};
use schemas::config::Region;
use tokio_util::sync::CancellationToken;

use super::{FIRST_CAS, config::Config};
use crate::failure::Failure;

/// Starts a node, with memcached's defaults, at each address that the region names. They run until `shutdown`.
pub(crate) async fn inside(region: &Region, shutdown: &CancellationToken) -> Result<(), Failure> {
    let nodes = region.clusters.iter().flat_map(|cluster| &cluster.nodes);
    for address in nodes.map(|node| node.address.to_string()) {
        let config = Config::at(&address).context("--nodes mcsqueal").map_err(Failure::Config)?;
        let node = Arc::new(Node::new(config.node, None, FIRST_CAS));
        let server = Server::bind(node, config.server).await.context("--nodes mcsqueal")?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if let Err(err) = server.run(shutdown).await {
                tracing::error!(address, error = %err, "a node has ended");
            }
        });
    }
    Ok(())
}
