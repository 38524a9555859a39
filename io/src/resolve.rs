//! From a name and a port to addresses, without blocking an executor.
//!
//! The system's resolver blocks, for half a minute if its servers are silent. So each look-up has a thread of its own
//! for as long as it takes; numeric addresses need none.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::mailbox::reply;

/// Look-ups under way at a time in this process; more fail. Peers are few, and ask one at a time.
const LOOKUPS_MAX: usize = 64;

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// The addresses of `host:port`, at least one. On any runtime. Dropping the future leaves the look-up to itself.
pub async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let lookup = Lookup::start()?;
    let (sender, answer) = reply();
    let name = address.to_owned();
    thread::Builder::new().name("drey-resolve".to_owned()).spawn(move || {
        let found = name.to_socket_addrs().map(|addresses| addresses.collect::<Vec<_>>());
        drop(lookup);
        // Nobody may be waiting any more.
        let _ = sender.send(found);
    })?;
    let found = answer.await.map_err(io::Error::other)??;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")));
    }
    Ok(found)
}

struct Lookup;

impl Lookup {
    fn start() -> io::Result<Lookup> {
        let lookup = Lookup;
        if LOOKUPS.fetch_add(1, Ordering::Relaxed) >= LOOKUPS_MAX {
            return Err(io::Error::other("too many names are being looked up"));
        }
        Ok(lookup)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        LOOKUPS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn numbers_and_names_are_resolved_and_nonsense_is_an_error() {
        assert_eq!(block_on(resolve("127.0.0.1:9000")).unwrap(), ["127.0.0.1:9000".parse().unwrap()]);
        assert_eq!(block_on(resolve("[::1]:9000")).unwrap(), ["[::1]:9000".parse().unwrap()]);
        let local = block_on(resolve("localhost:9000")).unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 9_000), "{local:?}");
        assert!(!local.is_empty());
        block_on(resolve("no port")).unwrap_err();
        block_on(resolve("localhost:99999")).unwrap_err();
        assert_eq!(LOOKUPS.load(Ordering::Relaxed), 0);
    }
}
