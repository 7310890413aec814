//! The losses that a style was trained with, from the settings in its metadata, so that "fast against iterative"
//! compares like with like.

use std::collections::BTreeMap;

use impasto_checkpoints::{LossBalance, Training};
use serde::Deserialize;

use super::criterion::{Balanced, Criterion, Style, StyleSize};
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
    /// The factors that the training found.
    #[serde(skip)]
    found: Option<LossBalance>,
}

impl TrainedLosses {
    /// Reads what a style model's metadata say of its training.
    ///
    /// # Errors
    /// [`BurnError::Iteration`] when they have no settings, or not what `impasto-train` writes.
    pub fn of(training: &Training) -> Result<Self, BurnError> {
        let wrong = |reason: String| BurnError::Iteration { reason };
        let Some(config) = &training.config else {
            return Err(wrong("the training settings are not in the file".to_owned()));
        };
        let trained: Self = toml::from_str(config).map_err(|error| {
            wrong(format!("the training settings cannot be read: {}", one_line(&error.to_string())))
        })?;
        Ok(TrainedLosses { found: training.balance.clone(), ..trained })
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

    /// The losses, with the network's weights and the painting that the style was learned from. Balanced losses have
    /// the factors of the training; of a file that does not tell them, they are balanced on each content picture.
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
            balance: match (self.balance, &self.found) {
                (Balancing::Off, _) => Balanced::Not,
                (Balancing::Auto, Some(balance)) => Balanced::By(balance.clone()),
                (Balancing::Auto, None) => Balanced::OnContent,
            },
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

    fn training(config: &str) -> Training {
        Training {
            tool: String::new(),
            loss_network: String::new(),
            style_sha256: String::new(),
            steps: 9,
            batch_size: 1,
            image_size: 64,
            seed: 0,
            content_weight: 1.0,
            style_weight: 3.0,
            tv_weight: 0.02,
            balance: None,
            config: Some(config.to_owned()),
        }
    }

    #[test]
    fn settings_become_losses() {
        let trained = TrainedLosses::of(&training(CONFIG)).unwrap();
        assert_eq!(trained.network().unwrap().kind, LossNetworkKind::Vgg16);
        let painting = RgbPicture::new(1, 1, vec![1.0; 3]).unwrap();
        let weights = LossWeights::random(LossNetworkKind::Vgg16, 1);
        let criterion = trained.criterion(weights.clone(), painting.clone());
        assert_eq!((criterion.pooling, &criterion.balance), (Pooling::Average, &Balanced::OnContent));
        assert_eq!(criterion.style_size, StyleSize::Longer(640));
        assert_eq!(criterion.losses.statistic, StyleStatistic::MeanStd);
        assert_eq!(criterion.losses.style_layers, [("relu1_2".to_owned(), 0.5)]);
        assert_eq!(criterion.losses.style_weight, 3.0);

        let found = LossBalance {
            content: BTreeMap::from([("relu3_3".to_owned(), 2.0)]),
            style: BTreeMap::from([("relu1_2".to_owned(), 3.0)]),
            tv: 4.0,
        };
        for (config, expected) in
            [(CONFIG.to_owned(), Balanced::By(found.clone())), (CONFIG.replace("auto", "off"), Balanced::Not)]
        {
            let trained =
                TrainedLosses::of(&Training { balance: Some(found.clone()), ..training(&config) }).unwrap();
            assert_eq!(trained.criterion(weights.clone(), painting.clone()).balance, expected);
        }
    }

    #[test]
    fn unknown_values_are_errors_of_one_line() {
        let none = Training { config: None, ..training("") };
        let broken = [CONFIG.replace("mean-std", "median"), CONFIG.replace("style_size", "size"), "=".into()];
        for training in broken.iter().map(|config| training(config)).chain([none]) {
            let error = TrainedLosses::of(&training).unwrap_err().to_string();
            assert!(error.contains("training settings") && error.lines().count() == 1, "{error}");
        }
    }
}
