//! Gradient clipping by the norm of all gradients together, as PyTorch's `clip_grad_norm_`.
//!
//! burn-optim's clipping takes each parameter's norm alone, which changes the gradient's direction.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// Scales all gradients by `min(1, limit / norm)`, `norm = √Σ g²` over every parameter; nothing leaves the device.
pub fn clip_by_global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    gradients: GradientsParams,
    limit: f64,
) -> GradientsParams {
    let mut norm = SquaredNorm::<B> { gradients: &gradients, sum: None };
    module.visit(&mut norm);
    let Some(sum) = norm.sum else { return gradients };
    // The smallest normal number keeps an all-zero gradient from dividing by zero.
    let factor = (sum.sqrt() + f64::from(f32::MIN_POSITIVE)).recip().mul_scalar(limit).clamp_max(1.0);
    let mut scale = Scale::<B> { gradients, factor };
    module.visit(&mut scale);
    scale.gradients
}

struct SquaredNorm<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for SquaredNorm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let squares = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

struct Scale<B: AutodiffBackend> {
    gradients: GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            self.gradients
                .register::<B::InnerBackend, D>(param.id, gradient * self.factor.clone().unsqueeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::module::Module;
    use burn::tensor::backend::Backend;

    use super::*;

    #[derive(Module, Debug)]
    struct Two<B: Backend> {
        a: Param<Tensor<B, 1>>,
        b: Param<Tensor<B, 2>>,
    }

    fn clipped(limit: f64) -> Vec<f32> {
        type B = Autodiff<Flex>;
        let device = Default::default();
        let module: Two<B> = Two {
            a: Param::from_tensor(Tensor::from_floats([1.0], &device)),
            b: Param::from_tensor(Tensor::from_floats([[1.0, 1.0]], &device)),
        };
        // Gradients 2, and (3, 6): the norm of all is 7.
        let loss = module.a.val().sum() * 2.0
            + (module.b.val() * Tensor::<B, 2>::from_floats([[3.0, 6.0]], &device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let gradients = clip_by_global_norm(&module, gradients, limit);
        let a = gradients.get::<Flex, 1>(module.a.id).unwrap().into_data().into_vec::<f32>().unwrap();
        let b = gradients.get::<Flex, 2>(module.b.id).unwrap().into_data().into_vec::<f32>().unwrap();
        [a, b].concat()
    }

    #[test]
    fn the_norm_of_all_gradients_is_limited_and_their_direction_kept() {
        for (found, expected) in clipped(3.5).into_iter().zip([1.0, 1.5, 3.0]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        assert_eq!(clipped(8.0), [2.0, 3.0, 6.0], "below the limit nothing changes");
    }
}
