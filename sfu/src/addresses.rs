//! Which addresses clients are told to send to: the host candidates of every transport (RFC 8445 §5.1.1.1).

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use tracing::warn;

use crate::config::Config;

/// Most addresses in a session description. Machines full of container bridges have more; clients would have
/// to try each of them.
const MAX_ADDRESSES: usize = 16;

/// The addresses to announce for a socket bound to `bound`: those that the operator named, else the socket's
/// own, else (bound to all) those of the interfaces.
pub(crate) fn announced(config: &Config, bound: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    if !config.node_ip.is_empty() {
        let port = |named: Option<u16>| named.unwrap_or(bound.port());
        return Ok(config.node_ip.iter().map(|node| SocketAddr::new(node.ip, port(node.port))).collect());
    }
    if !bound.ip().is_unspecified() {
        return Ok(vec![bound]);
    }
    let mut ips = usable(config, bound)?;
    if ips.len() > MAX_ADDRESSES {
        warn!(
            found = ips.len(),
            announced = MAX_ADDRESSES,
            "too many addresses: name the right ones in node_ip"
        );
        ips.truncate(MAX_ADDRESSES);
    }
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect())
}

/// This machine's addresses that clients may write to, where all are listened on.
pub(crate) fn own(config: &Config) -> Vec<IpAddr> {
    if !config.udp_bind.ip().is_unspecified() {
        return Vec::new();
    }
    // A machine that does not tell has one socket, of all addresses.
    usable(config, config.udp_bind).unwrap_or_default()
}

/// The addresses of the interfaces that a candidate can carry. IPv4 first: it is what most school networks carry.
fn usable(config: &Config, bound: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let mut ips = interface_addresses()?;
    ips.retain(|ip| {
        (bound.is_ipv6() || ip.is_ipv4())
            && (config.announce_loopback || !ip.is_loopback())
            && !link_local(*ip)
    });
    ips.sort_unstable();
    ips.dedup();
    Ok(ips)
}

/// The addresses of all interfaces that are up.
fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let up = getifaddrs()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    Ok(up.filter_map(|interface| ip_of(&interface.address?)).collect())
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Link-local addresses need a scope, which a candidate cannot carry.
fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(node_ip: &[&str], announce_loopback: bool) -> Config {
        let node_ip = node_ip.iter().map(|text| text.parse().unwrap()).collect();
        Config { node_ip, announce_loopback, ..Config::default() }
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn named_addresses_win_and_may_map_the_port() {
        let config = config(&["203.0.113.7", "203.0.113.8:30082"], true);
        let announced = announced(&config, addr("0.0.0.0:7882")).unwrap();
        assert_eq!(announced, [addr("203.0.113.7:7882"), addr("203.0.113.8:30082")]);
    }

    #[test]
    fn a_socket_bound_to_one_address_announces_that() {
        assert_eq!(announced(&config(&[], false), addr("127.0.0.1:9")).unwrap(), [addr("127.0.0.1:9")]);
    }

    #[test]
    fn loopback_is_announced_only_where_asked_for() {
        let announced = |loopback| announced(&config(&[], loopback), addr("0.0.0.0:9")).unwrap();
        assert!(announced(true).contains(&addr("127.0.0.1:9")));
        assert!(announced(false).iter().all(|address| !address.ip().is_loopback() && address.is_ipv4()));
    }
}
