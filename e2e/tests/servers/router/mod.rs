//! The router between clients and real nodes.

mod chaos;
mod clients;
mod crowd;
mod life;
mod missed;
mod quarantine;
mod relay;
mod sockets;

use std::fmt::Write as _;

const NEEDS: [&str; 2] = ["mcsqueal", "memcached"];

/// A router file: one pool of these nodes, with a gutter if there is one, and a log of deletes.
fn file(nodes: &[String], gutter: Option<&str>) -> String {
    let mut text = "threads = 2\n[deletes]\ndirectory = \"DIR/deletes\"\nretry_ms = 50\n\
                    [routes]\nstart = \"main\"\nprefix = { \"/eu/main/\" = \"main\" }\n\
                    [routes.pool.main]\nhashing = \"ketama\"\nserver_timeout_ms = 300\n\
                    timeouts_until_tko = 2\nprobe_ms_first = 100\nprobe_ms_max = 500\n"
        .to_owned();
    let quoted: Vec<String> = nodes.iter().map(|node| format!("{node:?}")).collect();
    writeln!(text, "servers = [{}]", quoted.join(", ")).expect("text");
    if let Some(gutter) = gutter {
        writeln!(text, "gutter = \"gutter\"\n[routes.pool.gutter]\nservers = [{gutter:?}]")
            .expect("text");
    }
    text
}

/// The same, of nodes that may take their time: these tests are about something else, and this machine may have much to do.
fn patient(nodes: &[String]) -> String {
    file(nodes, None).replace("timeout_ms = 300", "timeout_ms = 5000")
}
