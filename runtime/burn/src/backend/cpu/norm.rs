//! Instance norm on the CPU with an optional ReLU, and its gradient: three passes over a plane, not thirty.

use rayon::prelude::*;

/// Sum of a plane: 16 running sums in f32 over short blocks (what vector units do well), the blocks in f64.
pub(crate) fn sum(values: &[f32]) -> f64 {
    sum_of(values, values, |value, _| value)
}

/// `Σ term(a, b)`, as [`sum`].
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut total = 0.0;
    for (a, b) in a.chunks(4096).zip(b.chunks(4096)) {
        let mut lanes = [0.0_f32; LANES];
        let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        let rest = a_lanes.remainder().iter().zip(b_lanes.remainder());
        let rest: f64 = rest.map(|(&a, &b)| f64::from(term(a, b))).sum();
        for (a, b) in a_lanes.zip(b_lanes) {
            for lane in 0..LANES {
                lanes[lane] += term(a[lane], b[lane]);
            }
        }
        total += rest + lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// What the gradient needs of a plane: its mean (`mean + rest`) and the inverse of its deviation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics {
    mean: f32,
    rest: f32,
    inverse_deviation: f32,
}

/// `y = (x − mean) / √(variance + ε) · weight + bias`, then ReLU if asked, plane by plane; the variance is the
/// mean of squares about the mean.
///
/// # Shapes
/// - input, output: `[batch, channels, plane]`
/// - weight, bias: `[channels]`
pub(crate) fn forward(
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    plane: usize,
    epsilon: f32,
    relu: bool,
) -> (Vec<f32>, Vec<Statistics>) {
    let mut output = vec![0.0; input.len()];
    let statistics = output
        .par_chunks_exact_mut(plane)
        .zip(input.par_chunks_exact(plane))
        .enumerate()
        .map(|(at, (output, input))| {
            let channel = at % weight.len();
            let mean = (sum(input) / plane as f64) as f32;
            // What the mean lost in rounding; on a flat plane, ε's root would magnify it 300 times.
            let rest = sum_of(input, input, |x, _| x - mean) / plane as f64;
            let squares = sum_of(input, input, |x, _| (x - mean) * (x - mean)) / plane as f64;
            let variance = (squares - rest * rest).max(0.0);
            let inverse_deviation = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
            let factor = inverse_deviation * weight[channel];
            let rest = rest as f32;
            let summand = bias[channel] - rest * factor;
            let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
            for (y, x) in output.iter_mut().zip(input) {
                *y = ((x - mean) * factor + summand).max(floor);
            }
            Statistics { mean, rest, inverse_deviation }
        })
        .collect();
    (output, statistics)
}

/// Gradients of [`forward`]'s input, weight and bias. With `x̂` the normalized input and `g` the output's gradient
/// (zero where the ReLU was shut): `dx = weight / deviation · (g − mean(g) − x̂ · mean(g · x̂))`,
/// `dweight = Σ g · x̂`, `dbias = Σ g`.
pub(crate) fn backward(
    input: &[f32],
    output: Option<&[f32]>,
    statistics: &[Statistics],
    weight: &[f32],
    output_gradient: &[f32],
    plane: usize,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut gradient = vec![0.0; input.len()];
    let sums: Vec<(f64, f64)> = gradient
        .par_chunks_exact_mut(plane)
        .zip(input.par_chunks_exact(plane))
        .zip(output_gradient.par_chunks_exact(plane))
        .enumerate()
        .map(|(at, ((gradient, input), upstream))| {
            let Statistics { mean, rest, inverse_deviation } = statistics[at];
            match output {
                Some(output) => {
                    let output = &output[at * plane..][..plane];
                    for ((g, up), y) in gradient.iter_mut().zip(upstream).zip(output) {
                        *g = if *y > 0.0 { *up } else { 0.0 };
                    }
                }
                None => gradient.copy_from_slice(upstream),
            }
            let total = sum(gradient);
            let along = sum_of(gradient, input, |g, x| g * ((x - mean) - rest) * inverse_deviation);
            let (mean_g, mean_along) = ((total / plane as f64) as f32, (along / plane as f64) as f32);
            let factor = weight[at % weight.len()] * inverse_deviation;
            for (g, x) in gradient.iter_mut().zip(input) {
                *g = factor * (*g - mean_g - ((x - mean) - rest) * inverse_deviation * mean_along);
            }
            (along, total)
        })
        .collect();
    let (mut dweight, mut dbias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
    for (at, (along, total)) in sums.iter().enumerate() {
        dweight[at % weight.len()] += *along as f32;
        dbias[at % weight.len()] += *total as f32;
    }
    (gradient, dweight, dbias)
}
