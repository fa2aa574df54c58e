//! Whether an address can be listened at. libp2p listens on ports that others of the same user listen on, and the system
//! would then share the connections out between the two.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Looks whether one can listen there: whether the address is of this computer, and nothing else listens on the port.
///
/// # Errors
/// What the system says of it: above all that the address is in use, or not one of this computer.
pub(super) fn check(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        Some(Protocol::Udp(port)) => UdpSocket::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("is bound").port();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("binds");
        let port = listener.local_addr().expect("is bound").port();
        let at = |text: String| check(&text.parse().expect("an address")).map_err(|error| error.kind());
        assert_eq!(at(format!("/ip4/127.0.0.1/tcp/{port}")), Err(io::ErrorKind::AddrInUse));
        assert_eq!(at(format!("/ip4/127.0.0.1/tcp/{port}/ws")), Err(io::ErrorKind::AddrInUse));
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("binds");
        let port = socket.local_addr().expect("is bound").port();
        assert_eq!(at(format!("/ip4/127.0.0.1/udp/{port}/quic-v1")), Err(io::ErrorKind::AddrInUse));
        for free in
            ["/ip4/127.0.0.1/tcp/0".to_owned(), format!("/ip4/127.0.0.1/tcp/{taken}"), "/dns4/a/tcp/1".to_owned()]
        {
            assert_eq!(at(free), Ok(()));
        }
        for elsewhere in ["/ip4/192.0.2.7/tcp/0", "/ip4/192.0.2.7/udp/0/quic-v1"] {
            assert_eq!(at(elsewhere.to_owned()), Err(io::ErrorKind::AddrNotAvailable));
        }
    }
}
