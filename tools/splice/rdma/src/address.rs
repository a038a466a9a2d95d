// SPDX-License-Identifier: GPL-2.0

//! Addresses as people write them: `192.0.2.1:5000`, `[2001:db8::1]:5000`,
//! `[fe80::1%eth0]:5000`.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ffi::{Addr, AF_INET, AF_INET6};

const FORM: &str = "an address has the form 192.0.2.1:5000, [2001:db8::1]:5000 or \
                    [fe80::1%eth0]:5000";

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    /// The index of the interface of an IPv6 address that is local to a link, or 0.
    pub scope_id: u32,
    pub port: u16,
}

/// Returns the index of a network interface.
fn interface(name: &str) -> Option<u32> {
    if let Ok(index) = name.parse() {
        return Some(index);
    }
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    index.trim().parse().ok()
}

fn ip(text: &str) -> Result<(IpAddr, u32), String> {
    let (addr, scope) = match text.split_once('%') {
        Some((addr, scope)) => (addr, Some(scope)),
        None => (text, None),
    };
    let ip: IpAddr = addr.parse().map_err(|_| {
        format!("{addr:?} is not an IPv4 or IPv6 address (names are not resolved): {FORM}")
    })?;
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    match scope {
        None if link_local => Err(format!(
            "{addr} is local to a link: add its interface, as in [{addr}%eth0]:5000"
        )),
        None => Ok((ip, 0)),
        Some(_) if !link_local => Err(format!(
            "{addr} is not local to a link: leave out the part after %"
        )),
        Some(scope) => match interface(scope) {
            Some(index) if index > 0 => Ok((ip, index)),
            _ => Err(format!(
                "there is no network interface {scope:?}: `ip link` lists them"
            )),
        },
    }
}

/// Parses an address with a port.
pub fn with_port(text: &str) -> Result<Address, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .ok_or_else(|| format!("no \"]:PORT\": {FORM}"))?,
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(format!("an IPv6 address needs brackets: {FORM}"));
            }
            Some(parts) => parts,
            None => return Err(format!("no port: {FORM}")),
        },
    };
    let (ip, scope_id) = ip(host)?;
    if text.starts_with('[') && ip.is_ipv4() {
        return Err(format!("an IPv4 address has no brackets: {FORM}"));
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok(Address { ip, scope_id, port }),
        _ => Err(format!(
            "{port:?} is not a port: it is a number from 1 to 65535"
        )),
    }
}

/// Parses an address without a port, with or without brackets.
pub fn without_port(text: &str) -> Result<Address, String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let (ip, scope_id) = ip(inner.unwrap_or(text))?;
    Ok(Address {
        ip,
        scope_id,
        port: 0,
    })
}

impl From<Address> for Addr {
    fn from(from: Address) -> Self {
        let mut raw = Self {
            port: from.port,
            scope_id: from.scope_id,
            ..Self::default()
        };
        match from.ip {
            IpAddr::V4(ip) => {
                raw.family = AF_INET;
                raw.addr[..4].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                raw.family = AF_INET6;
                raw.addr = ip.octets();
            }
        }
        raw
    }
}

/// The kernel's address, or `None` if it has another family.
impl TryFrom<Addr> for Address {
    type Error = ();

    fn try_from(raw: Addr) -> Result<Self, ()> {
        let [a, b, c, d, ..] = raw.addr;
        let ip = match raw.family {
            AF_INET => Ipv4Addr::new(a, b, c, d).into(),
            AF_INET6 => Ipv6Addr::from(raw.addr).into(),
            _ => return Err(()),
        };
        Ok(Self {
            ip,
            scope_id: raw.scope_id,
            port: raw.port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.scope_id) {
            (IpAddr::V4(ip), _) => write!(f, "{ip}:{}", self.port),
            (IpAddr::V6(ip), 0) => write!(f, "[{ip}]:{}", self.port),
            (IpAddr::V6(ip), scope) => write!(f, "[{ip}%{scope}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in [
            "192.0.2.1:5000",
            "0.0.0.0:1",
            "[2001:db8::1]:65535",
            "[::]:5000",
            "[fe80::1%7]:5000",
        ] {
            let address = with_port(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::try_from(Addr::from(address)), Ok(address));
        }
    }

    #[test]
    fn the_kernel_gets_network_byte_order() {
        let raw = Addr::from(with_port("192.0.2.1:5000").unwrap());
        assert_eq!((raw.family, raw.port, raw.scope_id), (AF_INET, 5000, 0));
        assert_eq!(raw.addr, [192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let raw = Addr::from(with_port("[fe80::2%3]:80").unwrap());
        assert_eq!((raw.family, raw.port, raw.scope_id), (AF_INET6, 80, 3));
        assert_eq!(raw.addr[..2], [0xfe, 0x80]);
        assert_eq!(raw.addr[15], 2);
        assert_eq!(Address::try_from(Addr::default()), Err(()));
    }

    #[test]
    fn an_interface_has_a_name_or_an_index() {
        let lo = with_port("[fe80::1%lo]:5000").unwrap();
        assert!(lo.scope_id > 0);
        assert_eq!(without_port("fe80::1%lo").unwrap().scope_id, lo.scope_id);
        assert_eq!(without_port("[fe80::1%9]").unwrap().scope_id, 9);
        assert_eq!(without_port("192.0.2.1").unwrap().port, 0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, sentence) in [
            ("192.0.2.1", "no port"),
            ("host:5000", "names are not resolved"),
            ("192.0.2.1:0", "\"0\" is not a port"),
            ("192.0.2.1:65536", "\"65536\" is not a port"),
            ("192.0.2.1:x", "\"x\" is not a port"),
            ("2001:db8::1:5000", "needs brackets"),
            ("[2001:db8::1]", "no \"]:PORT\""),
            ("[192.0.2.1]:5000", "has no brackets"),
            ("[fe80::1]:5000", "add its interface"),
            ("[fe80::1%none]:5000", "no network interface \"none\""),
            ("[fe80::1%../x]:5000", "no network interface"),
            ("[fe80::1%0]:5000", "no network interface \"0\""),
            ("[2001:db8::1%lo]:5000", "not local to a link"),
            ("", "no port"),
        ] {
            let error = with_port(text).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
