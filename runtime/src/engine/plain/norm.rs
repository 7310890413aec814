//! Instance norm, ReLU and residual addition, in place.

use super::prepare::{self, Plane};
use super::threads::Threads;

/// Affine instance norm: `(x − mean) / √(variance + ε) · weight + bias` per channel, over height and width,
/// with the biased variance. Source: Ulyanov et al. 2016, "Instance Normalization".
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

/// Mean and sum of squared deviations of a channel over some pixels.
#[derive(Clone, Copy, Default)]
struct Moments {
    mean: f64,
    deviation: f64,
}

impl Norm {
    /// Normalizes the plane, then ReLU if asked. `bf16`: the plane's values are rounded to bf16 first,
    /// as a plane that is stored in bf16.
    pub(super) fn apply(&self, plane: &mut Plane, relu: bool, bf16: bool, threads: &Threads) {
        if bf16 {
            prepare::round(plane, threads);
        }
        let factors = self.factors(&moments(plane, threads), plane.width * plane.height);
        let c = plane.channels;
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        threads.for_each_row(&mut plane.data, plane.width * c, |_, row| {
            for pixel in row.chunks_exact_mut(c) {
                for (value, (factor, summand)) in pixel.iter_mut().zip(&factors) {
                    *value = (*value * factor + summand).max(floor);
                }
            }
        });
    }

    /// The norm as `x · factor + summand` per channel.
    fn factors(&self, moments: &[Moments], pixels: usize) -> Vec<(f32, f32)> {
        let affine = self.weight.iter().zip(&self.bias);
        moments
            .iter()
            .zip(affine)
            .map(|(moments, (&weight, &bias))| {
                let variance = moments.deviation / pixels as f64;
                let factor = f64::from(weight) / (variance + f64::from(self.epsilon)).sqrt();
                (factor as f32, (f64::from(bias) - moments.mean * factor) as f32)
            })
            .collect()
    }
}

/// Moments of every channel. Not as sum and sum of squares: a flat picture would give a negative variance. Each
/// row's moments are taken about the row's own mean and merged, from the first row to the last, by the formula
/// of Chan, Golub & LeVeque 1979; so the result does not depend on the number of threads.
fn moments(plane: &Plane, threads: &Threads) -> Vec<Moments> {
    let (c, width) = (plane.channels, plane.width);
    // One row of this table per row of the plane: c means, then c deviations.
    let mut table = vec![0.0_f32; plane.height * 2 * c];
    threads.for_each_row(&mut table, 2 * c, |y, entry| {
        let row = &plane.data[y * width * c..][..width * c];
        let (means, deviations) = entry.split_at_mut(c);
        let mut sums = vec![0.0_f64; c];
        for pixel in row.chunks_exact(c) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += f64::from(value);
            }
        }
        for (mean, sum) in means.iter_mut().zip(&sums) {
            *mean = (sum / width as f64) as f32;
        }
        // About the rounded mean, which is what the table holds: the difference is second order in f32's ε.
        sums.fill(0.0);
        for pixel in row.chunks_exact(c) {
            for ((sum, &value), &mean) in sums.iter_mut().zip(pixel).zip(means.iter()) {
                let distance = f64::from(value) - f64::from(mean);
                *sum += distance * distance;
            }
        }
        for (deviation, sum) in deviations.iter_mut().zip(&sums) {
            *deviation = *sum as f32;
        }
    });
    let mut all = vec![Moments::default(); c];
    for (y, entry) in table.chunks_exact(2 * c).enumerate() {
        let (seen, new) = ((y * width) as f64, width as f64);
        for (channel, moments) in all.iter_mut().enumerate() {
            let delta = f64::from(entry[channel]) - moments.mean;
            moments.mean += delta * new / (seen + new);
            moments.deviation += f64::from(entry[c + channel]) + delta * delta * seen * new / (seen + new);
        }
    }
    all
}

/// `max(x, 0)` in place.
pub(super) fn relu(plane: &mut Plane, threads: &Threads) {
    threads.for_each_row(&mut plane.data, plane.width * plane.channels, |_, row| {
        row.iter_mut().for_each(|value| *value = value.max(0.0));
    });
}

/// `plane += other`, of the same shape.
pub(super) fn add(plane: &mut Plane, other: &Plane, threads: &Threads) {
    let length = plane.width * plane.channels;
    threads.for_each_row(&mut plane.data, length, |y, row| {
        for (value, addend) in row.iter_mut().zip(&other.data[y * length..]) {
            *value += addend;
        }
    });
}
