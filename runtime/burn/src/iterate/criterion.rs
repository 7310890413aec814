//! What an iterated picture is asked for: the perceptual loss of training, balanced on the content picture.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto_checkpoints::LossBalance;

use super::picture::RgbPicture;
use crate::backend::{Work, run_on};
use crate::device::Device;
use crate::error::BurnError;
use crate::loss::{ContentTarget, LossValues, PerceptualConfig, PerceptualLoss, StylePicture};
use crate::loss_network::{LossNetwork, LossWeights, Pooling};

/// One of the pictures whose style is wanted.
#[derive(Debug, Clone)]
pub struct Style {
    /// The picture.
    pub picture: RgbPicture,
    /// Its share, relative to the others'.
    pub weight: f64,
}

/// At what size style pictures are looked at: the larger, the larger their strokes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StyleSize {
    /// The longer side is this many times the content picture's (at every scale).
    OfContent(f64),
    /// The longer side in pixels, as `--style-size` of a training.
    Longer(usize),
    /// As they are.
    AsIs,
}

impl StyleSize {
    /// Width and height of a style picture beside a content picture with this longer side.
    pub(super) fn of(self, style: &RgbPicture, content_longer: usize) -> (usize, usize) {
        match self {
            StyleSize::OfContent(scale) => style.size_for((content_longer as f64 * scale).round() as usize),
            StyleSize::Longer(longer) => style.size_for(longer),
            StyleSize::AsIs => (style.width(), style.height()),
        }
    }
}

/// By what the losses are brought to one size, as in training ([`PerceptualLoss::balance`]).
#[derive(Debug, Clone, PartialEq)]
pub enum Balanced {
    /// By nothing: weights multiply the raw losses.
    Not,
    /// By what the unpainted content picture has: 1 is "nothing of the content left", "no style at all" and "as rough
    /// as the photo".
    OnContent,
    /// By what a training found on its photos.
    By(LossBalance),
}

/// The losses and their targets.
#[derive(Debug, Clone)]
pub struct Criterion {
    /// Weights of the loss network.
    pub weights: LossWeights,
    /// Pooling of the loss network.
    pub pooling: Pooling,
    /// Layers and weights.
    pub losses: PerceptualConfig,
    /// How the losses are brought to one size first.
    pub balance: Balanced,
    /// The style pictures.
    pub styles: Vec<Style>,
    /// At what size they are looked at.
    pub style_size: StyleSize,
}

impl Criterion {
    pub(super) fn network<B: Backend>(&self, place: &B::Device) -> Result<LossNetwork<B>, BurnError> {
        Ok(LossNetwork::new(&self.weights, place)?.with_pooling(self.pooling))
    }

    /// The loss for one content picture, and that picture's content.
    pub(super) fn open<B: Backend>(
        &self,
        network: &LossNetwork<B>,
        content: &RgbPicture,
        place: &B::Device,
    ) -> Result<(PerceptualLoss<B>, ContentTarget<B>), BurnError> {
        let mut styles = Vec::with_capacity(self.styles.len());
        for style in &self.styles {
            let (width, height) = self.style_size.of(&style.picture, content.longer_side());
            let rgb255 = style.picture.resized(width, height).to_tensor(place);
            styles.push(StylePicture { rgb255, weight: style.weight });
        }
        let unpainted: Tensor<B, 4> = content.to_tensor(place);
        let mut loss = PerceptualLoss::new(network.clone(), &self.losses, &styles)?;
        match &self.balance {
            Balanced::Not => {}
            Balanced::OnContent => loss.apply(&loss.balance([unpainted.clone()])?)?,
            Balanced::By(balance) => loss.apply(balance)?,
        }
        let target = loss.content_target(unpainted)?;
        Ok((loss, target))
    }
}

/// The losses of finished pictures against one content picture, in their order: what [`gatys`](super::gatys())
/// would minimize.
///
/// # Errors
/// Those of [`check`](crate::device::check) and [`PerceptualLoss::new`]; [`BurnError::PerceptualLoss`] for a
/// picture that does not have the content's size.
pub fn evaluate(
    device: Device,
    criterion: &Criterion,
    content: &RgbPicture,
    pictures: &[RgbPicture],
) -> Result<Vec<LossValues>, BurnError> {
    struct Evaluation<'a>(&'a Criterion, &'a RgbPicture, &'a [RgbPicture]);

    impl Work for Evaluation<'_> {
        type Output = Vec<LossValues>;

        fn run<B: Backend>(self, place: &B::Device) -> Result<Self::Output, BurnError> {
            let Evaluation(criterion, content, pictures) = self;
            let network = criterion.network::<B>(place)?;
            let (loss, target) = criterion.open(&network, content, place)?;
            pictures
                .iter()
                .map(|picture| loss.values(&loss.evaluate(picture.to_tensor(place), &target)?))
                .collect()
        }
    }

    run_on(device, Evaluation(criterion, content, pictures))
}
