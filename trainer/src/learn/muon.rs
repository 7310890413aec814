//! Muon for a network's inner kernels, all of them at once.
//!
//! Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") takes the momentum of a
//! kernel's gradient as a matrix `[out, in·k·k]` and moves the kernel along the nearest matrix whose rows are
//! orthonormal: no direction of the kernel is left behind because its gradient is small.
//!
//! ```text
//! M ← μM + G        D = orthonormal(G + μM)        W ← W − η s √max(out, in·k·k) D
//! ```
//! The mean square of `D`'s entries is 1 / its longer side, so a kernel moves by `s` learning rates `η` in root mean
//! square. The kernels' matrices are padded with zeros to one shape and stacked: rows and columns of zeros change
//! neither the singular vectors nor the values of the rest, and what would be some fifty operations for each kernel,
//! each a launch on a GPU, is done once for all of them.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto_burn::backend::matmul;

/// Share of a kernel's old momentum that is kept, with Nesterov's look ahead.
const MOMENTUM: f64 = 0.9;

/// A kernel moves by this many learning rates a step, in root mean square: `s`.
const KERNEL_STEP: f64 = 2.0;

/// Iterations of [`orthonormal`], and the coefficients of its polynomial, steep at 0 (Jordan et al. 2024).
const ITERATIONS: usize = 5;
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// The momentum of a network's inner kernels, and the steps it gives them.
#[derive(Debug, Clone)]
pub struct Muon<B: Backend> {
    /// The gradients' running sum, `[kernels, rows, columns]`, padded; none before the first step.
    pub momentum: Option<Tensor<B, 3>>,
}

impl<B: Backend> Muon<B> {
    /// What is to be subtracted from each kernel, as matrices `[out, in·k·k]`, from the gradients of the same kernels
    /// in the same order at every step.
    pub fn steps(&mut self, learning_rate: f64, gradients: Vec<Tensor<B, 2>>) -> Vec<Tensor<B, 2>> {
        let shapes: Vec<[usize; 2]> = gradients.iter().map(Tensor::dims).collect();
        let Some(gradients) = stack(gradients) else { return Vec::new() };
        let momentum = match self.momentum.take() {
            Some(momentum) => momentum * MOMENTUM + gradients.clone(),
            None => gradients.clone(),
        };
        let ahead = gradients + momentum.clone() * MOMENTUM;
        self.momentum = Some(momentum);
        let directions = orthonormal(ahead);
        let step = |(at, [rows, columns]): (usize, [usize; 2])| {
            let (tall, [short, long]) = (rows > columns, [rows.min(columns), rows.max(columns)]);
            let matrix = directions.clone().slice([at..at + 1, 0..short, 0..long]).reshape([short, long]);
            let matrix = matrix * (KERNEL_STEP * learning_rate * (long as f64).sqrt());
            if tall { matrix.swap_dims(0, 1) } else { matrix }
        };
        shapes.into_iter().enumerate().map(step).collect()
    }
}

/// The matrices, none taller than wide, padded with zeros at the right and below to the largest sides and stacked.
fn stack<B: Backend>(matrices: Vec<Tensor<B, 2>>) -> Option<Tensor<B, 3>> {
    let lying = |matrix: Tensor<B, 2>| {
        let [rows, columns] = matrix.dims();
        if rows > columns { matrix.swap_dims(0, 1) } else { matrix }
    };
    let matrices: Vec<_> = matrices.into_iter().map(lying).collect();
    let side = |axis: usize| matrices.iter().map(|matrix| matrix.dims()[axis]).max();
    let (rows, columns) = (side(0)?, side(1)?);
    let padded = |matrix: Tensor<B, 2>| {
        let [own_rows, own_columns] = matrix.dims();
        if [own_rows, own_columns] == [rows, columns] {
            return matrix;
        }
        matrix.pad((0, columns - own_columns, 0, rows - own_rows), 0.0)
    };
    Some(Tensor::stack(matrices.into_iter().map(padded).collect(), 0))
}

/// About the nearest matrix with orthonormal rows to each of the stack, `[count, rows, columns]`, `rows ≤ columns`: the
/// same singular vectors with singular values about 1, by Newton and Schulz's iteration `X ← aX + (bG + cG²) X`,
/// `G = X Xᵀ`. Values a thousand times below a matrix's largest stay smaller, and a matrix of zeros stays one.
fn orthonormal<B: Backend>(matrices: Tensor<B, 3>) -> Tensor<B, 3> {
    let [count, rows, columns] = matrices.dims();
    let of_each = |entries: Tensor<B, 3>| entries.reshape([count, 1, rows * columns]);
    // The largest magnitude first: squares of a gradient may leave f32's range.
    let largest = of_each(matrices.clone().abs()).max_dim(2).clamp_min(f64::from(f32::MIN_POSITIVE));
    let scaled = matrices / largest;
    let norm = of_each(scaled.clone().square()).sum_dim(2).sqrt().clamp_min(1.0);
    let mut x = scaled / norm;
    let (a, b, c) = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = matmul(x.clone(), x.clone().swap_dims(1, 2));
        let polynomial = gram.clone() * b + matmul(gram.clone(), gram) * c;
        x = x.clone() * a + matmul(polynomial, x);
    }
    x
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{TensorData, Tolerance};
    use impasto_checkpoints::random::uniform;

    use super::*;

    fn random(name: &str, shape: [usize; 2], size: f32) -> Tensor<Flex, 2> {
        let values: Vec<f32> = uniform(1, name, shape.iter().product()).map(|value| value * size).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    fn direction(matrix: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
        orthonormal(stack(vec![matrix]).unwrap()).squeeze_dim(0)
    }

    #[test]
    fn rows_become_about_orthonormal_whatever_their_size() {
        for (shape, size) in [([8, 72], 1.0), ([72, 8], 1e-12), ([16, 16], 1e15), ([3, 400], 1e-3)] {
            let found = direction(random("gradient", shape, size));
            let side = shape[0].min(shape[1]);
            assert_eq!(found.dims(), [side, shape[0].max(shape[1])]);
            let products: Vec<f32> =
                found.clone().matmul(found.swap_dims(0, 1)).into_data().to_vec().unwrap();
            for (at, product) in products.into_iter().enumerate() {
                let diagonal = at / side == at % side;
                let (expected, slack) = if diagonal { (1.0, 0.6) } else { (0.0, 0.45) };
                assert!((product - expected).abs() < slack, "{shape:?} × {size}: {product} at {at}");
            }
        }
    }

    #[test]
    fn the_direction_has_the_matrix_s_own_singular_vectors() {
        // Diagonal, so that its singular vectors are the axes: the off-diagonal stays 0, signs stay.
        let values = vec![5.0, 0.0, 0.0, 0.0, -0.5, 0.0];
        let matrix = Tensor::from_data(TensorData::new(values, [2, 3]), &Default::default());
        let found: Vec<f32> = direction(matrix).into_data().to_vec().unwrap();
        assert!((0.6..1.3).contains(&found[0]) && (-1.3..-0.6).contains(&found[4]), "{found:?}");
        assert!([1, 2, 3, 5].iter().all(|&at| found[at].abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn a_gradient_of_zeros_moves_nothing() {
        let zeros = Tensor::<Flex, 2>::zeros([4, 9], &Default::default());
        let steps = Muon { momentum: None }.steps(1.0, vec![zeros]);
        assert_eq!(steps[0].to_data().to_vec::<f32>().unwrap(), [0.0; 36]);
    }

    #[test]
    fn a_kernel_among_others_moves_as_it_would_alone() {
        let shapes = [[16, 144], [32, 18], [4, 288], [7, 5]];
        let gradient = |step: usize, at: usize| {
            random(&format!("{step}.{at}"), shapes[at], 10f32.powi(at as i32 * 4 - 8))
        };
        let mut together = Muon { momentum: None };
        let mut alone = vec![Muon { momentum: None }; shapes.len()];
        for step in 0..3 {
            let all = together.steps(0.01, (0..shapes.len()).map(|at| gradient(step, at)).collect());
            for (at, found) in all.into_iter().enumerate() {
                let expected = alone[at].steps(0.01, vec![gradient(step, at)]).remove(0);
                assert_eq!(found.dims(), shapes[at]);
                let size = found.clone().square().mean().sqrt().into_scalar();
                assert!((0.012..0.026).contains(&size), "{:?} moved by {size}", shapes[at]);
                let tolerance = Tolerance::<f32>::absolute(1e-5);
                found.into_data().assert_approx_eq(&expected.into_data(), tolerance);
            }
        }
    }
}
