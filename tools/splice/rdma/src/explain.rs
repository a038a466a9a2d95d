// SPDX-License-Identifier: GPL-2.0

//! Errors of `/dev/rdma_splice` as sentences that say what to do.
//!
//! Documentation/filesystems/splice-rdma.rst has the table of the errors.

use rustix::io::Errno;

use crate::address::Address;
use crate::size::thousands;

/// The device node.
pub const DEVICE: &str = "/dev/rdma_splice";

/// The driver's default for the memory to receive into.
const DEFAULT_MEMORY: u32 = 1 << 20;

/// The options of a connection.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// The time for the set-up, in seconds; `None` is the driver's default.
    pub timeout: Option<u32>,
    /// The time after which a silent peer is given up, in seconds; `None` is the
    /// driver's default.
    pub keepalive: Option<u32>,
    /// The memory to receive into, in bytes; `None` is the driver's default.
    pub memory: Option<u32>,
}

/// A position in the file, if `moved` bytes followed `offset`. `None` on overflow.
pub fn position(offset: u64, moved: u64) -> Option<u64> {
    offset.checked_add(moved)
}

fn memory(settings: &Settings) -> String {
    // The driver charges the memory to receive into and as much for the window to send.
    let kib = (u64::from(settings.memory.unwrap_or(DEFAULT_MEMORY)) * 2).div_ceil(1024);
    format!(
        "no memory for a connection, or RLIMIT_MEMLOCK is too low: a connection needs {kib} KiB \
         of it (`ulimit -l` shows the limit, and `ulimit -l {kib}` sets it for one connection); \
         or use less with --memory"
    )
}

/// Explains why the device cannot be opened.
pub fn opening(errno: Errno) -> String {
    match errno {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => format!(
            "{DEVICE} is missing: load the module (`modprobe splice_rdma`); a kernel without the \
             module needs CONFIG_RDMA_SPLICE_RDMA"
        ),
        Errno::ACCESS | Errno::PERM => format!(
            "{DEVICE} cannot be opened: only root has access (mode 0600); run this as root, or \
             add the udev rule in Documentation/filesystems/splice-rdma.rst"
        ),
        other => format!("{DEVICE}: {other}"),
    }
}

/// Explains why CONNECT to `peer` failed.
pub fn connecting(errno: Errno, peer: Address, settings: &Settings) -> String {
    match errno {
        _ if peer.ip.is_loopback() => format!(
            "{} cannot be reached over RDMA: use an address of a network interface with an RDMA \
             device (`rdma link`)",
            peer.ip
        ),
        Errno::CONNREFUSED => format!(
            "{peer} refused the connection: start `splice-rdma recv` there first, or use --wait"
        ),
        Errno::HOSTUNREACH | Errno::NETUNREACH => {
            format!(
                "{peer} cannot be reached: check the address and `ip route get {}`",
                peer.ip
            )
        }
        Errno::NODEV => format!(
            "no RDMA device leads to {peer}: `rdma link` lists the devices; one must be on the \
             network interface of the route"
        ),
        Errno::TIMEDOUT => format!(
            "{peer} does not answer{}: check that it is up and uses the same kind of RDMA",
            settings
                .timeout
                .map_or_else(String::new, |s| format!(" within {s} s"))
        ),
        Errno::PROTO | Errno::CONNRESET => {
            format!("{peer} does not speak the protocol of splice-rdma: {errno}")
        }
        Errno::NOMEM => memory(settings),
        Errno::ADDRNOTAVAIL => "the address of --source is not one of this machine".into(),
        other => format!("connection to {peer}: {other}"),
    }
}

/// Explains why LISTEN at `local` failed.
pub fn listening(errno: Errno, local: Address, settings: &Settings) -> String {
    match errno {
        Errno::ACCESS => format!(
            "port {} is below 1024 and needs CAP_NET_BIND_SERVICE: use a higher port",
            local.port
        ),
        Errno::ADDRINUSE => format!("another program listens at {local}: use another port"),
        Errno::ADDRNOTAVAIL => {
            format!(
                "{} is not an address of this machine: `ip address` lists them",
                local.ip
            )
        }
        Errno::NODEV => format!(
            "no RDMA device has the address {}: `rdma link` lists the devices",
            local.ip
        ),
        Errno::NOMEM => memory(settings),
        other => format!("listening at {local}: {other}"),
    }
}

/// Explains why ACCEPT failed.
pub fn accepting(errno: Errno, settings: &Settings) -> String {
    match errno {
        Errno::NOMEM => memory(settings),
        Errno::NODEV => "the RDMA device was removed".into(),
        other => format!("accepting a connection: {other}"),
    }
}

/// Explains why a connection ended.
fn ended(errno: Errno) -> String {
    match errno {
        Errno::CONNRESET => "the peer ended the connection too early".into(),
        Errno::TIMEDOUT => "the peer does not answer any more".into(),
        Errno::NODEV => "the RDMA device was removed".into(),
        Errno::PROTO => "the peer violated the protocol".into(),
        other => format!("the connection failed: {other}"),
    }
}

/// Explains why a transfer to the peer stopped. The peer's reader has taken `taken` bytes
/// from `offset` on.
pub fn sending(errno: Errno, offset: u64, taken: u64) -> String {
    let why = ended(errno);
    match position(offset, taken) {
        Some(at) => format!(
            "{why}; the receiver has taken {} bytes, up to offset {at}: to resume, use --offset \
             {at} at both ends, or the size of the receiver's file if that is less",
            thousands(taken)
        ),
        None => why,
    }
}

/// Explains why a transfer from the peer stopped. `kept` is the name of the file and the
/// end of the data in it, if it is a regular file.
pub fn receiving(errno: Errno, kept: Option<(&str, u64)>) -> String {
    let why = ended(errno);
    match kept {
        Some((file, at)) => format!(
            "{why}; {file} has the data up to offset {at}: to resume, use --offset {at} at both \
             ends"
        ),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::with_port;

    const SETTINGS: Settings = Settings {
        timeout: Some(7),
        keepalive: Some(3),
        memory: None,
    };

    fn peer() -> Address {
        with_port("192.0.2.1:5000").unwrap()
    }

    #[test]
    fn a_missing_device_names_module_and_option() {
        let text = opening(Errno::NOENT);
        assert!(text.contains("modprobe splice_rdma"), "{text}");
        assert!(text.contains("CONFIG_RDMA_SPLICE_RDMA"), "{text}");
        assert!(opening(Errno::ACCESS).contains("mode 0600"));
        assert!(opening(Errno::MFILE).starts_with("/dev/rdma_splice: "));
    }

    #[test]
    fn memory_is_twice_that_of_one_direction() {
        let text = connecting(Errno::NOMEM, peer(), &SETTINGS);
        assert!(text.contains("RLIMIT_MEMLOCK"), "{text}");
        assert!(text.contains("2048 KiB"), "{text}");
        let settings = Settings {
            memory: Some(64 << 10),
            ..SETTINGS
        };
        for text in [
            listening(Errno::NOMEM, peer(), &settings),
            accepting(Errno::NOMEM, &settings),
        ] {
            assert!(text.contains("needs 128 KiB"), "{text}");
        }
    }

    #[test]
    fn connecting_says_what_to_check() {
        for (errno, words) in [
            (Errno::CONNREFUSED, "start `splice-rdma recv` there first"),
            (Errno::HOSTUNREACH, "ip route get 192.0.2.1"),
            (Errno::NETUNREACH, "cannot be reached"),
            (Errno::NODEV, "no RDMA device leads to 192.0.2.1:5000"),
            (Errno::TIMEDOUT, "does not answer within 7 s"),
            (Errno::PROTO, "does not speak the protocol"),
        ] {
            let text = connecting(errno, peer(), &SETTINGS);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn loopback_is_explained() {
        for text in ["127.0.0.1:5000", "[::1]:5000"] {
            let text = connecting(Errno::INVAL, with_port(text).unwrap(), &SETTINGS);
            assert!(text.contains("1 cannot be reached over RDMA"), "{text}");
        }
    }

    #[test]
    fn listening_says_what_to_change() {
        for (errno, words) in [
            (Errno::ACCESS, "CAP_NET_BIND_SERVICE"),
            (Errno::ADDRINUSE, "use another port"),
            (Errno::ADDRNOTAVAIL, "is not an address of this machine"),
            (Errno::NODEV, "no RDMA device has the address 192.0.2.1"),
        ] {
            let text = listening(errno, peer(), &SETTINGS);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_broken_connection_says_where_to_resume() {
        let text = sending(Errno::CONNRESET, 1000, 2345);
        assert!(
            text.contains("has taken 2,345 bytes, up to offset 3345"),
            "{text}"
        );
        assert!(text.contains("use --offset 3345 at both ends"), "{text}");
        let text = sending(Errno::TIMEDOUT, 0, 0);
        assert!(text.contains("does not answer any more"), "{text}");
        assert!(text.contains("--offset 0 "), "{text}");
        let text = receiving(Errno::CONNRESET, Some(("out", 77)));
        assert!(text.contains("out has the data up to offset 77"), "{text}");
        assert!(text.contains("--offset 77"), "{text}");
        let text = receiving(Errno::NODEV, None);
        assert_eq!(text, "the RDMA device was removed");
    }

    #[test]
    fn a_position_does_not_wrap_around() {
        assert_eq!(position(5, 6), Some(11));
        assert_eq!(position(u64::MAX, 1), None);
        assert!(!sending(Errno::PROTO, u64::MAX, 1).contains("--offset"));
    }
}
