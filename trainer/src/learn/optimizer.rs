//! The optimizer of the network: Muon for the inner kernels and Adam for the rest, or Adam for everything.
//!
//! Most of a training step is the loss network's, whatever is done with its gradient, so an optimizer that needs fewer
//! steps is time saved. Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") takes the
//! momentum of a kernel's gradient as a matrix `[out, in·k·k]` and moves the kernel along the nearest matrix whose
//! rows are orthonormal: no direction of the kernel is left behind because its gradient is small. The first and last
//! layers, the norms and the biases are Adam's (Kingma & Ba 2015), as its authors advise.

use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, AdamConfig, AdamState, SimpleOptimizer};
use burn::record::Record;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::choices::OptimizerKind;

/// Share of a kernel's old momentum that is kept, with Nesterov's look ahead.
const MOMENTUM: f64 = 0.9;

/// A kernel moves by this many learning rates a step, in root mean square.
const KERNEL_STEP: f64 = 2.0;

/// Iterations of [`orthonormal`], and the coefficients of its polynomial, steep at 0 (Jordan et al. 2024).
const ITERATIONS: usize = 5;
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// Adam's memory of squared gradients beside Muon: 100 steps, which ends lower in short runs than the usual 1,000.
const SHORT_MEMORY: f32 = 0.99;

/// The optimizer; what of it serves a parameter is decided by the parameter's shape.
#[derive(Clone)]
pub struct NetworkOptimizer {
    adam: Adam,
    kind: OptimizerKind,
}

impl NetworkOptimizer {
    /// The optimizer `kind`, for a module `M`.
    pub fn init<B: AutodiffBackend, M: AutodiffModule<B>>(
        kind: OptimizerKind,
    ) -> OptimizerAdaptor<NetworkOptimizer, M, B> {
        // Burn's default epsilon is 1e-5; this is that of the paper and of PyTorch.
        let adam = AdamConfig::new().with_epsilon(1e-8);
        let adam = match kind {
            OptimizerKind::Adam => adam,
            OptimizerKind::Muon => adam.with_beta_2(SHORT_MEMORY),
        };
        OptimizerAdaptor::from(NetworkOptimizer { adam: adam.build(), kind })
    }
}

/// What the optimizer remembers of one parameter.
#[derive(Record, Clone)]
pub struct NetworkOptimizerState<B: Backend, const D: usize> {
    /// Of one of Adam's.
    pub adam: Option<AdamState<B, D>>,
    /// Of one of Muon's: its gradient's running sum.
    pub momentum: Option<Tensor<B, D>>,
}

impl<B: Backend> SimpleOptimizer<B> for NetworkOptimizer {
    type State<const D: usize> = NetworkOptimizerState<B, D>;

    fn step<const D: usize>(
        &self,
        learning_rate: f64,
        parameter: Tensor<B, D>,
        gradient: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let (adam, momentum) = state.map_or((None, None), |state| (state.adam, state.momentum));
        if self.kind == OptimizerKind::Adam || !is_inner_kernel(&parameter.dims()) {
            let (parameter, adam) = self.adam.step(learning_rate, parameter, gradient, adam);
            return (parameter, Some(NetworkOptimizerState { adam, momentum: None }));
        }
        let momentum = match momentum {
            Some(momentum) => momentum * MOMENTUM + gradient.clone(),
            None => gradient.clone(),
        };
        let ahead = gradient + momentum.clone() * MOMENTUM;
        let dims = parameter.dims();
        let (rows, columns) = (dims[0], dims[1..].iter().product::<usize>());
        let direction = orthonormal(ahead.reshape([rows, columns])).reshape(dims);
        // The mean square of the direction's entries is 1 / the longer side.
        let delta = direction * (KERNEL_STEP * learning_rate * (rows.max(columns) as f64).sqrt());
        (parameter - delta, Some(NetworkOptimizerState { adam: None, momentum: Some(momentum) }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        NetworkOptimizerState {
            adam: state.adam.map(|state| <Adam as SimpleOptimizer<B>>::to_device(state, device)),
            momentum: state.momentum.map(|momentum| momentum.to_device(device)),
        }
    }
}

/// Whether a parameter is a kernel between two hidden layers: 3×3 in this network.
fn is_inner_kernel(dims: &[usize]) -> bool {
    matches!(dims, [_, _, 3, 3])
}

/// About the nearest matrix to `matrix` with orthonormal rows (columns, if it is taller than wide): the same singular
/// vectors with singular values about 1, by Newton and Schulz's iteration `X ← aX + (bG + cG²) X`, `G = X Xᵀ`. Values
/// a thousand times below the largest stay smaller, and a matrix of zeros stays one.
fn orthonormal<B: Backend>(matrix: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, columns] = matrix.dims();
    let tall = rows > columns;
    let wide = if tall { matrix.swap_dims(0, 1) } else { matrix };
    // The largest magnitude first: squares of a gradient may leave f32's range.
    let largest = wide.clone().abs().max().clamp_min(f64::from(f32::MIN_POSITIVE));
    let scaled = wide / largest.unsqueeze();
    let norm = scaled.clone().square().sum().sqrt().clamp_min(1.0);
    let mut x = scaled / norm.unsqueeze();
    let (a, b, c) = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = x.clone().matmul(x.clone().swap_dims(0, 1));
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    if tall { x.swap_dims(0, 1) } else { x }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;
    use impasto_checkpoints::random::uniform;

    use super::*;

    fn random(name: &str, shape: [usize; 2], size: f32) -> Tensor<Flex, 2> {
        let values: Vec<f32> = uniform(1, name, shape.iter().product()).map(|value| value * size).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    /// The rows' products among each other.
    fn gram(matrix: Tensor<Flex, 2>) -> Vec<f32> {
        let [rows, columns] = matrix.dims();
        let wide = if rows > columns { matrix.swap_dims(0, 1) } else { matrix };
        wide.clone().matmul(wide.swap_dims(0, 1)).into_data().to_vec().unwrap()
    }

    #[test]
    fn rows_become_about_orthonormal_whatever_their_size() {
        for (shape, size) in [([8, 72], 1.0), ([72, 8], 1e-12), ([16, 16], 1e15), ([3, 400], 1e-3)] {
            let found = orthonormal(random("gradient", shape, size));
            assert_eq!(found.dims(), shape);
            let side = shape[0].min(shape[1]);
            for (at, product) in gram(found).into_iter().enumerate() {
                let (diagonal, expected) =
                    (at / side == at % side, if at / side == at % side { 1.0 } else { 0.0 });
                let slack = if diagonal { 0.6 } else { 0.45 };
                assert!((product - expected).abs() < slack, "{shape:?} × {size}: {product} at {at}");
            }
        }
    }

    #[test]
    fn the_direction_has_the_matrix_s_own_singular_vectors() {
        // Diagonal, so that its singular vectors are the axes: the off-diagonal stays 0, signs stay.
        let values = vec![5.0, 0.0, 0.0, 0.0, -0.5, 0.0];
        let matrix = Tensor::<Flex, 2>::from_data(TensorData::new(values, [2, 3]), &Default::default());
        let found: Vec<f32> = orthonormal(matrix).into_data().to_vec().unwrap();
        assert!((0.6..1.3).contains(&found[0]) && (-1.3..-0.6).contains(&found[4]), "{found:?}");
        assert!([1, 2, 3, 5].iter().all(|&at| found[at].abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn a_gradient_of_zeros_moves_nothing() {
        let zeros = Tensor::<Flex, 2>::zeros([4, 9], &Default::default());
        assert_eq!(orthonormal(zeros).into_data().to_vec::<f32>().unwrap(), [0.0; 36]);
    }

    #[test]
    fn kernels_move_by_two_learning_rates_and_the_rest_as_adam_says() {
        let optimizer = |kind| NetworkOptimizer { adam: AdamConfig::new().with_epsilon(1e-8).build(), kind };
        let kernel = random("kernel", [16, 144], 1.0).reshape([16, 16, 3, 3]);
        let gradient = random("gradient", [16, 144], 1e-4).reshape([16, 16, 3, 3]);
        let moved = |kind, parameter: Tensor<Flex, 4>, gradient: Tensor<Flex, 4>| {
            let (after, state) = optimizer(kind).step(0.01, parameter.clone(), gradient, None);
            let moved = (after - parameter).square().mean().sqrt().into_scalar();
            (moved, state.unwrap())
        };
        let (muon, state) = moved(OptimizerKind::Muon, kernel.clone(), gradient.clone());
        assert!((0.012..0.026).contains(&muon), "{muon}");
        assert!(state.adam.is_none() && state.momentum.is_some());
        let (adam, state) = moved(OptimizerKind::Adam, kernel.clone(), gradient.clone());
        assert!((adam - 0.01).abs() < 1e-4, "{adam}: Adam's first step is the learning rate everywhere");
        assert!(state.adam.is_some() && state.momentum.is_none());
        let outer = |tensor: Tensor<Flex, 4>| tensor.reshape([16, 1, 144, 1]);
        let (outer, state) = moved(OptimizerKind::Muon, outer(kernel), outer(gradient));
        assert!((outer - 0.01).abs() < 1e-4 && state.momentum.is_none(), "{outer}");
    }
}
