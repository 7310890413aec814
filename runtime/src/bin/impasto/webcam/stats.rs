//! How fast it is and how late: for the overlay and the report at the end.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};

use super::painter::Shown;

/// Frames that the figures on the screen are taken over.
const WINDOW: usize = 30;
/// Frames that the report's latencies are taken over: the last ten minutes and more, so that memory is bounded.
const KEPT: usize = 20_000;

/// What was shown so far.
pub struct Stats {
    /// Of the last frames shown: when, how old each was by then, and what its painting took, in seconds.
    last: VecDeque<(Instant, f64, f64)>,
    /// When the first of all was shown, and how many since.
    first: Option<Instant>,
    frames: u64,
    arrived: u64,
    dropped: u64,
    size: (usize, usize),
}

impl Stats {
    pub fn new() -> Self {
        Stats { last: VecDeque::new(), first: None, frames: 0, arrived: 0, dropped: 0, size: (0, 0) }
    }

    /// A frame that has just been shown.
    pub fn add(&mut self, shown: &Shown) {
        let Some(taken) = shown.taken else { return };
        let now = Instant::now();
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((now, (now - taken.at).as_secs_f64(), shown.paint_seconds));
        self.first.get_or_insert(now);
        self.frames += 1;
        (self.arrived, self.dropped) = (taken.arrived, taken.dropped);
        self.size = (shown.painted.width(), shown.painted.height());
    }

    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames a second and seconds of latency (the median), over the last frames.
    pub fn lately(&self) -> (f64, f64) {
        let last = || self.last.range(self.last.len().saturating_sub(WINDOW)..);
        let begun = last().next().map(|frame| frame.0);
        (self.rate(begun, last().len() as u64), quantile(last().map(|frame| frame.1), 0.5))
    }

    pub fn words(&self) -> String {
        let latency = |part: f64| 1e3 * quantile(self.last.iter().map(|frame| frame.1), part);
        format!(
            "{} frames of {}×{}, {:.1} fps, latency {:.0} ms (95 % within {:.0}), {} of {} frames dropped",
            self.frames,
            self.size.0,
            self.size.1,
            self.rate(self.first, self.frames),
            latency(0.5),
            latency(0.95),
            self.dropped,
            self.arrived
        )
    }

    pub fn json(&self, style: &str) -> Value {
        let latency = |part: f64| 1e3 * quantile(self.last.iter().map(|frame| frame.1), part);
        json!({
            "style": style,
            "width": self.size.0,
            "height": self.size.1,
            "frames": self.frames,
            "fps": self.rate(self.first, self.frames),
            "latency_ms": { "median": latency(0.5), "p95": latency(0.95), "max": latency(1.0) },
            "paint_ms": 1e3 * quantile(self.last.iter().map(|frame| frame.2), 0.5),
            "arrived": self.arrived,
            "dropped": self.dropped,
        })
    }

    /// Frames a second of so many, the first of them shown at `begun` and the last one last; 0 of fewer than two.
    fn rate(&self, begun: Option<Instant>, frames: u64) -> f64 {
        match (begun, self.last.back()) {
            (Some(begun), Some((end, ..))) if frames > 1 => {
                (frames - 1) as f64 / (*end - begun).as_secs_f64().max(1e-9)
            }
            _ => 0.0,
        }
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
        let mut stats = Stats::new();
        assert_eq!(stats.lately(), (0.0, 0.0));
        let at = |ms: u64| (start + std::time::Duration::from_millis(ms), ms as f64, 0.0);
        stats.last =
            (0..=100).map(|frame| at(if frame < 71 { frame } else { 50 * (frame - 70) + 20 })).collect();
        // 29 intervals of 50 ms, whatever came before.
        assert!((stats.lately().0 - 20.0).abs() < 1e-9, "{:?}", stats.lately());
        assert!((stats.rate(Some(start), 101) - 100.0 / 1.52).abs() < 1e-9);
        assert_eq!(stats.rate(Some(start), 1), 0.0);
    }
}
