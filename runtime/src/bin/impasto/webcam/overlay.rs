//! What is written on the window: style, speed, latency, and the keys.

use super::look::{Look, StyleRef};
use super::stats::Stats;
use super::takes::Takes;

const KEYS: [&str; 10] = [
    "left right  style",
    "up down     strength",
    "c  keep colours",
    "s  side by side",
    "f  less flicker",
    "m  mirror",
    "r  record",
    "space  screenshot",
    "o  overlay",
    "q  quit",
];

/// The overlay's lines.
pub fn lines(style: &StyleRef, look: &Look, stats: &Stats, takes: &Takes<'_>, help: bool) -> Vec<String> {
    let (fps, latency) = stats.lately();
    let mut first = format!("{}  {fps:.0} fps  {:.0} ms", style.name(), 1e3 * latency);
    if look.strength < 1.0 {
        first += &format!("  {:.0} %", 100.0 * look.strength);
    }
    if look.keep_colors {
        first += "  colours kept";
    }
    if look.smooth > 0.0 {
        first += "  smooth";
    }
    let mut lines = vec![first];
    if let Some(seconds) = takes.recording_seconds() {
        lines.push(format!("rec {}:{:02}", seconds / 60, seconds % 60));
    }
    if help {
        lines.extend(KEYS.map(str::to_owned));
    } else if stats.frames() < 150 {
        lines.push("h  keys".to_owned());
    }
    lines
}
