//! Means and variances of a plane's channels, gathered row by row, band by band, in a fixed order.
//!
//! Parts are merged by the formula of Chan, Golub & LeVeque 1979, in f64: not as sum and sum of squares, with which
//! a flat picture gets a negative variance and a smooth sky one that is far off.

use std::sync::atomic::{AtomicU64, Ordering};

use super::program::Norm;

/// Mean and sum of squared deviations of each channel over the same number of values.
#[derive(Default)]
pub(super) struct Moments {
    count: f64,
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Moments {
    /// Forgets everything; for so many channels.
    pub(super) fn reset(&mut self, channels: usize) {
        self.count = 0.0;
        self.means.clear();
        self.means.resize(channels, 0.0);
        self.deviations.clear();
        self.deviations.resize(channels, 0.0);
    }

    /// Makes room without using it.
    pub(super) fn reserve(&mut self, channels: usize) {
        self.means.reserve(channels);
        self.deviations.reserve(channels);
    }

    /// Merges `count` values a channel: their means and deviations.
    pub(super) fn merge<T: Into<f64>>(
        &mut self,
        count: usize,
        means: impl IntoIterator<Item = T>,
        deviations: impl IntoIterator<Item = T>,
    ) {
        let (old, new) = (self.count, count as f64);
        let (share, weight) = (new / (old + new), old * new / (old + new));
        let ours = self.means.iter_mut().zip(&mut self.deviations);
        for ((mean, deviation), (other, further)) in ours.zip(means.into_iter().zip(deviations)) {
            let delta = other.into() - *mean;
            *mean += delta * share;
            *deviation += further.into() + delta * delta * weight;
        }
        self.count = old + new;
    }

    /// The norm as `x · factor + summand` per channel: `(x − mean) / √(variance + ε) · weight + bias`.
    pub(super) fn factors(&self, norm: &Norm, factors: &mut [f32], summands: &mut [f32]) {
        for (c, (mean, deviation)) in self.means.iter().zip(&self.deviations).enumerate() {
            let variance = deviation / self.count;
            let factor = f64::from(norm.weight[c]) / (variance + f64::from(norm.epsilon)).sqrt();
            factors[c] = factor as f32;
            summands[c] = (f64::from(norm.bias[c]) - mean * factor) as f32;
        }
    }
}

/// Each task's moments, written by whoever does the task.
#[derive(Default)]
pub(super) struct Table {
    entries: Vec<AtomicU64>,
}

impl Table {
    pub(super) fn reserve(&mut self, entries: usize) {
        if self.entries.len() < entries {
            self.entries.resize_with(entries, AtomicU64::default);
        }
    }

    pub(super) fn store(&self, task: usize, moments: &Moments) {
        let values = moments.means.iter().chain(&moments.deviations);
        let first = task * 2 * moments.means.len();
        for (entry, value) in self.entries[first..].iter().zip(values) {
            // The gate at the end of the stage orders these stores before `load`.
            entry.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Merges one task's into `all`; its values were `count` a channel.
    pub(super) fn merge_into(&self, all: &mut Moments, task: usize, count: usize) {
        let channels = all.means.len();
        let entries = &self.entries[task * 2 * channels..][..2 * channels];
        let value = |entry: &AtomicU64| f64::from_bits(entry.load(Ordering::Relaxed));
        let (means, deviations) = entries.split_at(channels);
        all.merge(count, means.iter().map(value), deviations.iter().map(value));
    }
}
