//! Gram matrices on the CPU, and their gradient: a product of the features with themselves, whose two gradients are
//! one product. Burn's operations would take both and turn one of them.

use rayon::prelude::*;

use super::conv::{Matrix, multiply};

/// Places that one sum of products takes in: enough work for a task, and fixed, so that the bits depend on shapes alone.
const PLACES: usize = 2048;

/// Rows of a product that one task computes.
const ROWS: usize = 64;

/// `G = F Fᵀ · scale`, picture by picture.
///
/// # Shapes
/// - features: `[batch, channels, plane]`
/// - output: `[batch, channels, channels]`
pub(crate) fn forward(features: &[f32], channels: usize, plane: usize, scale: f32) -> Vec<f32> {
    let batch = features.len() / (channels * plane);
    let parts = plane.div_ceil(PLACES);
    let blocks = channels.div_ceil(ROWS);
    // Only columns from the block's own on: the rest is the same by symmetry.
    let products: Vec<Vec<f32>> = (0..batch * blocks * parts)
        .into_par_iter()
        .map(|job| {
            let (at, block, part) = (job / (blocks * parts), job / parts % blocks, job % parts);
            let (row, place) = (block * ROWS, part * PLACES);
            let (rows, places) = (ROWS.min(channels - row), PLACES.min(plane - place));
            let first = &features[(at * channels + row) * plane + place..];
            let left = Matrix::with_pitch(first, rows, places, plane);
            let right = Matrix::with_pitch(first, channels - row, places, plane).transposed();
            let mut product = vec![0.0; rows * (channels - row)];
            multiply(&mut product, &left, &right, false);
            product
        })
        .collect();
    let mut gram = vec![0.0; batch * channels * channels];
    for (at, gram) in gram.chunks_exact_mut(channels * channels).enumerate() {
        for block in 0..blocks {
            let (row, jobs) = (block * ROWS, (at * blocks + block) * parts);
            let columns = channels - row;
            for r in row..channels.min(row + ROWS) {
                for c in r..channels {
                    let entry = (r - row) * columns + (c - row);
                    let sum: f32 = products[jobs..jobs + parts].iter().map(|product| product[entry]).sum();
                    gram[r * channels + c] = sum * scale;
                    gram[c * channels + r] = sum * scale;
                }
            }
        }
    }
    gram
}

/// Gradient of [`forward`]'s features, given the matrix's: `dF = (dG + dGᵀ) F · scale`.
pub(crate) fn backward(
    features: &[f32],
    gram_gradient: &[f32],
    channels: usize,
    plane: usize,
    scale: f32,
) -> Vec<f32> {
    let both: Vec<Vec<f32>> = gram_gradient
        .chunks_exact(channels * channels)
        .map(|given| {
            let entry = |at: usize| given[at] + given[at % channels * channels + at / channels];
            (0..channels * channels).map(|at| entry(at) * scale).collect()
        })
        .collect();
    let mut gradient = vec![0.0; features.len()];
    for ((gradient, features), both) in
        gradient.chunks_exact_mut(channels * plane).zip(features.chunks_exact(channels * plane)).zip(&both)
    {
        let features = Matrix::new(features, channels, plane);
        gradient.par_chunks_mut(ROWS / 2 * plane).zip(both.par_chunks(ROWS / 2 * channels)).for_each(
            |(gradient, both)| {
                multiply(gradient, &Matrix::new(both, both.len() / channels, channels), &features, false);
            },
        );
    }
    gradient
}

#[cfg(test)]
mod tests {
    use impasto_checkpoints::random;

    use super::*;

    #[test]
    fn it_is_the_plain_sum_and_so_is_its_gradient() {
        // One and several blocks of rows and parts of the plane, whole and broken.
        for (batch, channels, plane) in [(1, 1, 1), (2, 3, 7), (1, 64, 2048), (1, 65, 2049), (2, 130, 4100)] {
            let noise = |name, count| random::uniform(3, name, count).collect::<Vec<f32>>();
            let features = noise("features", batch * channels * plane);
            let given = noise("gradient", batch * channels * channels);
            let scale = 0.5;
            let gram = forward(&features, channels, plane, scale);
            let gradient = backward(&features, &given, channels, plane, scale);
            let row = |at: usize, c: usize| &features[(at * channels + c) * plane..][..plane];
            for at in 0..batch {
                for (r, c) in [(0, 0), (0, channels - 1), (channels - 1, 0), (channels / 2, channels - 1)] {
                    let sum: f64 =
                        row(at, r).iter().zip(row(at, c)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let found = gram[(at * channels + r) * channels + c];
                    assert!((f64::from(found) - 0.5 * sum).abs() < 1e-5 * plane as f64, "{found} {sum}");
                }
                for (r, place) in [(0, 0), (channels - 1, plane - 1), (channels / 2, plane / 2)] {
                    let entry = |r: usize, c: usize| f64::from(given[(at * channels + r) * channels + c]);
                    let sum: f64 = (0..channels)
                        .map(|c| (entry(r, c) + entry(c, r)) * f64::from(row(at, c)[place]))
                        .sum();
                    let found = gradient[(at * channels + r) * plane + place];
                    assert!((f64::from(found) - 0.5 * sum).abs() < 1e-4, "{found} {sum}");
                }
            }
        }
    }
}
