//! Where a painting's time goes, operation by operation: the network walked through with the device made to finish
//! after each.

use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, activation};

use super::blocks::{ConvBlock, Step, UpsampleConv};
use super::conv::ConvLayer;
use super::norm::InstanceNorm;
use super::{TransformNet, to_range};
use crate::error::BurnError;

/// One operation of one layer, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The layer's place and kind: `1 conv`, `4 residual`.
    pub layer: String,
    /// What was done: `upload`, `range`, `doubling`, `padding`, `convolution`, `norm`, `sum`, `round and download`; by
    /// fused operations `norm and border` and `border` where it would be `doubling`, `padding`, `norm` and `sum`.
    pub name: &'static str,
    /// Wall-clock time until the device was done, in milliseconds.
    pub milliseconds: f64,
}

/// Stops the time of one operation after the other.
pub(crate) struct Watch<'a, B: Backend> {
    place: &'a B::Device,
    layer: String,
    before: Instant,
    operations: Vec<Operation>,
}

impl<'a, B: Backend> Watch<'a, B> {
    pub(crate) fn start(place: &'a B::Device) -> Result<Self, BurnError> {
        finish::<B>(place)?;
        Ok(Watch { place, layer: String::new(), before: Instant::now(), operations: Vec::new() })
    }

    /// The operation `name` has been asked for: waits until it is done.
    pub(crate) fn lap(&mut self, name: &'static str) -> Result<(), BurnError> {
        finish::<B>(self.place)?;
        let milliseconds = self.before.elapsed().as_secs_f64() * 1e3;
        self.operations.push(Operation { layer: self.layer.clone(), name, milliseconds });
        self.before = Instant::now();
        Ok(())
    }

    pub(crate) fn into_operations(self) -> Vec<Operation> {
        self.operations
    }
}

/// Waits until the device has done all that was asked of it.
pub(crate) fn finish<B: Backend>(place: &B::Device) -> Result<(), BurnError> {
    B::sync(place).map_err(|error| BurnError::Failed {
        device: format!("{place:?}"),
        reason: crate::error::one_line(&error.to_string()),
    })
}

impl<B: Backend> TransformNet<B> {
    /// [`TransformNet::forward_in`] for a picture that is large enough, operation by operation.
    pub(crate) fn forward_watched(
        &self,
        rgb255: Tensor<B, 4>,
        compute: DType,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B, 4>, BurnError> {
        let dtype = rgb255.dtype();
        let [_, _, height, width] = rgb255.dims();
        let x = to_range(self.at_least_minimum(rgb255), self.architecture.input);
        watch.layer = "0 input".to_owned();
        watch.lap("range")?;
        let x = self.steps_watched(x, compute, watch)?;
        watch.layer = "output".to_owned();
        let x = self.to_rgb255(x.cast(dtype), height, width);
        watch.lap("range")?;
        Ok(x)
    }

    fn steps_watched(
        &self,
        input: Tensor<B, 4>,
        compute: DType,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B, 4>, BurnError> {
        let name = |at: usize| {
            let kind = match &self.steps[at] {
                Step::Conv(_) => "conv",
                Step::Upsample(_) => "upsample",
                Step::Residual(_) => "residual",
            };
            format!("{} {kind}", at + 1)
        };
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        if self.operations == super::Operations::Fused {
            let done = |at: usize, operation| {
                watch.layer = name(at);
                watch.lap(operation)
            };
            if let Some(output) = self.forward_fused(&input, compute, done)? {
                return Ok(output);
            }
        }
        let mut x = input.cast(compute);
        for (at, step) in self.steps.iter().enumerate() {
            watch.layer = name(at);
            x = match step {
                Step::Conv(ConvBlock { conv, norm, relu })
                | Step::Upsample(UpsampleConv { block: ConvBlock { conv, norm, relu } }) => {
                    let x = convolved(conv, x, watch)?;
                    match norm {
                        Some(norm) => normalized(norm, x, *relu, watch)?,
                        None if *relu => activation::relu(x),
                        None => x,
                    }
                }
                Step::Residual(block) => {
                    let inner = convolved(&block.conv1, x.clone(), watch)?;
                    let inner = normalized(&block.norm1, inner, true, watch)?;
                    let inner = convolved(&block.conv2, inner, watch)?;
                    let inner = normalized(&block.norm2, inner, false, watch)?;
                    let sum = x + inner;
                    watch.lap("sum")?;
                    sum
                }
            };
        }
        Ok(x)
    }
}

fn convolved<B: Backend>(
    conv: &ConvLayer<B>,
    input: Tensor<B, 4>,
    watch: &mut Watch<'_, B>,
) -> Result<Tensor<B, 4>, BurnError> {
    let input = conv.doubled(input);
    if conv.doubles() {
        watch.lap("doubling")?;
    }
    let padded = conv.padded(input);
    watch.lap("padding")?;
    let output = conv.convolved(padded);
    watch.lap("convolution")?;
    Ok(output)
}

fn normalized<B: Backend>(
    norm: &InstanceNorm<B>,
    input: Tensor<B, 4>,
    relu: bool,
    watch: &mut Watch<'_, B>,
) -> Result<Tensor<B, 4>, BurnError> {
    let output = if relu { norm.forward_relu(input) } else { norm.forward(input) };
    watch.lap("norm")?;
    Ok(output)
}
