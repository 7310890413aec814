//! Seeded random weights: "styles come through" networks that were never trained (He et al. 2016,
//! arXiv:1606.04801), so that every test and first try works offline.

use std::collections::BTreeMap;
use std::path::Path;

use impasto_checkpoints::random::uniform;

use super::LossWeights;
use crate::error::BurnError;
use crate::loss_network::kind::{InputConvention, LossNetworkChoice, LossNetworkKind};
use crate::loss_network::plan::{self, Step};

impl LossWeights {
    /// Seeded random weights, called `random-vgg16` and so on: kernels uniform in ±√(6 / fan_in) (He et al.
    /// 2015, which keeps the features' size through the ReLUs), biases 0, input normalized as ImageNet's.
    ///
    /// Each kernel is `bound · uniform(seed, "conv1_1.weight")` of [`impasto_checkpoints::random::uniform`]: the
    /// same everywhere, also in the Python scripts beside the golden files.
    pub fn random(kind: LossNetworkKind, seed: u64) -> Self {
        let mut tensors = BTreeMap::new();
        for spec in plan::steps(kind).iter().flat_map(Step::convs) {
            let bound = (6.0 / spec.fan_in() as f32).sqrt();
            let count = spec.shape().iter().product();
            let values = uniform(seed, &spec.weight(), count).map(|value| bound * value).collect();
            tensors.insert(spec.weight(), (spec.shape().to_vec(), values));
            tensors.insert(spec.bias(), (vec![spec.output], vec![0.0; spec.output]));
        }
        LossWeights {
            kind,
            convention: InputConvention::ImagenetNormalized,
            tensors,
            origin: format!("random-{kind} (seed {seed})"),
            sha256: None,
        }
    }

    /// The weights of a choice such as `random-vgg16`, always of seed 0: the loss network is part of the question, not
    /// of the run. `None` for a trained network, whose weights are to be found.
    ///
    /// # Errors
    /// [`BurnError::LossWeights`] when a `file` (`--loss-weights`) is given for random weights.
    pub fn if_random(choice: LossNetworkChoice, file: Option<&Path>) -> Result<Option<Self>, BurnError> {
        match file {
            _ if !choice.random => Ok(None),
            None => Ok(Some(Self::random(choice.kind, 0))),
            Some(file) => Err(BurnError::loss_weights(
                file.display().to_string(),
                format!(
                    "{choice} has seeded random weights, expected no file; hint: --loss-net {}",
                    choice.kind
                ),
            )),
        }
    }
}
