//! Connections: accepted, counted, wrapped in TLS where asked for, each with a time for everything.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::answer::Refusal;
use super::config::TlsFiles;
use super::linger::Lingering;
use super::{Shared, routes};
use crate::RuntimeError;

/// Most bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;

/// After this a connection takes no further request, and as long again for the one under way.
const LIFETIME: Duration = Duration::from_secs(300);

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address, without the port.
    pub address: IpAddr,
}

impl Peer {
    /// The lane of everybody at this address.
    pub fn lane(self) -> u64 {
        let bits = match household(self.address) {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        (bits >> 64) as u64 ^ bits as u64
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What counts as one address: a household has a /64 of IPv6 to itself, and more addresses in it than can be counted.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// So many at once, and so many from one address (of IPv6, one /64).
pub struct Places {
    total: usize,
    each: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place, free again when dropped.
pub struct Place {
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    /// `total` places, `each` of them for one address. Loopback is exempt from the latter.
    pub fn new(total: usize, each: usize) -> Self {
        Places { total, each, taken: Arc::default() }
    }

    /// Takes a place.
    pub fn try_take(&self, address: IpAddr) -> Option<Place> {
        let address = household(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&address).copied().unwrap_or(0);
        if taken.values().sum::<usize>() >= self.total || (own >= self.each && !address.is_loopback()) {
            return None;
        }
        *taken.entry(address).or_default() += 1;
        Some(Place { address, taken: Arc::clone(&self.taken) })
    }

    /// Takes a place for a picture.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn take(&self, address: IpAddr) -> Result<Place, Refusal> {
        self.try_take(address)
            .ok_or_else(|| Refusal::busy("as many pictures as this server takes at once are being painted"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// A connection's place, and its part in the count: its own, and then that of the WebSocket that it becomes.
pub struct Held {
    shared: Arc<Shared>,
    _place: Place,
    /// A request was answered before all of it had come.
    pub unread: Arc<AtomicBool>,
}

impl Held {
    fn new(shared: Arc<Shared>, place: Place) -> Self {
        shared.metrics.connections.inc();
        Held { shared, _place: place, unread: Arc::default() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.metrics.connections.dec();
    }
}

/// Reads certificate and key.
///
/// # Errors
/// [`RuntimeError::Serve`] names the file and what is wrong with it.
pub fn tls(files: &TlsFiles) -> Result<TlsAcceptor, RuntimeError> {
    let broken = |option: &str, path: &std::path::Path, error: String| {
        RuntimeError::Serve(format!("{option} {}: {error}", path.display()))
    };
    let certificate = |error: String| broken("--tls-cert", &files.certificate, error);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| certificate(format!("{error}; expected PEM certificates")))?;
    if chain.is_empty() {
        return Err(certificate("no certificate in it; expected PEM certificates".to_string()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        broken("--tls-key", &files.key, format!("{error}; expected a PEM private key without a passphrase"))
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| certificate(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| certificate(format!("does not fit the key: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections until the server stops.
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let router = routes::router(Arc::clone(&shared));
    let places = Places::new(shared.limits.connections, shared.limits.connections_per_address);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => (stream, Peer { address: from.ip().to_canonical() }),
                Err(_) => {
                    // Out of file descriptors, or the caller left in the queue: neither ends the server.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shared.stop.cancelled() => return,
        };
        let Some(place) = places.try_take(peer.address) else {
            shared.metrics.refused("connections");
            continue;
        };
        let held = Arc::new(Held::new(Arc::clone(&shared), place));
        let router = router.clone().layer(Extension(peer)).layer(Extension(Arc::clone(&held)));
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        let tasks = shared.tasks.clone();
        tasks.spawn(async move { connection(stream, tls, router, &shared, &held).await });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    shared: &Shared,
    held: &Held,
) {
    let _ = stream.set_nodelay(true); // only a matter of milliseconds
    match tls {
        None => serve(stream, router, shared, held).await,
        Some(tls) => {
            let until = Instant::now() + shared.limits.header_time;
            let mut first = [0];
            let _ = timeout_at(until, stream.peek(&mut first)).await; // if it failed, so does the next
            // A method, not a handshake: browsers take an address without its scheme for plain HTTP.
            if first[0].is_ascii_alphabetic() {
                shared.metrics.refused("plain_http");
                held.unread.store(true, Ordering::Relaxed);
                return serve(stream, Router::new().fallback(wants_https), shared, held).await;
            }
            match timeout_at(until, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, router, shared, held).await,
                Ok(Err(_)) | Err(_) => shared.metrics.refused("tls"),
            }
        }
    }
}

/// The answer to plain HTTP where HTTPS is spoken.
async fn wants_https() -> Refusal {
    Refusal::bad_request(
        "this server speaks HTTPS, and was spoken to in plain HTTP",
        "write https:// before its address",
    )
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    shared: &Shared,
    held: &Held,
) {
    let mut stream = TimeoutStream::new(stream);
    // A reader that takes nothing for so long is gone; live clients have a time of their own, which counts them,
    // and comes first. (Reading has its times elsewhere: a caller who waits for a large painting sends nothing, and
    // is right.)
    stream.set_write_timeout(Some(shared.limits.send_time * 2));
    let stream = Lingering::new(Box::pin(stream), Arc::clone(&held.unread), shared.limits.body_time);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_time)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A caller's broken connection is its own affair.
        _ = connection.as_mut() => return,
        () = shared.stop.cancelled() => {}
        // Who takes a byte now and then is let go too. (A socket that was upgraded has left by then.)
        () = tokio::time::sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LIFETIME, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let places = Places::new(5, 2);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let mut held: Vec<Place> =
            [a, a].into_iter().filter_map(|address| places.try_take(address)).collect();
        assert!(held.len() == 2 && places.try_take(a).is_none());
        held.extend([b, local, local].into_iter().filter_map(|address| places.try_take(address)));
        assert!(held.len() == 5 && places.try_take(local).is_none());
        held.clear();
        assert!(places.taken.lock().unwrap().is_empty());
        assert!(places.try_take(a).is_some());
    }

    #[test]
    fn a_household_has_the_places_of_one_address() {
        let places = Places::new(10, 2);
        let take = |address: &str| places.try_take(address.parse().unwrap());
        let held = [take("2001:db8::1"), take("2001:db8::2:1")];
        assert!(held.iter().all(Option::is_some) && take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        let local: Vec<_> = (0..8).map(|_| take("::1")).collect();
        assert!(local.iter().all(Option::is_some) && take("::1").is_none());
        drop(held);
        assert!(take("2001:db8::3").is_some());
    }

    #[test]
    fn a_household_is_one_lane() {
        let lane = |address: &str| Peer { address: address.parse().unwrap() }.lane();
        assert_eq!(lane("2001:db8::1"), lane("2001:db8::2"));
        assert_ne!(lane("2001:db8::1"), lane("2001:db8:1::1"));
        assert_ne!(lane("10.0.0.1"), lane("10.0.0.2"));
    }
}
