//! What fails in the storm, one thing at a time.

use std::time::Duration;

use e2e::servers::{Proxy, Way, Weather};
use tokio::time::sleep;

use super::storm::Storm;

/// How many kinds there are.
pub(super) const STRIKES: u32 = 14;
/// Those that concern replicas alone.
pub(super) const OF_REPLICAS: [u32; 2] = [0, 1];
const SLOW: Duration = Duration::from_millis(40);

impl Storm {
    /// Something is away for so long.
    pub(super) async fn strike(&mut self, kind: u32, at: usize, pause: Duration) {
        let (node, replica) = (&mut self.nodes[at], &self.replicas[at % 2]);
        let (port, poll) = (&self.ports[at], &self.polls[at % 2]);
        let invalidator = &mut self.invalidators[at % 2];
        match kind {
            0 => {
                replica.stop_applying().await.expect("a replica stands still");
                sleep(pause).await;
                replica.start_applying().await.expect("it goes on");
            }
            1 => {
                for replica in &self.replicas {
                    replica.stop_applying().await.expect("all replicas stand still");
                }
                sleep(pause).await;
                for replica in &self.replicas {
                    replica.start_applying().await.expect("they go on");
                }
            }
            2 => {
                replica.freeze().expect("freeze a replica");
                sleep(pause).await;
                replica.thaw().expect("thaw it");
            }
            3 => {
                node.freeze().expect("freeze a node");
                sleep(pause).await;
                node.thaw().expect("thaw it");
            }
            4 => {
                node.kill9().expect("kill a node");
                sleep(pause).await;
                node.restart().await.expect("it is there again, empty");
            }
            5 => {
                invalidator.kill9().expect("kill an invalidator");
                sleep(pause).await;
                invalidator.restart().await.expect("it is there again");
            }
            6 => {
                invalidator.freeze().expect("freeze an invalidator");
                sleep(pause).await;
                invalidator.thaw().expect("thaw it");
            }
            7 => weather(port, Weather::Cut, pause).await,
            8 => weather(port, Weather::HalfOpen, pause).await,
            9 => weather(port, Weather::Stalled(Way::There), pause).await,
            10 => weather(port, Weather::Stalled(Way::Back), pause).await,
            11 => weather(poll, Weather::Stalled(Way::Both), pause).await,
            12 => {
                self.kafka.freeze().expect("freeze Kafka");
                sleep(pause).await;
                self.kafka.thaw().expect("thaw it");
            }
            _ => {
                for port in &self.ports {
                    port.make(Weather::Slow(SLOW));
                }
                sleep(pause).await;
                for port in &self.ports {
                    port.make(Weather::Calm);
                }
            }
        }
    }
}

async fn weather(proxy: &Proxy, weather: Weather, pause: Duration) {
    proxy.make(weather);
    sleep(pause).await;
    proxy.make(Weather::Calm);
}
