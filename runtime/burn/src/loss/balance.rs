//! Automatic balance: factors that make one set of default weights work for every loss network.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto_checkpoints::LossBalance;
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

/// Losses below this (relative to nothing: features of all conventions are far larger) count as absent: a
/// picture that has the style already, or a layer that is dead.
const NOTHING: f64 = 1e-20;

/// Pictures with less total variation than this are flat, and not divided by.
const FLAT: f64 = 1e-12;

impl<B: Backend> PerceptualLoss<B> {
    /// Finds the factors from unpainted pictures, in batches of RGB 0..255 `[batch, 3, height, width]`: 1 over the
    /// mean of the batches' values. The same pictures always give the same factors (on the same backend).
    /// `content_weight` and `style_weight` are then plain numbers near 1 whose ratio says how much style is wanted.
    ///
    /// What there is nothing of (the pictures have the style already, or are flat) gets the factor 1.
    ///
    /// # Errors
    /// As [`crate::loss_network::LossNetwork::features`]; [`BurnError::PerceptualLoss`] for a loss that is not
    /// finite.
    pub fn balance(&self, batches: impl IntoIterator<Item = Tensor<B, 4>>) -> Result<LossBalance, BurnError> {
        let (mut content, mut style, mut tv) = (BTreeMap::new(), BTreeMap::new(), 0.0);
        let mut count = 0;
        for pictures in batches {
            let energies = self.content_target(pictures.clone())?.features.into_iter();
            let energies = energies.map(|f| f.cast(burn::tensor::FloatDType::F32).square().mean());
            add(&mut content, &self.config.content_layers, energies)?;
            let distances = self.style_distances(pictures.clone())?.into_iter();
            add(&mut style, &self.config.style_layers, distances)?;
            tv += scalar(total_variation(pictures));
            count += 1;
        }
        let factor = |sum: f64, least: f64| if sum > least { f64::from(count) / sum } else { 1.0 };
        let factors = |sums: BTreeMap<String, f64>| {
            sums.into_iter().map(|(layer, sum)| (layer, factor(sum, NOTHING))).collect()
        };
        Ok(LossBalance { content: factors(content), style: factors(style), tv: factor(tv, FLAT) })
    }

    /// Multiplies the layers' weights and the total variation's by the factors, and brings the sum of the style
    /// layers' weights (and of the content layers') to 1 before, so that the number of layers does not matter either.
    ///
    /// # Errors
    /// [`BurnError::PerceptualLoss`] when the factors are not for these layers, or not finite and positive.
    pub fn apply(&mut self, balance: &LossBalance) -> Result<(), BurnError> {
        let balanced = |layers: &[(String, f64)], factors: &BTreeMap<String, f64>| {
            let sum: f64 = layers.iter().map(|(_, weight)| weight).sum();
            if layers.len() != factors.len() {
                return Err(mismatch(format!("{} factors for {} layers", factors.len(), layers.len())));
            }
            layers
                .iter()
                .map(|(layer, weight)| {
                    let factor = usable(factors.get(layer).copied(), layer)?;
                    let share = if sum > 0.0 { weight / sum } else { 0.0 };
                    Ok((layer.clone(), share * factor))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let content = balanced(&self.config.content_layers, &balance.content)?;
        let style = balanced(&self.config.style_layers, &balance.style)?;
        let tv = usable(Some(balance.tv), "the total variation")?;
        self.config.content_layers = content;
        self.config.style_layers = style;
        self.config.tv_weight *= tv;
        Ok(())
    }
}

/// Adds what a batch has of each layer.
fn add<B: Backend>(
    sums: &mut BTreeMap<String, f64>,
    layers: &[(String, f64)],
    values: impl Iterator<Item = Tensor<B, 1>>,
) -> Result<(), BurnError> {
    for ((layer, _), value) in layers.iter().zip(values) {
        let value = scalar(value);
        if !value.is_finite() {
            let reason = format!("{value} at {layer} before any painting, expected a finite number");
            return Err(BurnError::PerceptualLoss { reason });
        }
        *sums.entry(layer.clone()).or_default() += value;
    }
    Ok(())
}

fn scalar<B: Backend>(value: Tensor<B, 1>) -> f64 {
    value.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

fn usable(factor: Option<f64>, of: &str) -> Result<f64, BurnError> {
    match factor {
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        Some(factor) => Err(mismatch(format!("factor {factor} of {of}"))),
        None => Err(mismatch(format!("no factor of {of}"))),
    }
}

fn mismatch(found: String) -> BurnError {
    BurnError::PerceptualLoss {
        reason: format!(
            "balance: {found}, expected a positive factor for each layer and the total variation"
        ),
    }
}
