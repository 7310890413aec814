//! What a server is told: where it listens, what it paints with, whom it lets in, and how much each may ask for.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use impasto_checkpoints::{StyleModel, shipped};

use crate::RuntimeError;
use crate::stylizer::StylizerOptions;

/// The port unless told otherwise.
pub const DEFAULT_PORT: u16 = 7878;

/// The shipped style that the page opens with: the one that most people know by sight.
const OPENING_STYLE: &str = "starry_night";

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where it listens. On addresses other than loopback it asks for a token.
    pub listen: SocketAddr,
    /// Names by which it may be called (`Host`), beside those of loopback: those of a proxy before it, say. With
    /// one it asks for a token on loopback too.
    pub allow_hosts: Vec<String>,
    /// What callers must know; `None`: nothing on loopback under its own names, a fresh one elsewhere.
    pub token: Option<String>,
    /// Certificate chain and private key (PEM files), for HTTPS.
    pub tls: Option<TlsFiles>,
    /// The styles, by name, the first one chosen when the page opens.
    pub styles: Vec<Style>,
    /// How the painter works.
    pub painter: StylizerOptions,
    /// What each caller may ask for.
    pub limits: Limits,
}

/// The files that HTTPS needs.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// A style on offer.
#[derive(Debug, Clone)]
pub struct Style {
    /// The name that requests use.
    pub name: String,
    /// The model.
    pub model: StyleModel,
}

/// Limits, each with a default that a household server does not meet.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Clients that paint live at once.
    pub clients: usize,
    /// Connections at once, whatever they do.
    pub connections: usize,
    /// Connections at once from one address; loopback is exempt, as proxies come from there.
    pub connections_per_address: usize,
    /// Bytes of a picture sent to `/api/stylize`.
    pub body_bytes: usize,
    /// Pixels that such a picture may declare, that its painting may have, and that the network may see.
    pub pixels: u64,
    /// Pictures from `/api/stylize` that are received, wait or are painted at once.
    pub pictures: usize,
    /// As `pictures`, of one address.
    pub pictures_per_address: usize,
    /// Bytes of a live frame.
    pub frame_bytes: usize,
    /// Pixels of a live frame.
    pub frame_pixels: u64,
    /// Pixels that the network may see of a live frame, at a stroke scale above 1.
    pub seen_pixels: u64,
    /// For a request's head, and for a connection that is kept open between requests.
    pub header_time: Duration,
    /// For a request's body to begin; each `body_rate` bytes that have arrived give it one second more.
    pub body_time: Duration,
    /// Bytes per second.
    pub body_rate: usize,
    /// From the moment that a picture has arrived until it is painted.
    pub paint_time: Duration,
    /// For a reader to take what it is sent.
    pub send_time: Duration,
    /// A live client that says nothing for so long, not even to a ping, is gone.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            clients: 64,
            connections: 256,
            connections_per_address: 64,
            body_bytes: 32_000_000,
            pixels: 30_000_000,
            pictures: 8,
            pictures_per_address: 4,
            frame_bytes: 2 << 20,
            frame_pixels: 1 << 20,
            seen_pixels: 2 << 20,
            header_time: Duration::from_secs(15),
            body_time: Duration::from_secs(60),
            body_rate: 50_000,
            paint_time: Duration::from_secs(180),
            send_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
        }
    }
}

impl ServeConfig {
    /// The shipped styles on `127.0.0.1` and [`DEFAULT_PORT`].
    ///
    /// # Errors
    /// [`RuntimeError::Model`] when a shipped style is broken.
    pub fn shipped() -> Result<Self, RuntimeError> {
        let styles: Result<Vec<Style>, RuntimeError> = shipped::names()
            .map(|name| Ok(Style { name: name.to_string(), model: shipped::load(name)? }))
            .collect();
        let mut styles = styles?;
        if let Some(at) = styles.iter().position(|style| style.name == OPENING_STYLE) {
            styles[..=at].rotate_right(1);
        }
        Ok(Self::with_styles(styles))
    }

    /// Given styles on `127.0.0.1` and [`DEFAULT_PORT`].
    pub fn with_styles(styles: Vec<Style>) -> Self {
        ServeConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            allow_hosts: Vec::new(),
            token: None,
            tls: None,
            styles,
            painter: StylizerOptions::default(),
            limits: Limits::default(),
        }
    }

    /// Offers one more style. Where the name is taken, a number is put behind it.
    pub fn add_style(&mut self, name: &str, model: StyleModel) {
        let taken = |name: &str| self.styles.iter().any(|style| style.name == name);
        let mut free = name.to_string();
        for number in 2.. {
            if !taken(&free) {
                break;
            }
            free = format!("{name}_{number}");
        }
        self.styles.push(Style { name: free, model });
    }
}
