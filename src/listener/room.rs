//! How many connections there may be: in all, and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::config::ClientLimits;

/// Bits of an IPv6 address that one client is given: the rest it chooses itself.
const CLIENT_BITS: u32 = 64;

/// Connections of all listeners.
#[derive(Clone)]
pub struct Room {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_of_address: usize,
    metrics: RoomMetrics,
}

/// Metrics of connections.
#[derive(Clone)]
pub struct RoomMetrics {
    open: IntGauge,
    refused: IntCounterVec,
}

/// A connection's place, until this is dropped.
pub struct Place {
    room: Room,
    address: Option<IpAddr>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection is closed before anything of it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    Full,
    /// There are as many from its address as there may be.
    Address,
    /// A proxy's word was due, and did not come, or from somebody who is no proxy.
    Proxy,
    /// The TLS handshake failed.
    Handshake,
    /// It did not say in time what it wants.
    Late,
}

// === impl Refused ===

impl Refused {
    const ALL: [Self; 5] = [Self::Full, Self::Address, Self::Proxy, Self::Handshake, Self::Late];

    /// The label of the metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Proxy => "proxy",
            Self::Handshake => "handshake",
            Self::Late => "late",
        }
    }
}

// === impl RoomMetrics ===

impl RoomMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let open = IntGauge::new("feedgate_connections", "Connections of clients")?;
        let refused = IntCounterVec::new(
            Opts::new("feedgate_refused_connections_total", "Connections closed before a request, by reason"),
            &["reason"],
        )?;
        for reason in Refused::ALL {
            refused.with_label_values(&[reason.label()]).inc_by(0);
        }
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { open, refused })
    }
}

// === impl Room ===

impl Room {
    /// Room for as many as `limits` has.
    pub fn new(limits: &ClientLimits, metrics: RoomMetrics) -> Self {
        let (most, most_of_address) = (limits.connections, limits.connections_per_address);
        Self { taken: Arc::default(), most, most_of_address, metrics }
    }

    /// Counts a connection that is not served.
    pub fn refused(&self, reason: Refused) {
        self.metrics.refused.with_label_values(&[reason.label()]).inc();
    }

    /// A place for a connection from somewhere; `Place::belong` says from where.
    pub fn enter(&self) -> Result<Place, Refused> {
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            self.refused(Refused::Full);
            return Err(Refused::Full);
        }
        taken.all += 1;
        self.metrics.open.inc();
        Ok(Place { room: self.clone(), address: None })
    }
}

// === impl Place ===

impl Place {
    /// The connection is from `address`.
    pub fn belong(&mut self, address: IpAddr) -> Result<(), Refused> {
        let address = client_of(address);
        let mut taken = self.room.taken.lock();
        let of_address = taken.by_address.entry(address).or_default();
        if *of_address >= self.room.most_of_address {
            return Err(Refused::Address);
        }
        *of_address += 1;
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock();
        taken.all -= 1;
        self.room.metrics.open.dec();
        let Some(address) = self.address else { return };
        if let Some(of_address) = taken.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// What stands for one client: an IPv4 address, or the network of an IPv6 address.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> CLIENT_BITS << CLIENT_BITS))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Refused, Room, RoomMetrics};
    use crate::config::ClientLimits;

    #[test]
    fn places_are_counted_in_all_and_by_address_and_given_back() {
        let limits = ClientLimits { connections: 3, connections_per_address: 2, ..ClientLimits::default() };
        let room = Room::new(&limits, RoomMetrics::new(&prometheus::Registry::new()).unwrap());
        let enter = |address: &str| {
            let mut place = room.enter()?;
            place.belong(address.parse().unwrap()).map(|()| place)
        };
        let first = enter("10.0.0.1").unwrap();
        let _second = enter("::ffff:10.0.0.1").unwrap();
        assert_eq!(enter("10.0.0.1").err(), Some(Refused::Address));
        let third = enter("2001:db8::1").unwrap();
        assert_eq!(enter("10.0.0.2").err(), Some(Refused::Full));
        drop(first);
        let _fourth = enter("2001:db8::2").unwrap();
        assert_eq!(enter("10.0.0.1").err(), Some(Refused::Full));
        drop(third);
        assert!(enter("2001:db8::3").is_ok());
        assert!(enter("10.0.0.1").is_ok());
    }
}
