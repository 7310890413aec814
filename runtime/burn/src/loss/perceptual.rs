//! The perceptual loss: content and style of chosen layers and total variation, weighted, with the gradient
//! that trains a network or paints a picture.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use super::terms::{StyleStatistic, StyleTarget, content_loss, style_loss, total_variation};
use crate::error::BurnError;
use crate::loss_network::{LayerSet, LossNetwork};

/// What a perceptual loss looks at, and how much each part counts.
#[derive(Debug, Clone, PartialEq)]
pub struct PerceptualConfig {
    /// Layers that hold the content, with their weights.
    pub content_layers: Vec<(String, f64)>,
    /// Layers that hold the style, with their weights.
    pub style_layers: Vec<(String, f64)>,
    /// Weight of the content loss.
    pub content_weight: f64,
    /// Weight of the style loss.
    pub style_weight: f64,
    /// Weight of the total variation.
    pub tv_weight: f64,
    /// What counts as style.
    pub statistic: StyleStatistic,
}

/// One of the pictures whose style is to be learned.
#[derive(Debug, Clone)]
pub struct StylePicture<B: Backend> {
    /// RGB 0..255, `[1, 3, height, width]`; every picture in its own size.
    pub rgb255: Tensor<B, 4>,
    /// Its share, relative to the other pictures'.
    pub weight: f64,
}

/// The content of a batch of pictures: their features at the content layers, free of any graph.
#[derive(Debug, Clone)]
pub struct ContentTarget<B: Backend> {
    pub(super) features: Vec<Tensor<B, 4>>,
}

/// The losses of one evaluation, on the device. Those of the layers are **not weighted**; `total` is the
/// weighted sum.
#[derive(Debug, Clone)]
pub struct Losses<B: Backend> {
    /// `content_weight · Σ w·content + style_weight · Σ w·style + tv_weight · tv`, `[1]`.
    pub total: Tensor<B, 1>,
    /// Content loss of each content layer.
    pub content: Vec<(String, Tensor<B, 1>)>,
    /// Style loss of each style layer.
    pub style: Vec<(String, Tensor<B, 1>)>,
    /// Total variation.
    pub tv: Tensor<B, 1>,
}

/// A layer's loss as a number.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerLoss {
    /// The layer.
    pub layer: String,
    /// Its loss, not weighted.
    pub loss: f64,
    /// What it adds to the total, weights included.
    pub share: f64,
}

/// The losses of one evaluation, as numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct LossValues {
    /// The weighted sum.
    pub total: f64,
    /// Content, layer by layer.
    pub content: Vec<LayerLoss>,
    /// Style, layer by layer.
    pub style: Vec<LayerLoss>,
    /// Total variation, not weighted.
    pub tv: f64,
    /// What the total variation adds to the total.
    pub tv_share: f64,
}

impl LossValues {
    /// What all content layers add to the total.
    pub fn content_share(&self) -> f64 {
        self.content.iter().map(|layer| layer.share).sum()
    }

    /// What all style layers add to the total.
    pub fn style_share(&self) -> f64 {
        self.style.iter().map(|layer| layer.share).sum()
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let layers = self.content.iter().chain(&self.style);
        self.total.is_finite() && self.tv.is_finite() && layers.map(|layer| layer.loss).all(f64::is_finite)
    }
}

/// The perceptual loss of Johnson et al. 2016 (and, with its gradient taken by the picture, of Gatys et al. 2016):
/// `content_weight · Σ w·content_loss + style_weight · Σ w·style_loss + tv_weight · total_variation`.
///
/// `B` is a backend without autodiff: the style is computed once and content features never enter a graph.
/// Gradients flow to the painted picture only; [`PerceptualLoss::forward`] puts that part on `Autodiff<B>`.
#[derive(Debug, Clone)]
pub struct PerceptualLoss<B: Backend> {
    pub(super) network: LossNetwork<B>,
    pub(super) config: PerceptualConfig,
    /// Content layers, then style layers.
    layers: LayerSet,
    content_layers: LayerSet,
    style_layers: LayerSet,
    style: Vec<StyleTarget<B>>,
}

impl<B: Backend> PerceptualLoss<B> {
    /// Looks the layers up and computes the style of `styles`: the mean of their statistics, by their weights.
    ///
    /// # Errors
    /// Unknown layers and too small style pictures as in [`LossNetwork`]; [`BurnError::PerceptualLoss`] for
    /// weights that are negative or not finite, for a layer named twice, or when nothing is left to minimize.
    pub fn new(
        network: LossNetwork<B>,
        config: &PerceptualConfig,
        styles: &[StylePicture<B>],
    ) -> Result<Self, BurnError> {
        check(config, styles)?;
        let names =
            |layers: &[(String, f64)]| layers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let content = names(&config.content_layers);
        let style_names = names(&config.style_layers);
        let layers = network.layers(&[content.clone(), style_names.clone()].concat())?;
        let content_layers = network.layers(&content)?;
        let style_layers = network.layers(&style_names)?;

        let sum: f64 = styles.iter().map(|style| style.weight).sum();
        let mut targets: Vec<StyleTarget<B>> = Vec::new();
        for style in styles {
            let features = network.features(style.rgb255.clone(), &style_layers)?;
            let of_picture = features
                .into_iter()
                .map(|features| scaled(StyleTarget::of(features, config.statistic), style.weight / sum));
            if targets.is_empty() {
                targets = of_picture.collect();
            } else {
                targets = targets.into_iter().zip(of_picture).map(|(a, b)| added(a, b)).collect();
            }
        }
        Ok(PerceptualLoss {
            network,
            config: config.clone(),
            layers,
            content_layers,
            style_layers,
            style: targets,
        })
    }

    /// The settings in use (after [`PerceptualLoss::apply`], with the balanced weights).
    pub fn config(&self) -> &PerceptualConfig {
        &self.config
    }

    /// The loss network.
    pub fn network(&self) -> &LossNetwork<B> {
        &self.network
    }

    /// Smallest height and width of a painted or content picture.
    pub fn smallest_size(&self) -> usize {
        self.layers.smallest_size()
    }

    /// The content of pictures, RGB 0..255 `[batch, 3, height, width]`.
    ///
    /// # Errors
    /// As [`LossNetwork::features`].
    pub fn content_target(&self, rgb255: Tensor<B, 4>) -> Result<ContentTarget<B>, BurnError> {
        Ok(ContentTarget { features: self.network.features(rgb255, &self.content_layers)? })
    }

    /// The losses, without a gradient: for validation, and for any backend.
    ///
    /// # Shapes
    /// - painted: `[batch, 3, height, width]`, RGB 0..255, of the size of the content pictures
    ///
    /// # Errors
    /// As [`LossNetwork::features`]; [`BurnError::PerceptualLoss`] when painted and content differ in size.
    pub fn evaluate(
        &self,
        painted: Tensor<B, 4>,
        content: &ContentTarget<B>,
    ) -> Result<Losses<B>, BurnError> {
        let features = self.network.features(painted.clone(), &self.layers)?;
        self.terms(painted, features, content.features.clone(), self.style.clone())
    }

    /// The losses, and their total as part of the graph that made `painted`: what a training step needs.
    /// `A` is `Autodiff<B>`.
    ///
    /// # Errors
    /// As [`PerceptualLoss::evaluate`].
    pub fn forward<A: AutodiffBackend<InnerBackend = B>>(
        &self,
        painted: Tensor<A, 4>,
        content: &ContentTarget<B>,
    ) -> Result<(Tensor<A, 1>, Losses<B>), BurnError> {
        let features = self.network.to_autodiff::<A>().features(painted.clone(), &self.layers)?;
        let content = content.features.iter().cloned().map(Tensor::from_inner).collect();
        let style = self.style.iter().cloned().map(from_inner).collect();
        let losses = self.terms(painted, features, content, style)?;
        Ok((losses.total.clone(), losses.inner()))
    }

    /// The losses and the gradient of their total with respect to the painted picture (`[batch, 3, height,
    /// width]`): what an optimizer of the picture needs. `A` is `Autodiff<B>`.
    ///
    /// # Errors
    /// As [`PerceptualLoss::evaluate`].
    pub fn value_and_gradient<A: AutodiffBackend<InnerBackend = B>>(
        &self,
        painted: Tensor<B, 4>,
        content: &ContentTarget<B>,
    ) -> Result<(Losses<B>, Tensor<B, 4>), BurnError> {
        let leaf = Tensor::<A, 4>::from_inner(painted).require_grad();
        let (total, losses) = self.forward(leaf.clone(), content)?;
        let gradient = leaf.grad(&total.backward());
        // Without a weight above 0 nothing reaches the picture.
        Ok((losses, gradient.unwrap_or_else(|| leaf.inner().zeros_like())))
    }

    /// All losses, on whatever backend the features are on.
    fn terms<A: Backend>(
        &self,
        painted: Tensor<A, 4>,
        mut features: Vec<Tensor<A, 4>>,
        content_target: Vec<Tensor<A, 4>>,
        style_target: Vec<StyleTarget<A>>,
    ) -> Result<Losses<A>, BurnError> {
        let of_style = features.split_off(content_target.len());
        let mut total = Tensor::zeros([1], &painted.device());
        let mut content = Vec::with_capacity(content_target.len());
        for (((layer, weight), features), target) in
            self.config.content_layers.iter().zip(features).zip(content_target)
        {
            if features.dims() != target.dims() {
                return Err(BurnError::PerceptualLoss {
                    reason: format!(
                        "features of the painted pictures have shape {:?} at {layer}, expected {:?} as of the content pictures",
                        features.dims(),
                        target.dims()
                    ),
                });
            }
            let loss = content_loss(features, target);
            total = total + loss.clone() * (self.config.content_weight * weight);
            content.push((layer.clone(), loss));
        }
        let mut style = Vec::with_capacity(style_target.len());
        for (((layer, weight), features), target) in
            self.config.style_layers.iter().zip(of_style).zip(style_target)
        {
            let loss = style_loss(features, &target);
            total = total + loss.clone() * (self.config.style_weight * weight);
            style.push((layer.clone(), loss));
        }
        let tv = total_variation(painted);
        // With weight 0 it is reported, but not part of the graph.
        if self.config.tv_weight != 0.0 {
            total = total + tv.clone() * self.config.tv_weight;
        }
        Ok(Losses { total, content, style, tv })
    }

    /// The losses as numbers, read from the device at once.
    ///
    /// # Errors
    /// [`BurnError::PerceptualLoss`] when the device does not give them back.
    pub fn values(&self, losses: &Losses<B>) -> Result<LossValues, BurnError> {
        let tensors = [&losses.total, &losses.tv].into_iter();
        let tensors = tensors.chain(losses.content.iter().chain(&losses.style).map(|(_, loss)| loss));
        let numbers = Tensor::cat(tensors.cloned().collect(), 0).into_data().convert::<f32>();
        let numbers = numbers.to_vec::<f32>().map_err(|error| BurnError::PerceptualLoss {
            reason: format!("cannot read the losses: {error:?}"),
        })?;
        let mut numbers = numbers.into_iter().map(f64::from);
        let mut next = || numbers.next().unwrap_or(f64::NAN);
        let (total, tv) = (next(), next());
        let mut layers = |layers: &[(String, f64)], factor: f64| {
            let value = |(layer, weight): &(String, f64)| {
                let loss = next();
                LayerLoss { layer: layer.clone(), loss, share: factor * weight * loss }
            };
            layers.iter().map(value).collect()
        };
        Ok(LossValues {
            total,
            content: layers(&self.config.content_layers, self.config.content_weight),
            style: layers(&self.config.style_layers, self.config.style_weight),
            tv,
            tv_share: tv * self.config.tv_weight,
        })
    }

    /// Style losses of pictures, layer by layer: how far their style is from the target.
    pub(super) fn style_distances(&self, rgb255: Tensor<B, 4>) -> Result<Vec<Tensor<B, 1>>, BurnError> {
        let features = self.network.features(rgb255, &self.style_layers)?;
        Ok(features
            .into_iter()
            .zip(&self.style)
            .map(|(features, target)| style_loss(features, target))
            .collect())
    }
}

impl<A: AutodiffBackend> Losses<A> {
    fn inner(self) -> Losses<A::InnerBackend> {
        let inner = |layers: Vec<(String, Tensor<A, 1>)>| {
            layers.into_iter().map(|(layer, loss)| (layer, loss.inner())).collect()
        };
        Losses {
            total: self.total.inner(),
            content: inner(self.content),
            style: inner(self.style),
            tv: self.tv.inner(),
        }
    }
}

fn from_inner<A: AutodiffBackend>(target: StyleTarget<A::InnerBackend>) -> StyleTarget<A> {
    match target {
        StyleTarget::Gram(gram) => StyleTarget::Gram(Tensor::from_inner(gram)),
        StyleTarget::MeanStd(mean, std) => {
            StyleTarget::MeanStd(Tensor::from_inner(mean), Tensor::from_inner(std))
        }
    }
}

fn scaled<B: Backend>(target: StyleTarget<B>, factor: f64) -> StyleTarget<B> {
    match target {
        StyleTarget::Gram(gram) => StyleTarget::Gram(gram * factor),
        StyleTarget::MeanStd(mean, std) => StyleTarget::MeanStd(mean * factor, std * factor),
    }
}

fn added<B: Backend>(a: StyleTarget<B>, b: StyleTarget<B>) -> StyleTarget<B> {
    match (a, b) {
        (StyleTarget::Gram(a), StyleTarget::Gram(b)) => StyleTarget::Gram(a + b),
        (StyleTarget::MeanStd(mean, std), StyleTarget::MeanStd(other_mean, other_std)) => {
            StyleTarget::MeanStd(mean + other_mean, std + other_std)
        }
        // Both come from one configuration, which has one statistic.
        (a, _) => a,
    }
}

fn check<B: Backend>(config: &PerceptualConfig, styles: &[StylePicture<B>]) -> Result<(), BurnError> {
    let fail = |reason: String| Err(BurnError::PerceptualLoss { reason });
    let weights = [
        ("content_weight", config.content_weight),
        ("style_weight", config.style_weight),
        ("tv_weight", config.tv_weight),
    ];
    let of_layers = config.content_layers.iter().chain(&config.style_layers).map(|(n, w)| (n.as_str(), *w));
    let of_styles = styles.iter().map(|style| ("a style picture", style.weight));
    for (name, weight) in weights.into_iter().chain(of_layers).chain(of_styles) {
        if !(weight.is_finite() && weight >= 0.0) {
            return fail(format!("the weight of {name} is {weight}, expected a number from 0 up"));
        }
    }
    for layers in [&config.content_layers, &config.style_layers] {
        for (at, (name, _)) in layers.iter().enumerate() {
            if layers[..at].iter().any(|(other, _)| other == name) {
                return fail(format!("layer `{}` is named twice, expected once", name.escape_debug()));
            }
        }
    }
    if config.content_layers.is_empty() && config.style_layers.is_empty() {
        return fail("neither a content layer nor a style layer, expected at least one".to_string());
    }
    if !config.style_layers.is_empty() && styles.iter().map(|style| style.weight).sum::<f64>() <= 0.0 {
        return fail("style layers but no style picture of a weight above 0, expected one".to_string());
    }
    Ok(())
}
