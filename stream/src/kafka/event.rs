//! [`Event`]: what happens to a leader, and how its producer tells it.

use std::sync::mpsc;

use rdkafka::{error::KafkaError, message::DeliveryResult, producer::ProducerContext};
use schemas::record::EpochStart;

use super::{client::With, outbox::Parcel};

/// What happens to a leader.
pub(super) enum Event {
    /// A batch is to be sent, after its epochs are in the table.
    Append { parcel: Parcel, epochs: Vec<EpochStart> },
    /// What became of one record of the batch `number`, which producer `life` sent.
    Delivered { life: u32, number: u64, outcome: Result<(), KafkaError> },
    /// Nothing more will be appended.
    Close,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Event::Append { .. } => "Append",
            Event::Delivered { .. } => "Delivered",
            Event::Close => "Close",
        })
    }
}

/// Tells the leader what became of each record.
pub(super) type Delivery = With<Told>;

/// Where a producer's deliveries go.
pub(super) struct Told {
    pub(super) life: u32,
    pub(super) events: mpsc::Sender<Event>,
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, number: Box<u64>) {
        let outcome = delivered.as_ref().map(drop).map_err(|(err, _)| err.clone());
        // A leader that is gone asks for nothing.
        let Told { life, events } = &self.told;
        drop(events.send(Event::Delivered { life: *life, number: *number, outcome }));
    }
}
