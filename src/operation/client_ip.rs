//! Whose address a request comes from.
//!
//! A header can be written by anybody, so it is believed only as far as the configured proxies wrote it. Every trusted
//! proxy appends the address it was called from; with `n` of them the client's address is the `n`-th entry from the
//! right. With none, or with fewer entries than proxies, the address is the peer's of the connection.
//!
//! Envoy itself appends the peer before its filters run if `use_remote_address` is on, and that counts as one. So `n` is one
//! more than Envoy's own `xff_num_trusted_hops`, which counts the proxies in front of it, and Istio's `numTrustedProxies`:
//!
//! ```text
//! client ─▶ CDN ─▶ load balancer ─▶ Envoy, use_remote_address: true     xff_num_trusted_hops 2, n = 3
//!           x-forwarded-for:  CLIENT, CDN, LOAD-BALANCER
//!                             by CDN  by LB  by Envoy
//! ```
//!
//! Where it is off, as in a sidecar, Envoy appends nothing, and takes the entry at `xff_num_trusted_hops` + 1 from the right for
//! the peer.

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr};

use crate::cx::Cx;
use crate::host::HostError;
use crate::operation::request::Request;

/// How the client's address is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIp {
    /// Lower-case name of the header that proxies append to.
    pub header: String,
    /// How many proxies are trusted to append to it, this one included if it does. 0: the peer's address is the client's.
    pub trusted_hops: usize,
    /// How many leading bits of an IPv6 address count, 1 to 128. A household is given a /64 and can use any address in
    /// it.
    pub ipv6_prefix: u8,
}

impl Default for ClientIp {
    fn default() -> Self {
        Self { header: "x-forwarded-for".to_owned(), trusted_hops: 0, ipv6_prefix: 64 }
    }
}

impl ClientIp {
    /// The client's address in the form that keys use: IPv4-mapped addresses as IPv4, IPv6 cut to the prefix. `None`
    /// where there is none, as on a connection over a Unix socket. Asks the proxy only when the header does not tell.
    ///
    /// # Errors
    ///
    /// The proxy did not say who the peer is.
    pub fn find(&self, cx: &Cx<'_>, request: &Request<'_>) -> Result<Option<IpAddr>, HostError> {
        if let Some(address) = self.in_header(request) {
            return Ok(Some(self.canonical(address)));
        }
        let peer = cx.host.peer_address()?;
        Ok(peer.as_deref().and_then(parse_address).map(|address| self.canonical(address)))
    }

    /// How long the chain is of those who appended to the request's header; `None` if nobody is trusted to.
    pub fn chain(&self, request: &Request<'_>) -> Option<Chain> {
        match self.trusted_hops {
            0 => None,
            hops if self.entries(request).take(hops).count() < hops => Some(Chain::Short),
            _ => Some(Chain::Long),
        }
    }

    fn entries<'r>(&'r self, request: &'r Request<'_>) -> impl Iterator<Item = &'r [u8]> {
        request.headers.all(&self.header).flat_map(|value| value.split(|byte| *byte == b','))
    }

    fn in_header(&self, request: &Request<'_>) -> Option<IpAddr> {
        let hops = self.trusted_hops;
        if hops == 0 {
            return None;
        }
        let from_left = self.entries(request).count().checked_sub(hops)?;
        parse_address(self.entries(request).nth(from_left)?.trim_ascii())
    }

    fn canonical(&self, address: IpAddr) -> IpAddr {
        let IpAddr::V6(address) = address.to_canonical() else {
            return address.to_canonical();
        };
        let dropped = 128_u32.saturating_sub(u32::from(self.ipv6_prefix));
        let mask = u128::MAX.checked_shl(dropped).unwrap_or(0);
        IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
    }
}

/// Whether a request has come by as many proxies as are trusted to append to its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// By as many, or more.
    Long,
    /// By fewer: the peer's address is taken for the client's.
    Short,
}

/// The chains of the latest requests of a limit. Some are short where something calls from nearby, as the kubelet does; if most
/// are, the number of trusted proxies is too large, and clients are counted under the one address of the last proxy.
#[derive(Debug, Default)]
pub struct Chains {
    seen: Cell<u32>,
    short: Cell<u32>,
}

impl Chains {
    /// Of so many requests it is judged.
    pub const SAMPLE: u32 = 100;

    /// Takes note of a request's. At the last of each sample in which more than half are short, how many.
    pub fn note(&self, chain: Chain) -> Option<u32> {
        let short = self.short.get().saturating_add(u32::from(chain == Chain::Short));
        let seen = self.seen.get().saturating_add(1);
        if seen < Self::SAMPLE {
            self.seen.set(seen);
            self.short.set(short);
            return None;
        }
        self.seen.set(0);
        self.short.set(0);
        (seen / 2 < short).then_some(short)
    }
}

/// Reads `address`, `address:port`, `[address]` or `[address]:port`. The zone of an IPv6 address (`fe80::1%eth0`; RFC 4007,
/// section 11) is passed by: it names a link of the machine that wrote it, not the client.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        return without_zone(rest.split_once(']')?.0).parse().ok();
    }
    let address = without_zone(text);
    address.parse().ok().or_else(|| address.rsplit_once(':')?.0.parse().ok())
}

fn without_zone(address: &str) -> &str {
    match address.split_once('%') {
        Some((ipv6, zone)) if ipv6.contains(':') && !zone.is_empty() => ipv6,
        _ => address,
    }
}
