// SPDX-License-Identifier: GPL-2.0

//! Addresses of the ends of a connection.

use crate::bindings;
use core::{
    mem::{size_of, MaybeUninit},
    ptr,
};

/// An IP address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAddr {
    /// An IPv4 address.
    V4 {
        /// The address in network byte order.
        addr: [u8; 4],
        /// The port.
        port: u16,
    },
    /// An IPv6 address.
    V6 {
        /// The address in network byte order.
        addr: [u8; 16],
        /// The port.
        port: u16,
        /// The index of the network interface of an address that is local to a link, otherwise 0.
        scope_id: u32,
    },
}

impl SocketAddr {
    /// Returns the address that stands for all addresses of the same family, with port 0.
    pub fn any_of(&self) -> Self {
        match self {
            Self::V4 { .. } => Self::V4 {
                addr: [0; 4],
                port: 0,
            },
            Self::V6 { .. } => Self::V6 {
                addr: [0; 16],
                port: 0,
                scope_id: 0,
            },
        }
    }

    /// Converts to the form that C functions take.
    pub(super) fn to_raw(self) -> bindings::__kernel_sockaddr_storage {
        let mut raw = MaybeUninit::<bindings::__kernel_sockaddr_storage>::zeroed();
        match self {
            Self::V4 { addr, port } => {
                let v4 = bindings::sockaddr_in {
                    // CAST: Address families are small numbers.
                    sin_family: bindings::AF_INET as u16,
                    sin_port: port.to_be(),
                    sin_addr: bindings::in_addr {
                        s_addr: u32::from_ne_bytes(addr),
                    },
                    ..pin_init::zeroed()
                };
                // SAFETY: The storage is large and aligned enough for every kind of address.
                unsafe { raw.as_mut_ptr().cast::<bindings::sockaddr_in>().write(v4) };
            }
            Self::V6 {
                addr,
                port,
                scope_id,
            } => {
                let mut v6: bindings::sockaddr_in6 = pin_init::zeroed();
                // CAST: Address families are small numbers.
                v6.sin6_family = bindings::AF_INET6 as u16;
                v6.sin6_port = port.to_be();
                v6.sin6_addr.in6_u.u6_addr8 = addr;
                v6.sin6_scope_id = scope_id;
                // SAFETY: The storage is large and aligned enough for every kind of address.
                unsafe { raw.as_mut_ptr().cast::<bindings::sockaddr_in6>().write(v6) };
            }
        }
        // SAFETY: All bytes were zeroed above, which is valid for the type.
        unsafe { raw.assume_init() }
    }

    /// Converts from the form of C. Returns `None` if it is not an IP address.
    pub(super) fn from_raw(raw: &bindings::__kernel_sockaddr_storage) -> Option<Self> {
        const _: () = assert!(size_of::<bindings::__kernel_sockaddr_storage>() >= 28);
        let raw = ptr::from_ref(raw);
        // SAFETY: Every kind of address begins with its family. The storage is large and aligned
        // enough for the kinds that are read here, and all of its bytes are initialized.
        unsafe {
            match u32::from(*raw.cast::<u16>()) {
                bindings::AF_INET => {
                    let v4 = &*raw.cast::<bindings::sockaddr_in>();
                    Some(Self::V4 {
                        addr: v4.sin_addr.s_addr.to_ne_bytes(),
                        port: u16::from_be(v4.sin_port),
                    })
                }
                bindings::AF_INET6 => {
                    let v6 = &*raw.cast::<bindings::sockaddr_in6>();
                    Some(Self::V6 {
                        addr: v6.sin6_addr.in6_u.u6_addr8,
                        port: u16::from_be(v6.sin6_port),
                        scope_id: v6.sin6_scope_id,
                    })
                }
                _ => None,
            }
        }
    }
}
