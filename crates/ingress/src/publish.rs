//! The built-in handler: what is delivered is published into a channel, as it is and in order.

use fanfare_engine::port::{BoxFuture, Transaction};
use fanfare_wire::{ChannelName, Draft, Json};
use uuid::Uuid;

use crate::delivery::{Delivery, HandleError, Handler, Place, Unfit};

/// Publishes the bodies of deliveries, which must be JSON, into one channel.
pub struct Publish {
    channel: ChannelName,
    message_bytes_max: usize,
}

impl Publish {
    /// Publishes into a channel, up to so many bytes each.
    #[must_use]
    pub fn new(channel: ChannelName, message_bytes_max: usize) -> Self {
        Self {
            channel,
            message_bytes_max,
        }
    }
}

impl Handler for Publish {
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit> {
        if delivery.body.len() > self.message_bytes_max {
            return Err(Unfit::TooLong);
        }
        match Json::parse(&delivery.body) {
            Ok(_) => Ok(Place::of(self.channel.as_str())),
            Err(_) => Err(Unfit::Refuse("the body is not JSON")),
        }
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async {
            // The settings may have changed since it was kept.
            if delivery.body.len() > self.message_bytes_max {
                let words = format!("the body is longer than {} bytes", self.message_bytes_max);
                return Err(HandleError::Dead(words));
            }
            let data = Json::parse(&delivery.body)
                .map_err(|_| HandleError::Dead("the body is not JSON".to_owned()))?;
            Ok(Transaction {
                drafts: vec![Draft::new(self.channel.clone(), Uuid::now_v7(), data)],
                ..Transaction::default()
            })
        })
    }
}
