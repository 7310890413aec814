//! The steps of the network: a convolution with its norm, and the residual block.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation;
use burn::tensor::backend::Backend;
use impasto_checkpoints::{Block, CheckpointError, ConvKind, ConvSpec, NormSpec, StyleModel};

use super::conv::ConvLayer;
use super::norm::InstanceNorm;

/// Convolution, then perhaps a norm, then perhaps ReLU.
#[derive(Module, Debug)]
pub struct ConvBlock<B: Backend> {
    /// The convolution.
    pub conv: ConvLayer<B>,
    /// The instance norm after it (absent after the last convolution unless the architecture has it).
    pub norm: Option<InstanceNorm<B>>,
    pub(super) relu: bool,
}

impl<B: Backend> ConvBlock<B> {
    /// Runs the step.
    pub fn forward(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        let output = self.conv.forward(input);
        match (&self.norm, self.relu) {
            (Some(norm), true) => norm.forward_relu(output),
            (Some(norm), false) => norm.forward(output),
            (None, true) => activation::relu(output),
            (None, false) => output,
        }
    }
}

/// A [`ConvBlock`] that doubles height and width: nearest ×2 and a convolution, or a transposed one.
///
/// # Shapes
/// - input: `[batch, in, height, width]`
/// - output: `[batch, out, 2 · height, 2 · width]`
#[derive(Module, Debug)]
pub struct UpsampleConv<B: Backend> {
    /// The convolution that doubles, with its norm and ReLU.
    pub block: ConvBlock<B>,
}

impl<B: Backend> UpsampleConv<B> {
    /// Runs the step.
    pub fn forward(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        self.block.forward(input)
    }
}

/// `x + norm2(conv2(relu(norm1(conv1(x)))))`.
///
/// # Shapes
/// - input, output: `[batch, channels, height, width]`
///
/// # Source
/// Gross & Wilber 2016: no ReLU after the sum, as Johnson et al. 2016 take it.
#[derive(Module, Debug)]
pub struct ResidualBlock<B: Backend> {
    /// The first convolution.
    pub conv1: ConvLayer<B>,
    /// The norm after it.
    pub norm1: InstanceNorm<B>,
    /// The second convolution.
    pub conv2: ConvLayer<B>,
    /// The norm after it.
    pub norm2: InstanceNorm<B>,
}

impl<B: Backend> ResidualBlock<B> {
    /// Runs the block.
    pub fn forward(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        let inner = self.norm1.forward_relu(self.conv1.forward(input.clone()));
        input + self.norm2.forward(self.conv2.forward(inner))
    }
}

/// One step of the network.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a dozen steps in one list; the module derive knows no boxes")]
pub enum Step<B: Backend> {
    /// A convolution at stride 1 or 2.
    Conv(ConvBlock<B>),
    /// A residual block.
    Residual(ResidualBlock<B>),
    /// A doubling.
    Upsample(UpsampleConv<B>),
}

impl<B: Backend> Step<B> {
    /// The step with the model's weights.
    pub(super) fn from_model(
        model: &StyleModel,
        block: &Block,
        device: &B::Device,
    ) -> Result<Self, CheckpointError> {
        let conv = |spec: &ConvSpec| ConvLayer::from_model(model, spec, device);
        let normed = |spec: &NormSpec| InstanceNorm::from_model(model, spec, device);
        match block {
            Block::Conv { conv: spec, norm, relu } => {
                let norm = norm.as_ref().map(normed).transpose()?;
                let block = ConvBlock { conv: conv(spec)?, norm, relu: *relu };
                Ok(match spec.kind {
                    ConvKind::Strided(_) => Step::Conv(block),
                    ConvKind::NearestDoubled | ConvKind::Transposed => Step::Upsample(UpsampleConv { block }),
                })
            }
            Block::Residual { convs, norms } => Ok(Step::Residual(ResidualBlock {
                conv1: conv(&convs[0])?,
                norm1: normed(&norms[0])?,
                conv2: conv(&convs[1])?,
                norm2: normed(&norms[1])?,
            })),
        }
    }

    /// Runs the step.
    pub fn forward(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        match self {
            Step::Conv(block) => block.forward(input),
            Step::Residual(block) => block.forward(input),
            Step::Upsample(block) => block.forward(input),
        }
    }

    /// The step's convolutions and norms, in the order of [`Architecture::blocks`].
    ///
    /// [`Architecture::blocks`]: impasto_checkpoints::Architecture::blocks
    pub(super) fn parts(&self) -> (Vec<&ConvLayer<B>>, Vec<&InstanceNorm<B>>) {
        match self {
            Step::Conv(block) | Step::Upsample(UpsampleConv { block }) => {
                (vec![&block.conv], block.norm.iter().collect())
            }
            Step::Residual(block) => (vec![&block.conv1, &block.conv2], vec![&block.norm1, &block.norm2]),
        }
    }
    /// The step's convolutions.
    pub(super) fn convs_mut(&mut self) -> Vec<&mut ConvLayer<B>> {
        match self {
            Step::Conv(block) | Step::Upsample(UpsampleConv { block }) => vec![&mut block.conv],
            Step::Residual(block) => vec![&mut block.conv1, &mut block.conv2],
        }
    }
}
