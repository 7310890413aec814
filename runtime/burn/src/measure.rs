//! What a comparison of speeds needs from Burn: training steps of a known kind, and a painting operation by operation.
//!
//! The steps are those of `impasto-train` without its extras (no stability term, no clipping, no balancing): network,
//! loss network, losses, gradients, Adam, on f32 weights. `benches/gpu` has PyTorch do the same ones.

use burn::backend::Autodiff;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, AdamConfig, GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, FloatDType, Tensor};
use impasto_checkpoints::StyleModel;

use crate::backend::{Work, run_on};
use crate::device::Device;
use crate::error::{BurnError, one_line};
use crate::loss::{PerceptualConfig, PerceptualLoss, StylePicture};
use crate::loss_network::{LossNetwork, LossWeights};
use crate::net::{Operation, Operations, TransformNet, Watch, finish};
use crate::painter::{Precision, guarded};
use crate::rgb8;

/// Training steps of one kind.
pub struct StepJob<'a> {
    /// Where they run.
    pub device: Device,
    /// Number type of the convolutions of both networks; weights, norms and losses are f32.
    pub precision: Precision,
    /// How a GPU computes the network.
    pub operations: Operations,
    /// Where the network starts.
    pub model: &'a StyleModel,
    /// The loss network.
    pub loss_weights: &'a LossWeights,
    /// What is asked of painted photos.
    pub loss: &'a PerceptualConfig,
    /// The style picture, `side · side · 3` bytes.
    pub style: &'a [u8],
    /// Width and height of the style picture and of the photos.
    pub side: usize,
    /// Photos a step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
}

/// A training that is set up and stands still.
pub trait Steps {
    /// Takes one step. The device may still be at work on it when this returns.
    ///
    /// # Shapes
    /// - photos: `batch · side · side · 3` bytes
    ///
    /// # Errors
    /// [`BurnError::BufferSize`], or [`BurnError::Failed`] when the device fails.
    fn step(&mut self, photos: &[u8]) -> Result<(), BurnError>;

    /// Waits for the steps taken, and gives the total loss before the last of them.
    ///
    /// # Errors
    /// [`BurnError::Failed`] when the device fails, or no step was taken.
    fn finish(&mut self) -> Result<f32, BurnError>;
}

/// Sets up a training.
///
/// # Errors
/// Those of [`check`](crate::device::check); [`BurnError::Precision`] for half precision on the CPU or through
/// wgpu (training in half precision means bf16, which is CUDA's); those of [`PerceptualLoss::new`].
pub fn steps(job: StepJob<'_>) -> Result<Box<dyn Steps>, BurnError> {
    let device = job.device;
    if job.precision == Precision::Half && !matches!(device, Device::Cuda(_)) {
        return Err(BurnError::Precision {
            device: device.to_string(),
            precision: "half",
            reason: "training needs bf16, which only CUDA has here",
        });
    }
    run_on(device, job)
}

impl Work for StepJob<'_> {
    type Output = Box<dyn Steps>;

    fn run<B: Backend>(self, place: &B::Device) -> Result<Box<dyn Steps>, BurnError> {
        let (dtype, compute) = match self.precision {
            Precision::F32 => (FloatDType::F32, DType::F32),
            Precision::Half => (FloatDType::BF16, DType::BF16),
        };
        let network = LossNetwork::with_dtype(self.loss_weights, dtype, place)?;
        let rgb255 = rgb8::upload::<B>(self.style, [1, self.side, self.side], place);
        let style = StylePicture { rgb255, weight: 1.0 };
        let loss = PerceptualLoss::<B>::new(network, self.loss, &[style])?;
        // PyTorch's ε; Burn's own default is 1e-5.
        let adam = AdamConfig::new().with_epsilon(1e-8).init();
        Ok(Box::new(StepsOn::<B> {
            net: TransformNet::from_model(self.model, place)?.with_operations(self.operations),
            loss,
            adam,
            device: self.device,
            place: place.clone(),
            compute,
            shape: [self.batch, self.side, self.side],
            learning_rate: self.learning_rate,
            last: None,
        }))
    }
}

struct StepsOn<B: Backend> {
    net: TransformNet<Autodiff<B>>,
    loss: PerceptualLoss<B>,
    adam: OptimizerAdaptor<Adam, TransformNet<Autodiff<B>>, Autodiff<B>>,
    device: Device,
    place: B::Device,
    compute: DType,
    shape: [usize; 3],
    learning_rate: f64,
    last: Option<Tensor<B, 1>>,
}

impl<B: Backend> StepsOn<B> {
    fn take(&mut self, photos: &[u8]) -> Result<(), BurnError> {
        let photos = rgb8::upload::<B>(photos, self.shape, &self.place);
        let target = self.loss.content_target(photos.clone())?;
        let painted = self.net.forward_in(Tensor::from_inner(photos), self.compute);
        let (total, losses) = self.loss.forward::<Autodiff<B>>(painted, &target)?;
        let gradients = GradientsParams::from_grads(total.backward(), &self.net);
        self.net = self.adam.step(self.learning_rate, self.net.clone(), gradients);
        self.last = Some(losses.total);
        Ok(())
    }
}

impl<B: Backend> Steps for StepsOn<B> {
    fn step(&mut self, photos: &[u8]) -> Result<(), BurnError> {
        let [batch, height, width] = self.shape;
        let expected = batch * height * width * 3;
        if photos.len() != expected {
            return Err(BurnError::BufferSize { found: photos.len(), expected, width, height });
        }
        guarded(self.device, || self.take(photos))?
    }

    fn finish(&mut self) -> Result<f32, BurnError> {
        let failed =
            |reason: String| BurnError::Failed { device: self.device.to_string(), reason: one_line(&reason) };
        let Some(last) = self.last.clone() else { return Err(failed("no step was taken".to_owned())) };
        guarded(self.device, || {
            finish::<B>(&self.place)?;
            let data = last.try_into_data().map_err(|error| failed(error.to_string()))?;
            Ok(data.iter::<f32>().next().unwrap_or(f32::NAN))
        })?
    }
}

/// Paints a picture operation by operation, the device made to finish after each: what the time goes to, and not how
/// long a painting takes (operations that follow each other are fused and overlap there).
/// The first round of a size also compiles and tunes kernels.
///
/// # Errors
/// Those of [`open_painter`](crate::open_painter).
pub fn profile(
    model: &StyleModel,
    device: Device,
    precision: Precision,
    operations: Operations,
    (rgb, width, height): (&[u8], usize, usize),
) -> Result<Vec<Operation>, BurnError> {
    let expected = width.saturating_mul(height).saturating_mul(3);
    if rgb.len() != expected || expected == 0 {
        return Err(BurnError::BufferSize { found: rgb.len(), expected, width, height });
    }
    let compute = match (precision, device) {
        (Precision::F32, _) => DType::F32,
        (Precision::Half, Device::Wgpu(_)) => DType::F16,
        (Precision::Half, _) => DType::BF16,
    };
    run_on(device, Profile { model, rgb, width, height, compute, operations })
}

struct Profile<'a> {
    model: &'a StyleModel,
    rgb: &'a [u8],
    width: usize,
    height: usize,
    compute: DType,
    operations: Operations,
}

impl Work for Profile<'_> {
    type Output = Vec<Operation>;

    fn run<B: Backend>(self, place: &B::Device) -> Result<Vec<Operation>, BurnError> {
        let network = TransformNet::<B>::from_model(self.model, place)?
            .with_operations(self.operations)
            .with_kernels_in(self.compute);
        let mut watch = Watch::<B>::start(place)?;
        let picture = rgb8::upload::<B>(self.rgb, [1, self.height, self.width], place);
        watch.lap("upload")?;
        let painted = network.forward_watched(picture, self.compute, &mut watch)?;
        let words = rgb8::round(painted).into_data();
        watch.lap("round and download")?;
        drop(words);
        Ok(watch.into_operations())
    }
}
