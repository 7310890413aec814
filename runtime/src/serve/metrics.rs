//! What the server counts, in the text that Prometheus reads.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The type of the text, for its header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was painted for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A frame over a WebSocket.
    Live,
    /// A picture through the interface.
    Picture,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The counters.
pub struct Metrics {
    registry: Registry,
    painted: Family<KindLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    /// Live frames that a newer one of the same client replaced before they were painted.
    pub dropped: Counter,
    /// Clients that paint live.
    pub clients: Gauge,
    /// Open connections.
    pub connections: Gauge,
    waiting: Gauge,
    wait: Family<KindLabel, Histogram, fn() -> Histogram>,
    paint: Family<KindLabel, Histogram, fn() -> Histogram>,
    received: Counter<u64, AtomicU64>,
    sent: Counter<u64, AtomicU64>,
}

fn seconds() -> Histogram {
    // 1 ms to 262 s: a picture may take minutes ([`super::Limits::paint_time`]).
    Histogram::new(exponential_buckets(0.001, 2.0, 19))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("impasto");
        let metrics = Metrics {
            painted: Family::default(),
            refused: Family::default(),
            dropped: Counter::default(),
            clients: Gauge::default(),
            connections: Gauge::default(),
            waiting: Gauge::default(),
            wait: Family::new_with_constructor(seconds),
            paint: Family::new_with_constructor(seconds),
            received: Counter::default(),
            sent: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("painted", "Pictures painted", metrics.painted.clone());
        registry.register("refused", "Requests, connections and frames refused", metrics.refused.clone());
        registry.register(
            "frames_replaced",
            "Live frames that a newer one replaced",
            metrics.dropped.clone(),
        );
        registry.register("live_clients", "Clients that paint live", metrics.clients.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("waiting", "Pictures that wait for the painter", metrics.waiting.clone());
        registry.register_with_unit("wait", "Time in the queue", Unit::Seconds, metrics.wait.clone());
        registry.register_with_unit("paint", "Time of painting", Unit::Seconds, metrics.paint.clone());
        registry.register_with_unit("received", "Pictures received", Unit::Bytes, metrics.received.clone());
        registry.register_with_unit("sent", "Paintings sent", Unit::Bytes, metrics.sent.clone());
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// A picture was painted.
    pub fn painted(&self, kind: Kind, waited: Duration, painted: Duration, received: usize, sent: usize) {
        let label = KindLabel {
            kind: match kind {
                Kind::Live => "live",
                Kind::Picture => "picture",
            },
        };
        self.painted.get_or_create(&label).inc();
        self.wait.get_or_create(&label).observe(waited.as_secs_f64());
        self.paint.get_or_create(&label).observe(painted.as_secs_f64());
        self.received.inc_by(received as u64);
        self.sent.inc_by(sent as u64);
    }

    /// Something was refused, for one of the server's own reasons (never a caller's text).
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The text; `waiting` pictures wait now.
    pub fn text(&self, waiting: usize) -> String {
        self.waiting.set(waiting as i64);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
