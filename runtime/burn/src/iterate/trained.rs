//! The losses that a style was trained with, from the settings in its metadata, so that "fast against iterative"
//! compares like with like.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::criterion::{Criterion, Style, StyleSize};
use super::picture::RgbPicture;
use crate::error::{BurnError, one_line};
use crate::loss::{Balancing, PerceptualConfig, StyleStatistic};
use crate::loss_network::{LossNetworkChoice, LossWeights, Pooling};

/// The part of a training's settings that makes its losses. The names are those of `impasto-train`'s configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TrainedLosses {
    loss_net: String,
    content_weight: f64,
    style_weight: f64,
    tv_weight: f64,
    style_size: usize,
    balance: Balancing,
    pooling: Pooling,
    statistic: StyleStatistic,
    content_layers: BTreeMap<String, f64>,
    style_layers: BTreeMap<String, f64>,
}

impl TrainedLosses {
    /// Reads the settings as a style model's metadata have them (`training.config`, TOML).
    ///
    /// # Errors
    /// [`BurnError::Iteration`] when they are not what `impasto-train` writes.
    pub fn parse(config: &str) -> Result<Self, BurnError> {
        toml::from_str(config).map_err(|error| BurnError::Iteration {
            reason: format!("the training settings cannot be read: {}", one_line(&error.to_string())),
        })
    }

    /// The loss network's name, as in `--loss-net`.
    pub fn loss_net(&self) -> &str {
        &self.loss_net
    }

    /// The loss network.
    ///
    /// # Errors
    /// [`BurnError::UnknownLossNetwork`].
    pub fn network(&self) -> Result<LossNetworkChoice, BurnError> {
        self.loss_net.parse()
    }

    /// The losses, with the network's weights and the painting that the style was learned from.
    pub fn criterion(&self, weights: LossWeights, painting: RgbPicture) -> Criterion {
        let layers = |layers: &BTreeMap<String, f64>| layers.clone().into_iter().collect();
        Criterion {
            weights,
            pooling: self.pooling,
            losses: PerceptualConfig {
                content_layers: layers(&self.content_layers),
                style_layers: layers(&self.style_layers),
                content_weight: self.content_weight,
                style_weight: self.style_weight,
                tv_weight: self.tv_weight,
                statistic: self.statistic,
            },
            balance: self.balance == Balancing::Auto,
            styles: vec![Style { picture: painting, weight: 1.0 }],
            style_size: match self.style_size {
                0 => StyleSize::AsIs,
                longer => StyleSize::Longer(longer),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss_network::LossNetworkKind;

    const CONFIG: &str = "loss_net = \"random-vgg16\"\ncontent_weight = 1.0\nstyle_weight = 3.0\ntv_weight = 0.02\n\
        style_size = 640\nbalance = \"auto\"\npooling = \"average\"\nstatistic = \"mean-std\"\nsteps = 9\n\
        [content_layers]\nrelu3_3 = 1.0\n[style_layers]\nrelu1_2 = 0.5\n";

    #[test]
    fn settings_become_losses() {
        let trained = TrainedLosses::parse(CONFIG).unwrap();
        assert_eq!(trained.network().unwrap().kind, LossNetworkKind::Vgg16);
        let painting = RgbPicture::new(1, 1, vec![1.0; 3]).unwrap();
        let criterion = trained.criterion(LossWeights::random(LossNetworkKind::Vgg16, 1), painting);
        assert_eq!((criterion.pooling, criterion.balance), (Pooling::Average, true));
        assert_eq!(criterion.style_size, StyleSize::Longer(640));
        assert_eq!(criterion.losses.statistic, StyleStatistic::MeanStd);
        assert_eq!(criterion.losses.style_layers, [("relu1_2".to_owned(), 0.5)]);
        assert_eq!(criterion.losses.style_weight, 3.0);
    }

    #[test]
    fn unknown_values_are_errors_of_one_line() {
        for broken in [CONFIG.replace("mean-std", "median"), CONFIG.replace("style_size", "size"), "=".into()]
        {
            let error = TrainedLosses::parse(&broken).unwrap_err().to_string();
            assert!(error.contains("training settings") && error.lines().count() == 1, "{error}");
        }
    }
}
