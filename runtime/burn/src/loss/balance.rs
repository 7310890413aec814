//! Automatic balance: weights that make one set of defaults work for every loss network.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::perceptual::PerceptualLoss;
use super::terms::total_variation;
use crate::error::BurnError;

/// Whether the losses are brought to one scale before they are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Balancing {
    /// Each is divided by its value at the start, so that weights mean the same for every loss network.
    Auto,
    /// Weights multiply the raw losses.
    Off,
}

/// Factors for the layers' weights, found by [`PerceptualLoss::balance`] from a few pictures.
///
/// Losses of different layers and networks differ by many powers of ten, so weights found for one are wrong for
/// another. With these factors
/// - every style layer's loss is 1 for an **unpainted** picture: the style losses count what part of the way to
///   the style is still to go;
/// - every content layer's loss is 1 for a picture **of which nothing is left** (features 0): the content losses
///   count what part of the features' energy has changed.
///
/// `content_weight` and `style_weight` are then plain numbers near 1 whose ratio says how much style is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// For each content layer, 1 / mean square of its features.
    pub content: Vec<(String, f64)>,
    /// For each style layer, 1 / style loss of the unpainted pictures.
    pub style: Vec<(String, f64)>,
}

/// Losses below this (relative to nothing: features of all conventions are far larger) count as absent: a
/// picture that has the style already, or a layer that is dead.
const NOTHING: f64 = 1e-20;

/// Pictures with less total variation than this are flat, and not divided by.
const FLAT: f64 = 1e-12;

/// What the total variation is divided by: that of the unpainted pictures, RGB 0..255 `[batch, 3, height, width]`, so
/// that 1 is "as rough as the photo"; 1 when they are flat.
pub fn tv_scale<B: Backend>(pictures: Tensor<B, 4>) -> f64 {
    let tv = total_variation(pictures).into_data().iter::<f64>().next().unwrap_or(0.0);
    if tv > FLAT { tv } else { 1.0 }
}

impl<B: Backend> PerceptualLoss<B> {
    /// Finds the factors from unpainted pictures, RGB 0..255 `[batch, 3, height, width]`. The same pictures always
    /// give the same factors (on the same backend).
    ///
    /// Layers of which there is nothing to measure (the pictures have the style already) get the factor 1.
    ///
    /// # Errors
    /// As [`crate::loss_network::LossNetwork::features`]; [`BurnError::PerceptualLoss`] for a loss that is not
    /// finite.
    pub fn balance(&self, pictures: Tensor<B, 4>) -> Result<Balance, BurnError> {
        let content = self.content_target(pictures.clone())?.features;
        let content: Vec<_> = content
            .into_iter()
            .map(|features| features.cast(burn::tensor::FloatDType::F32).square().mean())
            .collect();
        let style = self.style_distances(pictures)?;
        let factors = |layers: &[(String, f64)], losses: Vec<Tensor<B, 1>>| {
            layers
                .iter()
                .zip(losses)
                .map(|((layer, _), loss)| {
                    let loss = loss.into_data().iter::<f64>().next().unwrap_or(f64::NAN);
                    if !loss.is_finite() {
                        return Err(BurnError::PerceptualLoss {
                            reason: format!(
                                "{loss} at {layer} before any painting, expected a finite number"
                            ),
                        });
                    }
                    Ok((layer.clone(), if loss > NOTHING { 1.0 / loss } else { 1.0 }))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Balance {
            content: factors(&self.config.content_layers, content)?,
            style: factors(&self.config.style_layers, style)?,
        })
    }

    /// Multiplies the layers' weights by the factors and brings the sum of the style layers' weights (and of the
    /// content layers') to 1 before, so that the number of layers does not matter either.
    ///
    /// # Errors
    /// [`BurnError::PerceptualLoss`] when the factors are not for these layers, or not finite and positive.
    pub fn apply(&mut self, balance: &Balance) -> Result<(), BurnError> {
        let balanced = |layers: &[(String, f64)], factors: &[(String, f64)]| {
            let sum: f64 = layers.iter().map(|(_, weight)| weight).sum();
            if layers.len() != factors.len() {
                return Err(mismatch(format!("{} factors for {} layers", factors.len(), layers.len())));
            }
            layers
                .iter()
                .zip(factors)
                .map(|((layer, weight), (of, factor))| {
                    if layer != of || !factor.is_finite() || *factor <= 0.0 {
                        return Err(mismatch(format!("factor {factor} of {of} for layer {layer}")));
                    }
                    let share = if sum > 0.0 { weight / sum } else { 0.0 };
                    Ok((layer.clone(), share * factor))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let content = balanced(&self.config.content_layers, &balance.content)?;
        let style = balanced(&self.config.style_layers, &balance.style)?;
        self.config.content_layers = content;
        self.config.style_layers = style;
        Ok(())
    }
}

fn mismatch(found: String) -> BurnError {
    BurnError::PerceptualLoss {
        reason: format!("balance: {found}, expected a positive factor for each layer in order"),
    }
}
