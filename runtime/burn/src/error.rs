//! The one error type of this crate: each message says what failed and what was expected, in one line.

use impasto_checkpoints::CheckpointError;

/// Why something on Burn could not be set up or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BurnError {
    /// This program was built without the backend for the device.
    #[error(
        "device {device}: this impasto was built without {name}; hint: cargo install --path runtime --features {feature} (impasto-train: --path trainer)"
    )]
    NotBuilt {
        /// The device asked for.
        device: String,
        /// The backend's name for people, `CUDA`.
        name: &'static str,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// The device is not there, or its driver is not.
    #[error("device {device}: {reason}; hint: {hint}")]
    Unavailable {
        /// The device asked for.
        device: String,
        /// What was looked for and not found.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The device cannot compute in this precision.
    #[error("device {device} does not paint in {precision} precision: {reason}; hint: --precision f32")]
    Precision {
        /// The device asked for.
        device: String,
        /// The precision asked for.
        precision: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// The computation on the device failed: out of memory, a lost device.
    #[error("device {device}: {reason}; hint: a smaller picture needs less memory (--size)")]
    Failed {
        /// The device.
        device: String,
        /// What the backend said.
        reason: String,
    },
    /// A picture's buffer does not have the size that its width and height ask for.
    #[error("a buffer of {found} values for a picture of {width} x {height}, expected {expected}")]
    BufferSize {
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
        /// The picture's width.
        width: usize,
        /// The picture's height.
        height: usize,
    },
    /// No loss network has this name.
    #[error("`{name}` is not a loss network; hint: vgg16, vgg19, squeezenet, or one of them as random-vgg16")]
    UnknownLossNetwork {
        /// The name asked for.
        name: String,
    },
    /// The loss network has no layer of this name.
    #[error("{network} has no layer `{layer}`; hint: its layers are {known}")]
    UnknownLayer {
        /// The layer asked for.
        layer: String,
        /// The loss network.
        network: &'static str,
        /// The names there are.
        known: String,
    },
    /// The loss network has the layer, but the file of its weights ends before it.
    #[error(
        "{origin}: the weights end at {deepest}, layer {layer} was asked for; hint: a layer up to {deepest}, or a file of the whole network"
    )]
    LayerNotInWeights {
        /// The layer asked for.
        layer: String,
        /// Where the weights come from.
        origin: String,
        /// The deepest layer they reach.
        deepest: String,
    },
    /// A picture is so small that nothing of it reaches the layer.
    #[error(
        "a picture of {width} x {height} is too small for layer {layer} of {network}, expected at least {smallest} x {smallest}; hint: a larger picture or a shallower layer"
    )]
    PictureTooSmall {
        /// The picture's width.
        width: usize,
        /// The picture's height.
        height: usize,
        /// The smallest width and height.
        smallest: usize,
        /// The loss network.
        network: &'static str,
        /// The deepest layer asked for.
        layer: String,
    },
    /// A batch of pictures does not have three channels.
    #[error("pictures with {found} channels, expected 3 (RGB)")]
    Channels {
        /// Channels found.
        found: usize,
    },
    /// A perceptual loss is put together in a way that cannot work.
    #[error("perceptual loss: {reason}")]
    PerceptualLoss {
        /// What was found and what was expected.
        reason: String,
    },
    /// An iterated picture's losses are not finite any more.
    #[error("step {step}: {terms}, expected finite losses; hint: {hint}")]
    NotFinite {
        /// Which evaluation, from 1.
        step: usize,
        /// The losses that are not finite.
        terms: String,
        /// What to do about it.
        hint: String,
    },
    /// A picture cannot be iterated like this.
    #[error("{reason}")]
    Iteration {
        /// What was found and what was expected.
        reason: String,
    },
    /// Loss-network weights could not be read, or are not what they should be.
    #[error("{origin}: {reason}")]
    LossWeights {
        /// The file or address.
        origin: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The user has no cache folder.
    #[error("no cache folder for loss networks: {reason}; hint: give a file with --loss-weights FILE")]
    NoCacheFolder {
        /// What the system said.
        reason: String,
    },
    /// There are no weights for the loss network, and no way to get them.
    #[error(
        "no weights for {network}: {reason}; hint: give a file with --loss-weights FILE, or put one ({network}*.safetensors or {network}*.pth) into {folder}, or use --loss-net random-{network}"
    )]
    NoLossWeights {
        /// The loss network.
        network: &'static str,
        /// Why they could not be downloaded.
        reason: String,
        /// The cache folder.
        folder: String,
    },
    /// The weights are not a valid style model, or the text not the name of a device.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl BurnError {
    pub(crate) fn loss_weights(origin: impl Into<String>, reason: impl Into<String>) -> Self {
        BurnError::LossWeights { origin: origin.into(), reason: reason.into() }
    }
}

/// Foreign messages may break lines; ours are one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
