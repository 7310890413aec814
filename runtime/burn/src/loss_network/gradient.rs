//! The gradient of an objective of features with respect to the picture, computed by hand.
//!
//! The weights are constants, so only the picture's gradient is wanted, and for every step it is simple. Done
//! here instead of by Burn's autodiff because
//! - the gradient of a stride-1 convolution is a convolution with the turned kernel, which every backend does
//!   fast, where Burn asks for a transposed convolution: on the CPU that one scatters with a single thread;
//! - no graph is kept: what is stored is each convolution's output, and each max pool's indices.
//!
//! The objective itself (Gram matrices, means, squares) is left to Burn's autodiff, with the features as leaves.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d_with_indices};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Tensor, TensorPrimitive};

use super::network::{Conv, LayerSet, LossNetwork, Pooling, Stage};
use crate::error::BurnError;

/// The way back through a step: from the gradient at its output to the one at its input.
type Back<'a, B> = Box<dyn FnOnce(Tensor<B, 4>) -> Tensor<B, 4> + 'a>;

impl<B: Backend> LossNetwork<B> {
    /// An objective of the features at `layers`, and its gradient with respect to the picture.
    ///
    /// `objective` gets the picture and the features (in the order in which the layers were named) on the
    /// autodiff backend `A` as leaves, and returns one number `[1]` and whatever else the caller wants to have
    /// computed along the way.
    ///
    /// # Shapes
    /// - rgb255: `[batch, 3, height, width]`
    /// - gradient: as rgb255, in f32
    ///
    /// # Errors
    /// As [`LossNetwork::features`], and the objective's own.
    pub fn value_and_gradient<A, T>(
        &self,
        rgb255: Tensor<B, 4>,
        layers: &LayerSet,
        objective: impl FnOnce(Tensor<A, 4>, Vec<Tensor<A, 4>>) -> Result<(Tensor<A, 1>, T), BurnError>,
    ) -> Result<(Tensor<B, 1>, Tensor<B, 4>, T), BurnError>
    where
        A: AutodiffBackend<InnerBackend = B>,
    {
        let (features, back) = self.forward_with_way_back(rgb255.clone(), layers)?;
        let picture = Tensor::<A, 4>::from_inner(rgb255).require_grad();
        let leaves: Vec<_> =
            features.into_iter().map(|tensor| Tensor::<A, 4>::from_inner(tensor).require_grad()).collect();
        let (value, extra) = objective(picture.clone(), leaves.clone())?;
        let mut gradients = value.backward();
        let mut at_layers: Vec<_> = leaves.into_iter().map(|leaf| leaf.grad_remove(&mut gradients)).collect();
        let direct = picture.grad_remove(&mut gradients);
        drop(gradients);

        let mut flow: Option<Tensor<B, 4>> = None;
        for (step, back) in back.into_iter().enumerate().rev() {
            for (gradient, _) in at_layers.iter_mut().zip(&layers.steps).filter(|(_, wanted)| **wanted == step) {
                flow = sum(flow, gradient.take());
            }
            flow = flow.map(back);
        }
        // The input stage subtracts a constant: its gradient is the identity.
        let flow = flow.map(|gradient| gradient.cast(FloatDType::F32));
        let gradient = sum(flow, direct).unwrap_or_else(|| picture.inner().zeros_like());
        Ok((value.inner(), gradient, extra))
    }

    fn forward_with_way_back(
        &self,
        rgb255: Tensor<B, 4>,
        layers: &LayerSet,
    ) -> Result<(Vec<Tensor<B, 4>>, Vec<Back<'_, B>>), BurnError> {
        let mut found: Vec<Option<Tensor<B, 4>>> = vec![None; layers.steps.len()];
        let mut way_back = Vec::with_capacity(layers.depth());
        let mut x = self.input(rgb255, layers)?;
        for (step, stage) in self.stages.iter().enumerate().take(layers.depth()) {
            let (output, back) = match stage {
                Stage::Conv(conv) => conv.forward_with_way_back(x),
                Stage::Pool { kernel, ceil } => match self.pooling {
                    Pooling::Max => max_pool(x, *kernel, *ceil),
                    Pooling::Average => average_pool(x, *kernel, *ceil),
                },
                Stage::Fire { squeeze, expand1x1, expand3x3 } => fire(x, squeeze, expand1x1, expand3x3),
            };
            for (slot, _) in found.iter_mut().zip(&layers.steps).filter(|(_, wanted)| **wanted == step) {
                *slot = Some(output.clone());
            }
            way_back.push(back);
            x = output;
        }
        Ok((found.into_iter().flatten().collect(), way_back))
    }
}

impl<B: Backend> Conv<B> {
    /// Convolution and ReLU.
    fn forward_with_way_back(&self, x: Tensor<B, 4>) -> (Tensor<B, 4>, Back<'_, B>) {
        let Some(turned) = &self.turned else {
            let output = self.forward(x.clone());
            let result = output.clone();
            let back: Back<'_, B> = Box::new(move |gradient| {
                let gradient = primitive(relu_back(output, gradient));
                let weight = primitive(self.weight.clone());
                float(B::conv2d_x_backward(primitive(x), weight, gradient, self.options()))
            });
            return (result, back);
        };
        let output = self.forward(x);
        let result = output.clone();
        let [_, _, kernel, _] = turned.dims();
        let options = ConvOptions::new([1, 1], [kernel - 1 - self.padding; 2], [1, 1], 1);
        let back = Box::new(move |gradient| {
            conv2d(relu_back(output, gradient), turned.clone(), None, options)
        });
        (result, back)
    }
}

fn max_pool<'a, B: Backend>(x: Tensor<B, 4>, kernel: usize, ceil: bool) -> (Tensor<B, 4>, Back<'a, B>) {
    let (output, indices) = max_pool2d_with_indices(x.clone(), [kernel; 2], [2, 2], [0, 0], [1, 1], ceil);
    let back = Box::new(move |gradient| {
        let back = B::max_pool2d_with_indices_backward(
            primitive(x),
            [kernel; 2],
            [2, 2],
            [0, 0],
            [1, 1],
            ceil,
            primitive(gradient),
            indices.into_primitive(),
        );
        float(back.x_grad)
    });
    (output, back)
}

fn average_pool<'a, B: Backend>(x: Tensor<B, 4>, kernel: usize, ceil: bool) -> (Tensor<B, 4>, Back<'a, B>) {
    let output = avg_pool2d(x.clone(), [kernel; 2], [2, 2], [0, 0], false, ceil);
    let back = Box::new(move |gradient| {
        let gradient = primitive(gradient);
        float(B::avg_pool2d_backward(primitive(x), gradient, [kernel; 2], [2, 2], [0, 0], false, ceil))
    });
    (output, back)
}

fn fire<'a, B: Backend>(
    x: Tensor<B, 4>,
    squeeze: &'a Conv<B>,
    expand1x1: &'a Conv<B>,
    expand3x3: &'a Conv<B>,
) -> (Tensor<B, 4>, Back<'a, B>) {
    let (squeezed, back_to_input) = squeeze.forward_with_way_back(x);
    let (wide1x1, back1x1) = expand1x1.forward_with_way_back(squeezed.clone());
    let (wide3x3, back3x3) = expand3x3.forward_with_way_back(squeezed);
    let half = wide1x1.dims()[1];
    let back = Box::new(move |gradient: Tensor<B, 4>| {
        let at_squeezed =
            back1x1(gradient.clone().narrow(1, 0, half)) + back3x3(gradient.narrow(1, half, half));
        back_to_input(at_squeezed)
    });
    (Tensor::cat(vec![wide1x1, wide3x3], 1), back)
}

fn relu_back<B: Backend>(output: Tensor<B, 4>, gradient: Tensor<B, 4>) -> Tensor<B, 4> {
    float(B::relu_backward(primitive(output), primitive(gradient)))
}

fn sum<B: Backend>(a: Option<Tensor<B, 4>>, b: Option<Tensor<B, 4>>) -> Option<Tensor<B, 4>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn primitive<B: Backend>(tensor: Tensor<B, 4>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn float<B: Backend>(primitive: B::FloatTensorPrimitive) -> Tensor<B, 4> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
