//! What is counted per address: connections, and how much is asked for. It brakes one client in favour of the others.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::config::Limits;

/// Addresses that are remembered: 2 MB. A client needs an entry while it is connected and for a while after. Where many
/// connections are allowed it is twice as many as these, so that there are always some to forget.
const MAX_ADDRESSES: usize = 16_384;
/// Addresses that are forgotten together where there is no room: to find them, all are looked at once.
const FORGOTTEN_TOGETHER: usize = 1_024;

/// All addresses of a node.
#[derive(Debug)]
pub(crate) struct Addresses {
    table: Mutex<Table>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Table {
    connections: usize,
    /// The number of the next connection that is its own party.
    next: u64,
    entries: HashMap<Counted, Entry>,
    /// The connections of each network.
    networks: HashMap<Network, usize>,
}

/// Who is given a share of what the node has: all connections of an address; or each connection where its address is
/// not counted, since behind a proxy on this machine all clients have that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    Address(Counted),
    Connection(u64),
    /// The node itself.
    Node,
}

/// The part of an address that one client has: all of IPv4, the network of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Counted {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// The addresses that one can have who has many: a /24 of IPv4, a /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Network {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Counted {
    fn network(self) -> Network {
        match self {
            Self::V4([one, two, three, _]) => Network::V4([one, two, three]),
            Self::V6([one, two, three, four, five, six, ..]) => Network::V6([one, two, three, four, five, six]),
        }
    }
}

#[derive(Debug)]
struct Entry {
    connections: usize,
    events: Bucket,
    requests: Bucket,
}

/// Tokens that come back at a steady rate up to a burst.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spend {
    Event,
    Request,
}

impl Addresses {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), limits: limits.clone() })
    }

    /// Lets a connection in, or not. It counts until the pass is dropped.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        self.pass(Some(address), true)
    }

    /// Lets a connection of a trusted proxy in. It counts for no address.
    pub(crate) fn admit_proxy(self: &Arc<Self>) -> Option<Pass> {
        self.pass(None, true)
    }

    /// Lets a client of a trusted proxy in, whose connection is the proxy's.
    pub(crate) fn admit_client(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        self.pass(Some(address), false)
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    fn pass(self: &Arc<Self>, address: Option<IpAddr>, is_connection: bool) -> Option<Pass> {
        let address = address.map(|address| address.to_canonical());
        let counted = address.filter(|address| !(self.limits.exempt_loopback && address.is_loopback()));
        let counted = counted.map(|address| match address {
            IpAddr::V4(address) => Counted::V4(address.octets()),
            IpAddr::V6(address) => Counted::V6(std::array::from_fn(|at| address.octets()[at])),
        });
        let mut table = self.lock();
        if is_connection && table.connections >= self.limits.max_connections {
            return None;
        }
        if let Some(counted) = counted {
            let now = Instant::now();
            // One network has half of the connections at most, so that the others always get in.
            let of_network = table.networks.get(&counted.network()).copied().unwrap_or_default();
            if is_connection && of_network >= self.limits.max_connections.div_ceil(2) {
                return None;
            }
            let most = MAX_ADDRESSES.max(self.limits.max_connections.saturating_mul(2));
            if table.entries.len() >= most && !table.entries.contains_key(&counted) {
                table.forget();
            }
            let full =
                |rate: u32| Bucket { tokens: f64::from(rate) * f64::from(self.limits.burst_seconds), since: now };
            let entry = table.entries.entry(counted).or_insert_with(|| Entry {
                connections: 0,
                events: full(self.limits.events_per_second),
                requests: full(self.limits.requests_per_second),
            });
            if entry.connections >= self.limits.max_connections_per_address {
                return None;
            }
            entry.connections += 1;
            if is_connection {
                *table.networks.entry(counted.network()).or_default() += 1;
            }
        }
        table.connections += usize::from(is_connection);
        let party = match counted {
            Some(counted) => Party::Address(counted),
            None => {
                table.next += 1;
                Party::Connection(table.next)
            }
        };
        drop(table);
        Some(Pass { addresses: Arc::clone(self), party, is_connection })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Pass {
    addresses: Arc<Addresses>,
    party: Party,
    /// It is one of those that the node has in all.
    is_connection: bool,
}

impl Pass {
    /// Whose share it uses.
    pub(crate) const fn party(&self) -> Party {
        self.party
    }

    const fn counted(&self) -> Option<Counted> {
        match self.party {
            Party::Address(counted) => Some(counted),
            Party::Connection(_) | Party::Node => None,
        }
    }

    /// Takes a token. Whether there was one.
    pub(crate) fn spend(&self, what: Spend) -> bool {
        self.change(what, |bucket, now, rate, burst| bucket.take(now, rate, burst)).unwrap_or(true)
    }

    /// Takes so many tokens, those that are yet to come as well. How long it is until they have.
    pub(crate) fn owe(&self, what: Spend, tokens: f64) -> Duration {
        self.change(what, |bucket, now, rate, burst| bucket.owe(tokens, now, rate, burst)).unwrap_or_default()
    }

    /// Changes a bucket of the address at this moment, by the rate and the seconds of a burst; nothing where the address
    /// is not counted.
    fn change<T>(&self, what: Spend, change: impl FnOnce(&mut Bucket, Instant, f64, f64) -> T) -> Option<T> {
        let limits = &self.addresses.limits;
        let rate = match what {
            Spend::Event => limits.events_per_second,
            Spend::Request => limits.requests_per_second,
        };
        let counted = self.counted().filter(|_| rate > 0)?;
        let mut table = self.addresses.lock();
        let entry = table.entries.get_mut(&counted)?;
        let bucket = match what {
            Spend::Event => &mut entry.events,
            Spend::Request => &mut entry.requests,
        };
        Some(change(bucket, Instant::now(), f64::from(rate), f64::from(limits.burst_seconds)))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut table = self.addresses.lock();
        table.connections -= usize::from(self.is_connection);
        let Some(counted) = self.counted() else { return };
        if let Some(entry) = table.entries.get_mut(&counted) {
            entry.connections -= 1;
        }
        if self.is_connection
            && let hash_map::Entry::Occupied(mut connections) = table.networks.entry(counted.network())
        {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }
}

impl Table {
    /// Makes room: forgets addresses without a connection, those of the largest networks first and of these the ones that
    /// were not heard of for longest. Who has so many addresses gains nothing by a full bucket for one of them.
    fn forget(&mut self) {
        let mut sizes: HashMap<Network, usize> = HashMap::new();
        let idle = || self.entries.iter().filter(|(_, entry)| entry.connections == 0);
        for (counted, _) in idle() {
            *sizes.entry(counted.network()).or_default() += 1;
        }
        let mut idle: Vec<_> = idle()
            .map(|(counted, entry)| {
                let size = sizes.get(&counted.network()).copied().unwrap_or_default();
                (Reverse(size), entry.events.since.max(entry.requests.since), *counted)
            })
            .collect();
        if idle.len() > FORGOTTEN_TOGETHER {
            idle.select_nth_unstable(FORGOTTEN_TOGETHER);
            idle.truncate(FORGOTTEN_TOGETHER);
        }
        for (_, _, counted) in idle {
            self.entries.remove(&counted);
        }
    }
}

impl Bucket {
    /// Takes what has come back meanwhile into account. How many tokens there are at most.
    fn fill(&mut self, now: Instant, rate: f64, burst_seconds: f64) -> f64 {
        let gained = now.duration_since(self.since).as_secs_f64() * rate;
        let most = rate * burst_seconds.max(1.0);
        self.tokens = (self.tokens + gained).min(most);
        self.since = now;
        most
    }

    /// Takes tokens, and how long it takes until none of them is owed. No more than a burst is owed: who opens one
    /// connection after the other waits no longer than that, and neither do others with the address.
    fn owe(&mut self, tokens: f64, now: Instant, rate: f64, burst_seconds: f64) -> Duration {
        let most = self.fill(now, rate, burst_seconds);
        self.tokens = (self.tokens - tokens).max(-most);
        Duration::from_secs_f64((-self.tokens).max(0.0) / rate)
    }

    fn take(&mut self, now: Instant, rate: f64, burst_seconds: f64) -> bool {
        self.fill(now, rate, burst_seconds);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(change: impl FnOnce(&mut Limits)) -> Arc<Addresses> {
        let mut limits = Limits { max_connections: 3, max_connections_per_address: 2, ..Limits::default() };
        change(&mut limits);
        Addresses::new(&limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn connections_are_counted_per_address_and_in_all() {
        let addresses = addresses(|_| ());
        let first = addresses.admit(ip("2001:db8::1")).expect("let in");
        let _second = addresses.admit(ip("2001:db8::2")).expect("let in");
        assert!(addresses.admit(ip("2001:db8::3")).is_none(), "the same /64");
        let _third = addresses.admit(ip("::ffff:192.0.2.1")).expect("let in");
        assert!(addresses.admit(ip("127.0.0.1")).is_none(), "three in all");
        drop(first);
        assert!(addresses.admit(ip("127.0.0.1")).is_some());
    }

    #[test]
    fn clients_of_a_proxy_are_counted_and_the_proxy_is_not() {
        let addresses = addresses(|_| ());
        let _proxy = [(); 3].map(|()| addresses.admit_proxy().expect("let in"));
        assert!(addresses.admit_proxy().is_none(), "three in all");
        let _clients = [(); 2].map(|()| addresses.admit_client(ip("192.0.2.1")).expect("let in"));
        assert!(addresses.admit_client(ip("192.0.2.1")).is_none(), "two of one address");
        assert!(addresses.admit_client(ip("192.0.2.2")).is_some());
    }

    #[test]
    fn one_network_keeps_no_other_out() {
        let addresses = addresses(|limits| *limits = Limits { max_connections: 100, ..Limits::default() });
        let known = addresses.admit(ip("192.0.2.1")).expect("let in");
        while known.spend(Spend::Event) {}
        drop(known);
        let of_one = |n: u32| IpAddr::from([0x2001, 0xdb8, 1, n as u16, 0, 0, 0, (n >> 16) as u16]);
        for n in 0..60_000 {
            assert!(addresses.admit(of_one(n)).is_some(), "{n}");
        }
        assert!(addresses.lock().entries.len() <= MAX_ADDRESSES);
        let connections: Vec<_> = (0..60_000).map_while(|n| addresses.admit(of_one(n))).collect();
        assert_eq!(connections.len(), 50, "half of them");
        for n in 0..=255 {
            assert!(addresses.admit(ip(&format!("198.51.{n}.1"))).is_some(), "newcomers get in");
        }
        let known = addresses.admit(ip("192.0.2.1")).expect("let in");
        let spent = (0..600).filter(|_| known.spend(Spend::Event)).count();
        assert!(spent < 600, "it was not forgotten for their sake: {spent}");
        drop((connections, known));
        let table = addresses.lock();
        assert_eq!((table.connections, table.networks.len()), (0, 0));
    }

    #[test]
    fn tokens_come_back() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: 2.0, since: start };
        let mut take = |secs| bucket.take(start + Duration::from_secs(secs), 1.0, 2.0);
        assert!(take(0) && take(0) && !take(0));
        assert!(take(1) && !take(1));
        assert!(take(100) && take(100) && !take(100), "no more than a burst");
    }

    #[test]
    fn what_is_owed_is_waited_for_and_never_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: 4.0, since: start };
        let mut owe = |secs, tokens| bucket.owe(tokens, start + Duration::from_secs(secs), 2.0, 2.0).as_secs_f64();
        assert_eq!((owe(0, 3.0), owe(0, 1.0)), (0.0, 0.0));
        assert_eq!((owe(0, 1.0), owe(0, 2.0)), (0.5, 1.5), "one after the other");
        assert_eq!((owe(1, 1.0), owe(1, 100.0)), (1.0, 2.0));
        assert_eq!((owe(100, 4.0), owe(100, 2.0)), (0.0, 1.0));
    }

    #[test]
    fn events_and_requests_are_counted_apart_and_loopback_not_at_all() {
        let addresses = addresses(|limits| limits.burst_seconds = 1);
        let pass = addresses.admit(ip("192.0.2.1")).expect("let in");
        assert!((0..200).any(|_| !pass.spend(Spend::Event)));
        assert!(pass.spend(Spend::Request));
        let local = addresses.admit(ip("127.0.0.1")).expect("let in");
        assert!((0..200).all(|_| local.spend(Spend::Event)));
    }
}
