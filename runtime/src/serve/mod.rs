//! `impasto serve`: a page in the browser that paints pictures and the camera, and an interface for programs.
//!
//! - `config`: what a server is told; `listen`: connections, TLS; `linger`: their end when they were refused.
//! - `guard`: who may come in; `routes`: addresses.
//! - `live`: frames over a WebSocket; `api`: pictures by POST; `settings`: what callers choose; `answer`: refusals.
//! - `queue`: whose turn it is; `painter`: the threads that paint; `catalogue`: the styles on offer.
//! - `scene`: the picture to begin with; `metrics`; `page/`: HTML, style and script, embedded.
//!
//! Two painters work side by side, each with styles and threads of its own: one for live frames, which are small and
//! come in turn, one for the interface's pictures, which may take seconds and give way. No path from a request
//! reaches the file system.
//!
//! ```no_run
//! # fn main() -> Result<(), impasto::RuntimeError> {
//! use impasto::serve::{ServeConfig, Server};
//! let server = Server::bind(ServeConfig::shipped()?)?;
//! println!("{}", server.url());
//! server.run();
//! # Ok(())
//! # }
//! ```

mod answer;
mod api;
mod catalogue;
mod config;
mod guard;
mod linger;
mod listen;
mod live;
mod metrics;
mod painter;
mod queue;
mod routes;
mod scene;
mod settings;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::RuntimeError;
use answer::Refusal;
use catalogue::Catalogue;
pub use config::{DEFAULT_PORT, Limits, ServeConfig, Style, TlsFiles};
use guard::Guard;
use listen::{Peer, Places};
use metrics::Metrics;
use painter::{Painter, PainterOptions};

/// Styles that the live painter keeps open; their buffers for frames of a megapixel take about 100 MB each.
const OPEN_STYLES: usize = 6;
/// One address may take one in so many of the live clients' places.
const CLIENTS_SHARE: usize = 4;
/// How long open connections have to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// What all connections share.
struct Shared {
    catalogue: Arc<Catalogue>,
    guard: Guard,
    limits: Limits,
    metrics: Metrics,
    live: Painter,
    pictures: Painter,
    clients: Places,
    places: Places,
    /// Decoding and encoding of live frames at once.
    helpers: Arc<Semaphore>,
    sample: OnceCell<Bytes>,
    lanes: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
    log: Log,
}

/// What the server tells its operator.
type Log = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// How much a line matters to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Who came and went.
    Detail,
    /// The server failed at something, and its callers cannot mend it.
    Trouble,
}

impl Shared {
    /// Does a short piece of arithmetic beside the threads that serve connections.
    async fn help<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, Refusal> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.helpers).acquire_owned().await;
        // Who leaves does not end the work, and so does not give its place to another either.
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            self.log(Level::Trouble, &format!("decoding or encoding failed: {error}"));
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the server failed on this picture", "")
        })
    }

    /// A lane that nobody else has.
    fn next_lane(&self) -> u64 {
        self.lanes.fetch_add(1, Ordering::Relaxed)
    }

    fn log(&self, level: Level, line: &str) {
        (self.log)(level, line);
    }

    /// An error as its caller may see it; what is not the caller's doing goes to the operator.
    fn report(&self, error: &RuntimeError, pixels: u64) -> Refusal {
        let refusal = Refusal::from_error(error, pixels);
        if refusal.status == StatusCode::INTERNAL_SERVER_ERROR {
            self.log(Level::Trouble, &error.to_string());
        }
        refusal
    }
}

/// A server that has its port and waits to be run.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    /// The first of the names that it was given.
    name: Option<String>,
}

/// Ends a server, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(CancellationToken);

impl Stopper {
    /// Tells the server to end; it closes its sockets with a reason, and [`Server::run`] returns.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl Server {
    /// Checks the configuration and takes the port (0: any free one).
    ///
    /// # Errors
    /// [`RuntimeError::Serve`] says what was wrong: the address, the token, a name, the certificate.
    pub fn bind(config: ServeConfig) -> Result<Self, RuntimeError> {
        Self::bind_with_log(config, |_, _| {})
    }

    /// As [`Server::bind`], with a function that is told, a line at a time, what an operator should know,
    /// and how much it matters.
    ///
    /// # Errors
    /// As for [`Server::bind`].
    pub fn bind_with_log(
        config: ServeConfig,
        log: impl Fn(Level, &str) + Send + Sync + 'static,
    ) -> Result<Self, RuntimeError> {
        if config.styles.is_empty() {
            return Err(RuntimeError::Serve("no style to paint with; expected at least one".to_string()));
        }
        let tls = config.tls.as_ref().map(listen::tls).transpose()?;
        let failed = |error: std::io::Error| RuntimeError::Serve(format!("cannot start: {error}"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            // Each may keep memory of its own for what it decoded: few.
            .max_blocking_threads(4)
            .thread_name("impasto-serve")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(config.listen)).map_err(|error| {
            RuntimeError::Serve(format!(
                "cannot listen on {}: {error}; hint: --listen ADDRESS:PORT takes another address or port",
                config.listen
            ))
        })?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = Guard::new(&config, address.port())?;
        let name = config.allow_hosts.first().cloned();
        let limits = config.limits;
        let catalogue = Arc::new(Catalogue::new(config.styles));
        let log: Log = Arc::new(log);
        let painter = |name, open_styles, background| {
            let options = PainterOptions { name, open_styles, background, stylizer: config.painter };
            Painter::start(Arc::clone(&catalogue), options, Arc::clone(&log))
        };
        let shared = Shared {
            guard,
            metrics: Metrics::default(),
            live: painter("live", OPEN_STYLES, false)?,
            pictures: painter("pictures", 0, true)?,
            clients: Places::new(limits.clients, (limits.clients / CLIENTS_SHARE).max(1)),
            places: Places::new(limits.pictures, limits.pictures_per_address),
            helpers: Arc::new(Semaphore::new(2)),
            sample: OnceCell::new(),
            lanes: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            log,
            catalogue,
            limits,
        };
        Ok(Server { runtime, listener, address, tls, shared: Arc::new(shared), name })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that callers must know, if any.
    pub fn token(&self) -> Option<&str> {
        self.shared.guard.token()
    }

    /// The page's address, with the token if there is one.
    pub fn url(&self) -> String {
        // An address that means every address is no address to go to. And a name has several: another program of
        // this machine, listening on the one of them that we do not, must not be given the token. It cannot show
        // our certificate, which is for names.
        if let (Some(_), Some(name)) = (&self.tls, &self.name) {
            return self.url_at(name);
        }
        let ip = self.address.ip();
        let own = ip.is_unspecified()
            || [Ipv4Addr::LOCALHOST.into(), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&ip);
        match (ip, self.token()) {
            _ if own && (self.token().is_none() || self.tls.is_some()) => self.url_at("localhost"),
            (IpAddr::V4(_), Some(_)) if own => self.url_at("127.0.0.1"),
            (IpAddr::V6(_), Some(_)) if own => self.url_at("[::1]"),
            (IpAddr::V4(ip), _) => self.url_at(&ip.to_string()),
            (IpAddr::V6(ip), _) => self.url_at(&format!("[{ip}]")),
        }
    }

    /// As [`Server::url`], by another name or address of this machine (IPv6 in brackets).
    pub fn url_at(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let token = self.token().map_or_else(String::new, |token| format!("?token={token}"));
        format!("{scheme}://{host}:{}/{token}", self.address.port())
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.stop.clone())
    }

    /// From here on Ctrl-C, or the system's wish that the program end, stops it; the second ends the process at
    /// once, with exit code 130.
    pub fn stop_on_signals(&self) {
        let stop = self.shared.stop.clone();
        let _inside = self.runtime.enter();
        // Taken over now, not when the task first runs. Where the system refuses, its own handling stays: the
        // program ends at once.
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
                let stop = stop.clone();
                if let Ok(mut asked) = signal(kind) {
                    self.runtime.spawn(async move {
                        while asked.recv().await.is_some() {
                            stop_or_exit(&stop);
                        }
                    });
                }
            }
        }
        #[cfg(windows)]
        if let Ok(mut asked) = tokio::signal::windows::ctrl_c() {
            self.runtime.spawn(async move {
                while asked.recv().await.is_some() {
                    stop_or_exit(&stop);
                }
            });
        }
    }

    /// Serves until it is stopped, and for a few seconds more what is under way. A caller's failure is the
    /// caller's: there is nothing to fail here.
    pub fn run(self) {
        let Server { runtime, listener, tls, shared, .. } = self;
        runtime.block_on(async {
            listen::accept(listener, tls, Arc::clone(&shared)).await;
            shared.live.close();
            shared.pictures.close();
            shared.tasks.close();
            // What has not ended by then is cut off with the runtime.
            let _ = tokio::time::timeout(GRACE, shared.tasks.wait()).await;
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Stops the server, or the process when the server has been told already.
fn stop_or_exit(stop: &CancellationToken) {
    if stop.is_cancelled() {
        std::process::exit(130);
    }
    stop.cancel();
}
