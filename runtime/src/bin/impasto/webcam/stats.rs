//! How fast it is and how late: for the overlay and the report at the end.

use std::time::Instant;

use serde_json::{Value, json};

use super::painter::Shown;

/// Frames that the figures on the screen are taken over.
const WINDOW: usize = 30;

/// What was shown so far.
pub struct Stats {
    /// Of each frame shown: when, how old it was by then, and what its painting took, in seconds.
    frames: Vec<(Instant, f64, f64)>,
    arrived: u64,
    dropped: u64,
    size: (usize, usize),
}

impl Stats {
    pub fn new() -> Self {
        Stats { frames: Vec::new(), arrived: 0, dropped: 0, size: (0, 0) }
    }

    /// A frame that has just been shown.
    pub fn add(&mut self, shown: &Shown) {
        let Some(taken) = shown.taken else { return };
        let now = Instant::now();
        self.frames.push((now, (now - taken.at).as_secs_f64(), shown.paint_seconds));
        (self.arrived, self.dropped) = (taken.arrived, taken.dropped);
        self.size = (shown.painted.width(), shown.painted.height());
    }

    pub fn frames(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Frames a second and seconds of latency (the median), over the last frames.
    pub fn lately(&self) -> (f64, f64) {
        let last = &self.frames[self.frames.len().saturating_sub(WINDOW)..];
        (rate(last), quantile(last.iter().map(|frame| frame.1), 0.5))
    }

    pub fn words(&self) -> String {
        let latency = |part: f64| 1e3 * quantile(self.frames.iter().map(|frame| frame.1), part);
        format!(
            "{} frames of {}×{}, {:.1} fps, latency {:.0} ms (95 % within {:.0}), {} of {} frames dropped",
            self.frames.len(),
            self.size.0,
            self.size.1,
            rate(&self.frames),
            latency(0.5),
            latency(0.95),
            self.dropped,
            self.arrived
        )
    }

    pub fn json(&self, style: &str) -> Value {
        let latency = |part: f64| 1e3 * quantile(self.frames.iter().map(|frame| frame.1), part);
        json!({
            "style": style,
            "width": self.size.0,
            "height": self.size.1,
            "frames": self.frames.len(),
            "fps": rate(&self.frames),
            "latency_ms": { "median": latency(0.5), "p95": latency(0.95), "max": latency(1.0) },
            "paint_ms": 1e3 * quantile(self.frames.iter().map(|frame| frame.2), 0.5),
            "arrived": self.arrived,
            "dropped": self.dropped,
        })
    }
}

/// Frames a second between the first and the last.
fn rate(frames: &[(Instant, f64, f64)]) -> f64 {
    match (frames.first(), frames.last()) {
        (Some(first), Some(last)) if frames.len() > 1 => {
            (frames.len() - 1) as f64 / (last.0 - first.0).as_secs_f64().max(1e-9)
        }
        _ => 0.0,
    }
}

/// The value that this part of all is not above; 0 of none.
fn quantile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = (part * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_rates() {
        assert_eq!(quantile([3.0, 1.0, 2.0].into_iter(), 0.5), 2.0);
        assert_eq!(quantile([3.0, 1.0, 2.0].into_iter(), 1.0), 3.0);
        assert_eq!(quantile([3.0, 1.0, 2.0].into_iter(), 0.0), 1.0);
        assert_eq!(quantile(std::iter::empty(), 0.5), 0.0);
        let start = Instant::now();
        let at = |ms: u64| (start + std::time::Duration::from_millis(ms), 0.0, 0.0);
        assert!((rate(&[at(0), at(50), at(100)]) - 20.0).abs() < 1e-9);
        assert_eq!(rate(&[at(0)]), 0.0);
    }
}
