//! Ports that no other test takes while their server is down.
//!
//! They lie below the kernel's ephemeral range: a client that reconnects to a dead server inside that range can connect
//! to itself, and then holds the port when the server comes back.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;

use nix::unistd::Uid;

const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port reserved for as long as this lives, or its process does.
pub struct Port {
    pub number: u16,
    /// Locked; the kernel unlocks it when the process dies, however it dies.
    _reservation: File,
}

impl Port {
    /// Reserves a port on which nothing listens now.
    ///
    /// A program that is not one of our tests may still take it, so that starting on it may fail: try again with another.
    pub fn reserve() -> Self {
        let folder = std::env::temp_dir().join(format!("onetake-test-ports-{}", Uid::current()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        (0..1000)
            .find_map(|_| try_reserve(&folder, rand::random_range(RANGE)))
            .expect("one of a thousand ports is free")
    }
}

fn try_reserve(folder: &Path, number: u16) -> Option<Port> {
    let reservation = File::create(folder.join(number.to_string())).ok()?;
    reservation.try_lock().ok()?;
    TcpListener::bind(("127.0.0.1", number)).ok()?;
    Some(Port { number, _reservation: reservation })
}
