//! The optimizer of the network: Muon for the inner kernels and Adam for the rest, or Adam for everything.
//!
//! Most of a training step is the loss network's, whatever is done with its gradient, so an optimizer that needs fewer
//! steps is time saved. The first and last layers, the norms and the biases stay Adam's (Kingma & Ba 2015), as
//! [Muon](crate::learn::muon)'s authors advise.

use std::collections::HashMap;

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::adaptor::{GradAdaptor, OptimizerAdaptor};
use burn::optim::{Adam, AdamConfig, GradientsParams, LearningRate, MultiGradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use crate::choices::OptimizerKind;
use crate::learn::muon::Muon;

/// Adam's memory of squared gradients beside Muon: 100 steps, which ends lower in short runs than the usual 1,000.
const SHORT_MEMORY: f32 = 0.99;

/// The optimizer of a module `M`; what of it serves a parameter is decided by the parameter's shape.
#[derive(Clone)]
pub struct NetworkOptimizer<M: AutodiffModule<B>, B: AutodiffBackend> {
    adam: OptimizerAdaptor<Adam, M, B>,
    muon: Option<Muon<B::InnerBackend>>,
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> NetworkOptimizer<M, B> {
    /// The optimizer `kind` before its first step.
    pub fn init(kind: OptimizerKind) -> Self {
        // Burn's default epsilon is 1e-5; this is that of the paper and of PyTorch.
        let adam = AdamConfig::new().with_epsilon(1e-8);
        let (adam, muon) = match kind {
            OptimizerKind::Adam => (adam, None),
            OptimizerKind::Muon => (adam.with_beta_2(SHORT_MEMORY), Some(Muon { momentum: None })),
        };
        NetworkOptimizer { adam: adam.init(), muon }
    }

    fn step_with(&mut self, learning_rate: LearningRate, mut module: M, mut gradients: GradAdaptor) -> M {
        if let Some(muon) = &mut self.muon {
            let mut kernels = TakeKernels::<B> { gradients: &mut gradients, found: Vec::new() };
            module.visit(&mut kernels);
            let (ids, gradients): (Vec<_>, Vec<_>) = kernels.found.into_iter().unzip();
            let steps = muon.steps(learning_rate, gradients);
            module = module.map(&mut MoveKernels::<B> { steps: ids.into_iter().zip(steps).collect() });
        }
        // It leaves alone what has no gradient any more.
        match gradients {
            GradAdaptor::Single(gradients) => self.adam.step(learning_rate, module, gradients),
            GradAdaptor::Multi(gradients) => self.adam.step_multi(learning_rate, module, gradients),
        }
    }
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> Optimizer<M, B> for NetworkOptimizer<M, B> {
    /// Adam's moments by parameter, and Muon's momentum of all kernels in the module's order.
    type Record = (<OptimizerAdaptor<Adam, M, B> as Optimizer<M, B>>::Record, Option<Tensor<B, 3>>);

    fn step(&mut self, learning_rate: LearningRate, module: M, gradients: GradientsParams) -> M {
        self.step_with(learning_rate, module, gradients.into())
    }

    fn step_multi(&mut self, learning_rate: LearningRate, module: M, gradients: MultiGradientsParams) -> M {
        self.step_with(learning_rate, module, gradients.into())
    }

    fn to_record(&self) -> Self::Record {
        let momentum = self.muon.as_ref().and_then(|muon| muon.momentum.clone());
        (self.adam.to_record(), momentum.map(Tensor::from_inner))
    }

    fn load_record(self, (adam, momentum): Self::Record) -> Self {
        let momentum = momentum.map(Tensor::inner);
        NetworkOptimizer { adam: self.adam.load_record(adam), muon: self.muon.map(|_| Muon { momentum }) }
    }
}

/// Whether a parameter is a kernel between two hidden layers: 3×3 in this network.
fn is_inner_kernel(dims: &[usize]) -> bool {
    matches!(dims, [_, _, 3, 3])
}

/// Takes the gradients of the inner kernels, as matrices `[out, in·k·k]`.
struct TakeKernels<'a, B: AutodiffBackend> {
    gradients: &'a mut GradAdaptor,
    found: Vec<(ParamId, Tensor<B::InnerBackend, 2>)>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for TakeKernels<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let dims = param.dims();
        if !is_inner_kernel(&dims) {
            return;
        }
        let matrix = [dims[0], dims[1..].iter().product()];
        // One without a gradient stands among the others as zeros, so that each keeps its place in the momentum.
        let gradient = self
            .gradients
            .remove::<B::InnerBackend, D>(param.id)
            .map_or_else(|| Tensor::zeros(matrix, &param.device()), |(gradient, _)| gradient.reshape(matrix));
        self.found.push((param.id, gradient));
    }
}

/// Subtracts their steps from the inner kernels.
struct MoveKernels<B: AutodiffBackend> {
    steps: HashMap<ParamId, Tensor<B::InnerBackend, 2>>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for MoveKernels<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(step) = self.steps.remove(&param.id) else { return param };
        let (id, kernel, mapper) = param.consume();
        let learns = kernel.is_require_grad();
        let dims = kernel.dims();
        let mut moved = Tensor::from_inner(kernel.inner() - step.reshape(dims));
        if learns {
            moved = moved.require_grad();
        }
        Param::from_mapped_value(id, moved, mapper)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::module::Module;
    use burn::tensor::TensorData;
    use burn::tensor::backend::Backend;
    use impasto_checkpoints::random::uniform;

    use super::*;

    type B = Autodiff<Flex>;

    #[derive(Module, Debug)]
    struct Three<B: Backend> {
        first: Param<Tensor<B, 4>>,
        inner: Param<Tensor<B, 4>>,
        scale: Param<Tensor<B, 1>>,
    }

    fn random<const D: usize>(name: &str, shape: [usize; D], size: f32) -> Tensor<B, D> {
        let values: Vec<f32> = uniform(1, name, shape.iter().product()).map(|value| value * size).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    fn module() -> Three<B> {
        Three {
            first: Param::from_tensor(random("first", [8, 3, 9, 9], 1.0)),
            inner: Param::from_tensor(random("inner", [16, 8, 3, 3], 1.0)),
            scale: Param::from_tensor(random("scale", [8], 1.0)),
        }
    }

    /// One step down a random slope, other at every step.
    fn step(optimizer: &mut NetworkOptimizer<Three<B>, B>, module: Three<B>, at: usize) -> Three<B> {
        let slope = |name: &str, shape| random(&format!("{name} {at}"), shape, 1e-4);
        let loss = (module.first.val() * slope("first", [8, 3, 9, 9])).sum()
            + (module.inner.val() * slope("inner", [16, 8, 3, 3])).sum()
            + (module.scale.val() * random(&format!("scale {at}"), [8], 1e-4)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        optimizer.step(0.01, module, gradients)
    }

    fn moved<const D: usize>(before: &Param<Tensor<B, D>>, after: &Param<Tensor<B, D>>) -> f32 {
        (after.val() - before.val()).square().mean().sqrt().into_scalar()
    }

    #[test]
    fn kernels_move_by_two_learning_rates_and_the_rest_as_adam_says() {
        let before = module();
        let mut muon = NetworkOptimizer::init(OptimizerKind::Muon);
        let after = step(&mut muon, before.clone(), 0);
        let inner = moved(&before.inner, &after.inner);
        assert!((0.012..0.026).contains(&inner), "{inner}");
        for adams in [moved(&before.first, &after.first), moved(&before.scale, &after.scale)] {
            assert!(
                (adams - 0.01).abs() < 1e-4,
                "{adams}: Adam's first step is the learning rate everywhere"
            );
        }
        assert!(after.inner.is_require_grad() && after.first.is_require_grad());
        let mut adam = NetworkOptimizer::init(OptimizerKind::Adam);
        let after = step(&mut adam, before.clone(), 0);
        let inner = moved(&before.inner, &after.inner);
        assert!((inner - 0.01).abs() < 1e-4, "{inner}");
    }

    #[test]
    fn a_record_carries_on_where_it_was_taken() {
        for kind in [OptimizerKind::Muon, OptimizerKind::Adam] {
            let mut optimizer = NetworkOptimizer::init(kind);
            let halfway = step(&mut optimizer, module(), 0);
            let mut resumed = NetworkOptimizer::init(kind).load_record(optimizer.to_record());
            let (here, there) =
                (step(&mut optimizer, halfway.clone(), 1), step(&mut resumed, halfway.clone(), 1));
            assert_eq!(moved(&here.inner, &there.inner), 0.0);
            assert_eq!(moved(&here.scale, &there.scale), 0.0);
            let anew = step(&mut NetworkOptimizer::init(kind), halfway, 1);
            assert!(moved(&here.inner, &anew.inner) > 1e-3, "the first step left no trace");
        }
    }
}
