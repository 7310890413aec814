//! The output gain: a network that is easier to train, and the same network as the file has it.
//!
//! The PyTorch example's network has no scale after its last convolution, and starts with outputs near 0 where
//! pictures have 0..255; Adam moves each weight by about the learning rate a step, so the first hundreds of steps
//! only find the brightness. Trained as `gain · x + 127.5` it starts mid-grey with contrasts in reach. Afterwards
//! gain and offset go into the last convolution, and the file holds the plain architecture.

use impasto_checkpoints::{Architecture, Block, CheckpointError, Output, StyleModel};

/// Mid-grey, in RGB 0..255.
const CENTRE: f32 = 127.5;

/// The network as it is trained: of Johnson et al. 2016, with the gain as its output's scale.
///
/// # Errors
/// As [`Architecture::johnson`].
pub fn trained_architecture(width: usize, gain: f64) -> Result<Architecture, CheckpointError> {
    let mut architecture = Architecture::johnson(width)?;
    if gain != 1.0 {
        architecture.output.scale = gain as f32;
        architecture.output.offset = CENTRE;
    }
    Ok(architecture)
}

/// The same network with scale 1 and offset 0: `w' = scale · w`, `b' = scale · b + offset` in the last
/// convolution. A norm or a tanh behind it does not commute with that; such a model is returned as it is.
///
/// # Errors
/// [`CheckpointError::Tensor`] when a weight becomes too large for a float.
pub fn folded(model: &StyleModel) -> Result<StyleModel, CheckpointError> {
    let output = model.architecture().output;
    let plain = Output { scale: 1.0, offset: 0.0, ..output };
    let last = match model.architecture().blocks().pop() {
        Some(Block::Conv { conv, norm: None, .. }) => conv.name,
        _ => return Ok(model.clone()),
    };
    if output == plain || output.activation != impasto_checkpoints::Activation::Linear {
        return Ok(model.clone());
    }
    let mut metadata = model.metadata().clone();
    metadata.architecture.output = plain;
    let mut tensors = model.tensors().clone();
    for (part, offset) in [("weight", 0.0), ("bias", output.offset)] {
        if let Some(tensor) = tensors.get_mut(&format!("{last}.{part}")) {
            tensor.values.iter_mut().for_each(|value| *value = *value * output.scale + offset);
        }
    }
    StyleModel::new(metadata, tensors)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Distribution, Tensor};
    use impasto_burn::TransformNet;

    use super::*;

    #[test]
    fn the_folded_network_paints_the_same() {
        let model = StyleModel::random(trained_architecture(4, 64.0).unwrap(), 1).unwrap();
        let plain = folded(&model).unwrap();
        assert_eq!(plain.architecture(), &Architecture::johnson(4).unwrap());
        let device = Default::default();
        let photo = Tensor::<Flex, 4>::random([1, 3, 24, 24], Distribution::Uniform(0.0, 255.0), &device);
        let paint = |model| TransformNet::<Flex>::from_model(model, &device).unwrap().forward(photo.clone());
        let difference = (paint(&model) - paint(&plain)).abs().max().into_scalar();
        assert!(difference < 0.01, "{difference}");
    }

    #[test]
    fn without_a_gain_nothing_changes() {
        let model = StyleModel::random(trained_architecture(4, 1.0).unwrap(), 1).unwrap();
        assert_eq!(folded(&model).unwrap(), model);
    }
}
