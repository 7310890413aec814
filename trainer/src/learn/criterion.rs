//! What is asked of a painted photo: the perceptual loss, balanced once at the start, plus stability.
//!
//! With `balance = "auto"` the total is
//!
//! ```text
//! w_c · Σ a'_l C_l / C°_l  +  w_s · Σ b'_l S_l / S°_l  +  w_tv · TV / TV°  +  w_st · stability
//! ```
//!
//! with the layers' own weights brought to a sum of 1 (a', b') and scales measured on the run's first photos, unpainted:
//! C°_l is the energy of its features, S°_l its distance to the style, TV° its own total variation. So 1 means
//! "nothing of the photo left", "no style at all" and "as rough as a photo" for every loss network, and the same
//! weights serve all. With `balance = "off"` the weights multiply the raw losses.

use std::sync::Arc;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, FloatDType, Tensor};
use impasto::Frame;
use impasto_burn::BurnError;
use impasto_burn::loss::{Balancing, Losses, PerceptualConfig, PerceptualLoss, StylePicture};
use impasto_burn::loss_network::{LossNetwork, LossWeights};
use impasto_checkpoints::LossBalance;

use crate::config::{LayerWeights, TrainConfig, TrainPrecision};
use crate::error::TrainError;
use crate::learn::feed::to_tensor;
use crate::log::row::TOTAL;

/// The question put to painted photos, on a device.
#[derive(Debug)]
pub struct Criterion<B: Backend> {
    loss: PerceptualLoss<B>,
    compute: DType,
    stability_weight: f64,
    clip_norm: f64,
    balance: Option<LossBalance>,
    names: Arc<Vec<String>>,
}

/// Names of the first values; each layer's share follows.
const FIXED: [&str; 5] = [TOTAL, "loss/content", "loss/style", "loss/tv", "loss/stability"];

impl<B: Backend> Criterion<B> {
    /// Puts the loss network on the device, takes the painting's statistics, and balances the losses on batches of
    /// `photos` unless the factors are given (by a checkpoint).
    ///
    /// # Shapes
    /// - photos: `[batch, 3, size, size]` each, at least one
    ///
    /// # Errors
    /// [`TrainError::Burn`] for an unknown layer (the known ones are listed), for weights that end before it, and
    /// for pictures too small for it.
    pub fn new(
        config: &TrainConfig,
        weights: &LossWeights,
        style: &Frame,
        photos: &[Tensor<B, 4>],
        balance: Option<LossBalance>,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let (dtype, compute) = match config.precision {
            TrainPrecision::F32 => (FloatDType::F32, DType::F32),
            TrainPrecision::Bf16 => (FloatDType::BF16, DType::BF16),
        };
        let network = LossNetwork::with_dtype(weights, dtype, device)?.with_pooling(config.pooling);
        let painting = StylePicture {
            rgb255: to_tensor::<B>(style.rgb(), [1, style.height(), style.width()], device),
            weight: 1.0,
        };
        let mut loss = PerceptualLoss::new(network, &perceptual(config), &[painting])?;
        let balance = match (balance, config.balance) {
            (_, Balancing::Off) => None,
            (Some(known), Balancing::Auto) => Some(known),
            (None, Balancing::Auto) => Some(loss.balance(photos.iter().cloned())?),
        };
        if let Some(balance) = &balance {
            loss.apply(balance)?;
        }
        // Sizes are checked here, once: a training step cannot report an error.
        if let Some(photos) = photos.first() {
            let content = loss.content_target(photos.clone())?;
            loss.evaluate(photos.clone(), &content)?;
        }
        let names = FIXED.iter().map(|name| (*name).to_owned());
        let names = names
            .chain(config.content_layers.0.keys().map(|layer| format!("content/{layer}")))
            .chain(config.style_layers.0.keys().map(|layer| format!("style/{layer}")));
        Ok(Criterion {
            names: Arc::new(names.collect()),
            loss,
            compute,
            stability_weight: config.stability_weight,
            clip_norm: config.clip_norm,
            balance,
        })
    }

    /// Names of the values, in order.
    pub fn names(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.names)
    }

    /// Float type of the network's convolutions.
    pub fn compute_type(&self) -> DType {
        self.compute
    }

    /// Weight of the stability loss.
    pub fn stability_weight(&self) -> f64 {
        self.stability_weight
    }

    /// Largest norm of all gradients together, 0 for none.
    pub fn clip_norm(&self) -> f64 {
        self.clip_norm
    }

    /// What the losses are multiplied by, if they are balanced.
    pub fn balance(&self) -> Option<&LossBalance> {
        self.balance.as_ref()
    }

    /// The weights in force, for people, in one line.
    pub fn summary(&self) -> String {
        let config = self.loss.config();
        let layers = |layers: &[(String, f64)]| {
            layers
                .iter()
                .map(|(layer, weight)| format!("{layer} {weight:.3e}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!(
            "losses{}: content {} × ({}), style {} × ({}), tv {:.3e}, stability {}",
            if self.balance.is_some() { ", balanced on the first photos" } else { "" },
            config.content_weight,
            layers(&config.content_layers),
            config.style_weight,
            layers(&config.style_layers),
            config.tv_weight,
            self.stability_weight
        )
    }

    /// The total as part of the graph that made `painted`, with the stability loss `instability` if there is one,
    /// and all values.
    ///
    /// # Shapes
    /// - painted, photos: `[batch, 3, height, width]`
    ///
    /// # Errors
    /// [`BurnError`] when a picture is too small; not for the sizes this criterion was made with.
    pub fn train<A: AutodiffBackend<InnerBackend = B>>(
        &self,
        painted: Tensor<A, 4>,
        photos: Tensor<B, 4>,
        instability: Option<Tensor<A, 1>>,
    ) -> Result<(Tensor<A, 1>, Tensor<B, 1>), BurnError> {
        let content = self.loss.content_target(photos)?;
        let (mut total, losses) = self.loss.forward(painted, &content)?;
        let mut stability = None;
        if let Some(instability) = instability {
            stability = Some(instability.clone().inner());
            total = total + instability * self.stability_weight;
        }
        Ok((total, self.row(losses, stability)))
    }

    /// All values, without a gradient.
    ///
    /// # Errors
    /// As [`Criterion::train`].
    pub fn values(&self, painted: Tensor<B, 4>, photos: Tensor<B, 4>) -> Result<Tensor<B, 1>, BurnError> {
        let content = self.loss.content_target(photos)?;
        Ok(self.row(self.loss.evaluate(painted, &content)?, None))
    }

    /// The weighted shares in the order of the names; they sum to the first.
    fn row(&self, losses: Losses<B>, stability: Option<Tensor<B, 1>>) -> Tensor<B, 1> {
        let config = self.loss.config();
        let share = |(loss, (_, weight)): ((String, Tensor<B, 1>), &(String, f64)), factor: f64| {
            loss.1 * (weight * factor)
        };
        let content: Vec<_> = losses
            .content
            .into_iter()
            .zip(&config.content_layers)
            .map(|pair| share(pair, config.content_weight))
            .collect();
        let style: Vec<_> = losses
            .style
            .into_iter()
            .zip(&config.style_layers)
            .map(|pair| share(pair, config.style_weight))
            .collect();
        let zero = losses.tv.zeros_like();
        let sum =
            |shares: &[Tensor<B, 1>]| shares.iter().cloned().fold(zero.clone(), |sum, share| sum + share);
        let stability = stability.map_or_else(|| zero.clone(), |stability| stability * self.stability_weight);
        let mut values = vec![
            losses.total + stability.clone(),
            sum(&content),
            sum(&style),
            losses.tv * config.tv_weight,
            stability,
        ];
        values.extend(content);
        values.extend(style);
        Tensor::cat(values, 0)
    }

    /// How far pictures are from the style: the weighted style loss without `style_weight`. Balanced, unpainted
    /// photos are at about 1.
    ///
    /// # Errors
    /// As [`Criterion::train`].
    pub fn style_distance(&self, pictures: Tensor<B, 4>) -> Result<f64, TrainError> {
        let content = self.loss.content_target(pictures.clone())?;
        let values = self.loss.values(&self.loss.evaluate(pictures, &content)?)?;
        let weights = &self.loss.config().style_layers;
        Ok(values.style.iter().zip(weights).map(|(layer, (_, weight))| layer.loss * weight).sum())
    }
}

fn perceptual(config: &TrainConfig) -> PerceptualConfig {
    let layers =
        |layers: &LayerWeights| layers.0.iter().map(|(name, weight)| (name.clone(), *weight)).collect();
    PerceptualConfig {
        content_layers: layers(&config.content_layers),
        style_layers: layers(&config.style_layers),
        content_weight: config.content_weight,
        style_weight: config.style_weight,
        tv_weight: config.tv_weight,
        statistic: config.statistic,
    }
}
