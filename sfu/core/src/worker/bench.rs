//! Feature `bench`: clients that are there without having come. See [`crate::transport::bench`].

use std::time::Instant;

use super::{Tuple, Worker};
use crate::transport::bench::Protection;
use crate::units::TransportId;

impl Worker {
    /// Connects a transport that was opened to a client at `tuple`, whose side is
    /// [`Client::new`](crate::transport::bench::Client::new) of the id. `None`: there is no such transport.
    pub fn connect(
        &mut self,
        now: Instant,
        id: TransportId,
        tuple: Tuple,
        protection: Protection,
    ) -> Option<()> {
        let key = self.routes.by_id(id)?;
        self.transports[key].transport.connect(now, tuple, id.0, protection);
        self.settle_transport(now, key);
        Some(())
    }
}
