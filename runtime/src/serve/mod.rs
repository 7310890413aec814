//! `impasto serve`: a page in the browser that paints pictures and the camera, and an interface for programs.
//!
//! - `config`: what a server is told; `listen`: connections, TLS; `guard`: who may come in; `routes`: addresses.
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
    clients: Arc<Semaphore>,
    places: Places,
    /// Decoding and encoding of live frames at once.
    helpers: Semaphore,
    sample: OnceCell<Bytes>,
    lanes: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
    log: Log,
}

/// What the server tells its operator.
type Log = Arc<dyn Fn(&str) + Send + Sync>;

impl Shared {
    /// Does a short piece of arithmetic beside the threads that serve connections.
    async fn help<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, Refusal> {
        // The semaphore is never closed.
        let _permit = self.helpers.acquire().await;
        tokio::task::spawn_blocking(work).await.map_err(|_| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the server failed on this picture", "")
        })
    }

    /// A lane that nobody else has.
    fn next_lane(&self) -> u64 {
        self.lanes.fetch_add(1, Ordering::Relaxed)
    }

    fn log(&self, line: &str) {
        (self.log)(line);
    }

    /// An error as its caller may see it; what is not the caller's doing goes to the operator.
    fn report(&self, error: &RuntimeError, pixels: u64) -> Refusal {
        let refusal = Refusal::from_error(error, pixels);
        if refusal.status == StatusCode::INTERNAL_SERVER_ERROR {
            self.log(&error.to_string());
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
        Self::bind_with_log(config, |_| {})
    }

    /// As [`Server::bind`], with a function that is told, a line at a time, what an operator should know.
    ///
    /// # Errors
    /// As for [`Server::bind`].
    pub fn bind_with_log(
        config: ServeConfig,
        log: impl Fn(&str) + Send + Sync + 'static,
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
        let limits = config.limits;
        let catalogue = Arc::new(Catalogue::new(config.styles));
        let painter = |name, open_styles, background| {
            let options = PainterOptions { name, open_styles, background, stylizer: config.painter };
            Painter::start(Arc::clone(&catalogue), options)
        };
        let shared = Shared {
            guard,
            metrics: Metrics::default(),
            live: painter("live", OPEN_STYLES, false)?,
            pictures: painter("pictures", 0, true)?,
            clients: Arc::new(Semaphore::new(limits.clients.min(Semaphore::MAX_PERMITS))),
            places: Places::new(limits.pictures, limits.pictures_per_address),
            helpers: Semaphore::new(2),
            sample: OnceCell::new(),
            lanes: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            log: Arc::new(log),
            catalogue,
            limits,
        };
        Ok(Server { runtime, listener, address, tls, shared: Arc::new(shared) })
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
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        // An address that means every address is no address to go to.
        let host = match self.address.ip() {
            ip if ip.is_unspecified()
                || ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
                || ip == IpAddr::V6(Ipv6Addr::LOCALHOST) =>
            {
                "localhost".to_string()
            }
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        let token = self.token().map_or_else(String::new, |token| format!("?token={token}"));
        format!("{scheme}://{host}:{}/{token}", self.address.port())
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.stop.clone())
    }

    /// From here on Ctrl-C, or the system's wish that the program end, stops it.
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
                        asked.recv().await;
                        stop.cancel();
                    });
                }
            }
        }
        #[cfg(windows)]
        if let Ok(mut asked) = tokio::signal::windows::ctrl_c() {
            self.runtime.spawn(async move {
                asked.recv().await;
                stop.cancel();
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
