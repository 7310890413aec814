//! Choices among names that only training has (the others are the libraries' own), and the weighted layers.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Number type of the convolutions while training. Weights, norms, Gram matrices and losses are f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TrainPrecision {
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 convolutions, on GPUs that have them.
    Bf16,
}

/// What moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Muon for the kernels between hidden layers, Adam for the rest: lower losses in the same steps.
    Muon,
    /// Adam for everything, as Johnson et al. 2016.
    Adam,
}

/// How the learning rate moves over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// It stays.
    Constant,
    /// Half a cosine, from the learning rate down to a hundredth of it at the last step.
    Cosine,
    /// It is multiplied by `decay_factor` every `decay_every` steps.
    Step,
}

/// Layers by name with their weights: in TOML a table, as a flag `relu1_2=1,relu2_2=0.5` (`=1` may be left out).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerWeights(pub BTreeMap<String, f64>);

impl LayerWeights {
    /// Every named layer with weight 1.
    pub fn even(names: &[&str]) -> Self {
        LayerWeights(names.iter().map(|name| ((*name).to_owned(), 1.0)).collect())
    }
}

impl FromStr for LayerWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut layers = BTreeMap::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let weight: f64 =
                weight.trim().parse().map_err(|_| format!("`{part}`: expected LAYER or LAYER=WEIGHT"))?;
            if layers.insert(name.trim().to_owned(), weight).is_some() {
                return Err(format!("layer `{}` is named twice", name.trim()));
            }
        }
        Ok(LayerWeights(layers))
    }
}

impl fmt::Display for LayerWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, weight)) in self.0.iter().enumerate() {
            write!(f, "{}{name}={weight}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_with_and_without_weights() {
        let layers: LayerWeights = "relu1_2, relu2_2=0.5".parse().unwrap();
        assert_eq!(layers.to_string(), "relu1_2=1,relu2_2=0.5");
        for bad in ["relu1_2=x", "relu1_2,relu1_2", "relu1_2="] {
            assert!(bad.parse::<LayerWeights>().is_err(), "{bad}");
        }
    }
}
