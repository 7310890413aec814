//! The network on a GPU: between two convolutions one kernel does what norm, ReLU, sum, doubling and border do.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, activation};

use super::TransformNet;
use super::blocks::{Step, UpsampleConv};
use super::conv::ConvLayer;
use super::norm::InstanceNorm;
use crate::backend::gpu::{self, After, Border};

/// A convolution and what follows it, as the network is walked.
struct Link<'a, B: Backend> {
    /// Place of its step in the network.
    step: usize,
    conv: &'a ConvLayer<B>,
    norm: Option<&'a InstanceNorm<B>>,
    relu: bool,
    residual: Residual,
}

/// The link's place in a residual block.
#[derive(PartialEq)]
enum Residual {
    None,
    First,
    Last,
}

impl<B: Backend> TransformNet<B> {
    fn links(&self) -> Vec<Link<'_, B>> {
        let mut links = Vec::new();
        for (step, block) in self.steps.iter().enumerate() {
            match block {
                Step::Conv(block) | Step::Upsample(UpsampleConv { block }) => links.push(Link {
                    step,
                    conv: &block.conv,
                    norm: block.norm.as_ref(),
                    relu: block.relu,
                    residual: Residual::None,
                }),
                Step::Residual(block) => {
                    let (conv, norm, relu) = (&block.conv1, Some(&block.norm1), true);
                    links.push(Link { step, conv, norm, relu, residual: Residual::First });
                    let (conv, norm, relu) = (&block.conv2, Some(&block.norm2), false);
                    links.push(Link { step, conv, norm, relu, residual: Residual::Last });
                }
            }
        }
        links
    }

    /// The steps of the network, in the float type `compute`; `None` where there are no kernels for it. `done` is told
    /// the step and the operation after each.
    pub(super) fn forward_fused<E>(
        &self,
        input: &Tensor<B, 4>,
        compute: DType,
        mut done: impl FnMut(usize, &'static str) -> Result<(), E>,
    ) -> Result<Option<Tensor<B, 4>>, E> {
        let links = self.links();
        let border = |link: Option<&Link<'_, B>>, x: &Tensor<B, 4>| match link {
            Some(link) => link.conv.border(x),
            None => Border::NONE,
        };
        let mut around = border(links.first(), input);
        let Some(mut x) = gpu::border(input, around, compute) else { return Ok(None) };
        done(0, "border")?;
        let mut skip = None;
        for (at, link) in links.iter().enumerate() {
            if link.residual == Residual::First {
                skip = Some((x.clone(), around));
            }
            // What a convolution adds everywhere, an instance norm takes away again.
            x = link.conv.convolved_with(x, link.norm.is_none());
            done(link.step, "convolution")?;
            around = border(links.get(at + 1), &x);
            let sum = if link.residual == Residual::Last { skip.take() } else { None };
            let after = match &sum {
                Some((sum, border)) => After::Sum(sum, *border),
                None if link.relu => After::Relu,
                None => After::Nothing,
            };
            let found = match link.norm {
                Some(norm) => norm.forward_bordered(&x, after, around),
                None => {
                    let x = if link.relu { activation::relu(x) } else { x };
                    if around == Border::NONE { Some(x) } else { gpu::border(&x, around, compute) }
                }
            };
            let Some(found) = found else { return Ok(None) };
            x = found;
            if link.norm.is_some() {
                done(link.step, "norm and border")?;
            }
        }
        Ok(Some(x))
    }
}
