//! Max pooling on the CPU over windows of 2×2, two apart, and its gradient: VGG's, branch-free line by line.

use rayon::prelude::*;

/// The larger of two; a value that is not a number stays visible.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// `y[i, j] = max x[2i + (0|1), 2j + (0|1)]`, plane by plane; a last odd row or column is in no window.
///
/// # Shapes
/// - input: `[planes, height, width]`, 2×2 at least
/// - output: `[planes, height / 2, width / 2]`
pub(crate) fn forward(input: &[f32], height: usize, width: usize) -> Vec<f32> {
    let (rows, columns) = (height / 2, width / 2);
    let planes = input.len() / (height * width);
    let mut output = vec![0.0; planes * rows * columns];
    output.par_chunks_exact_mut(rows * columns).zip(input.par_chunks_exact(height * width)).for_each(
        |(output, input)| {
            let lines = output.chunks_exact_mut(columns).zip(input.chunks_exact(2 * width));
            for (line, pair) in lines {
                let (upper, lower) = pair.split_at(width);
                let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                for (y, (upper, lower)) in line.iter_mut().zip(windows) {
                    *y = larger(larger(upper[0], upper[1]), larger(lower[0], lower[1]));
                }
            }
        },
    );
    output
}

/// Gradient of [`forward`]'s input, given the output's: it goes to the window's first largest value.
pub(crate) fn backward(input: &[f32], output_gradient: &[f32], height: usize, width: usize) -> Vec<f32> {
    let (rows, columns) = (height / 2, width / 2);
    let mut gradient = vec![0.0; input.len()];
    gradient
        .par_chunks_exact_mut(height * width)
        .zip(input.par_chunks_exact(height * width))
        .zip(output_gradient.par_chunks_exact(rows * columns))
        .for_each(|((gradient, input), upstream)| {
            let lines = gradient.chunks_exact_mut(2 * width).zip(input.chunks_exact(2 * width));
            for ((to, pair), line) in lines.zip(upstream.chunks_exact(columns)) {
                let (to_upper, to_lower) = to.split_at_mut(width);
                let (upper, lower) = pair.split_at(width);
                let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                let places = to_upper.chunks_exact_mut(2).zip(to_lower.chunks_exact_mut(2));
                for (((to_upper, to_lower), (upper, lower)), given) in places.zip(windows).zip(line) {
                    let top = larger(upper[0], upper[1]);
                    let bottom = larger(lower[0], lower[1]);
                    let share = |here: bool| if here { *given } else { 0.0 };
                    let above = top >= bottom;
                    to_upper[0] = share(above && upper[0] >= upper[1]);
                    to_upper[1] = share(above && upper[0] < upper[1]);
                    to_lower[0] = share(!above && lower[0] >= lower[1]);
                    to_lower[1] = share(!above && lower[0] < lower[1]);
                }
            }
        });
    gradient
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::module::max_pool2d;
    use burn::tensor::{Tensor, TensorData};
    use impasto_checkpoints::random;

    use super::*;

    #[test]
    fn values_and_gradients_are_those_of_burn_s_operation() {
        for [planes, height, width] in [[1, 2, 2], [3, 5, 7], [2, 8, 34], [4, 33, 16]] {
            let noise = |name, count| random::uniform(5, name, count).collect::<Vec<f32>>();
            // Steps of a quarter: windows with two and more largest values are among them.
            let coarse =
                |values: Vec<f32>| values.iter().map(|v| (v * 4.0).round() / 4.0).collect::<Vec<_>>();
            let input = coarse(noise("input", planes * height * width));
            let given = noise("given", planes * (height / 2) * (width / 2));

            let device = Default::default();
            let x = TensorData::new(input.clone(), [1, planes, height, width]);
            let x = Tensor::<Autodiff<Flex>, 4>::from_data(x, &device).require_grad();
            let y = max_pool2d(x.clone(), [2, 2], [2, 2], [0, 0], [1, 1], false);
            assert_eq!(forward(&input, height, width), y.to_data().to_vec::<f32>().unwrap());

            let upstream = TensorData::new(given.clone(), [1, planes, height / 2, width / 2]);
            let gradients = (y * Tensor::from_data(upstream, &device)).sum().backward();
            let expected = x.grad(&gradients).unwrap().to_data().to_vec::<f32>().unwrap();
            assert_eq!(backward(&input, &given, height, width), expected);
        }
    }

    #[test]
    fn what_is_not_a_number_stays_visible() {
        for at in 0..4 {
            let mut input = vec![1.0; 4];
            input[at] = f32::NAN;
            assert!(forward(&input, 2, 2)[0].is_nan());
        }
    }
}
