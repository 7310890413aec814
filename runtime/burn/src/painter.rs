//! Painting through Burn without saying which backend: one object-safe trait, one function that opens it.

#![cfg_attr(
    not(any(feature = "flex", feature = "cuda", feature = "wgpu")),
    allow(dead_code, reason = "no backend is built in")
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use impasto_checkpoints::{Architecture, StyleModel};

use crate::device::Device;
use crate::error::{BurnError, one_line};
use crate::net::TransformNet;

/// In what the convolutions compute. Statistics of norms, weights and the picture are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit float.
    #[default]
    F32,
    /// A 16-bit float where the device does it well: bf16 on CUDA.
    Half,
}

/// A network ready to paint on some device.
pub trait Painter: Send {
    /// Paints one picture.
    ///
    /// # Shapes
    /// - rgb: `height · width · 3` bytes, rows from the top, red green blue
    /// - painted: the same in f32
    ///
    /// # Units
    /// `painted` is RGB 0..255, neither rounded nor clamped.
    ///
    /// # Errors
    /// [`BurnError::BufferSize`] when a buffer does not fit the size, [`BurnError::Failed`] when the device fails.
    fn paint(
        &mut self,
        rgb: &[u8],
        width: usize,
        height: usize,
        painted: &mut [f32],
    ) -> Result<(), BurnError>;

    /// Where it paints.
    fn device(&self) -> Device;

    /// What it paints with.
    fn architecture(&self) -> &Architecture;
}

/// Puts a model on a device.
///
/// # Errors
/// Those of [`Device::check`]; [`BurnError::Precision`] where the device does not paint in half precision;
/// [`BurnError::Failed`] when the device is there and does not start.
pub fn open_painter(
    model: &StyleModel,
    device: Device,
    precision: Precision,
) -> Result<Box<dyn Painter>, BurnError> {
    device.check()?;
    match device {
        #[cfg(feature = "flex")]
        Device::Cpu => {
            if precision == Precision::Half {
                return Err(BurnError::Precision {
                    device: device.to_string(),
                    precision: "half",
                    reason: "Burn's CPU backend only converts it to f32 and back",
                });
            }
            NetPainter::<crate::backend::Cpu>::open(model, device, Default::default(), DType::F32)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => crate::backend::cuda::open(model, index, precision),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => crate::backend::wgpu::open(model, index, precision),
        // Without the backend, `check` has returned its error.
        #[allow(unreachable_patterns)]
        _ => {
            let _ = (model, precision);
            device.check().and(Err(BurnError::Failed {
                device: device.to_string(),
                reason: "its backend is not built in".to_owned(),
            }))
        }
    }
}

/// A [`TransformNet`] on one backend.
pub(crate) struct NetPainter<B: Backend> {
    network: TransformNet<B>,
    device: Device,
    place: B::Device,
    compute: DType,
}

impl<B: Backend> NetPainter<B> {
    /// Puts the weights on the device and paints a pixel, so that what can fail does so here.
    pub(crate) fn open(
        model: &StyleModel,
        device: Device,
        place: B::Device,
        compute: DType,
    ) -> Result<Box<dyn Painter>, BurnError>
    where
        TransformNet<B>: Send,
    {
        let network = guarded(device, || TransformNet::<B>::from_model(model, &place))??;
        let mut painter = Box::new(NetPainter { network, device, place, compute });
        painter.paint(&[0; 3], 1, 1, &mut [0.0; 3])?;
        Ok(painter)
    }
}

impl<B: Backend> Painter for NetPainter<B>
where
    TransformNet<B>: Send,
{
    fn paint(
        &mut self,
        rgb: &[u8],
        width: usize,
        height: usize,
        painted: &mut [f32],
    ) -> Result<(), BurnError> {
        let expected = width.saturating_mul(height).saturating_mul(3);
        for found in [rgb.len(), painted.len()] {
            if found != expected {
                return Err(BurnError::BufferSize { found, expected, width, height });
            }
        }
        if expected == 0 {
            return Ok(());
        }
        let values = guarded(self.device, || {
            let picture: Vec<f32> = rgb.iter().map(|&value| f32::from(value)).collect();
            let picture = TensorData::new(picture, [1, height, width, 3]);
            let picture = Tensor::<B, 4>::from_data(picture, &self.place).permute([0, 3, 1, 2]);
            let output = self.network.forward_in(picture, self.compute).permute([0, 2, 3, 1]);
            let data = output.try_into_data().map_err(|error| error.to_string())?;
            data.convert::<f32>().into_vec::<f32>().map_err(|error| format!("{error:?}"))
        })?
        .map_err(|reason| BurnError::Failed { device: self.device.to_string(), reason: one_line(&reason) })?;
        painted.copy_from_slice(&values);
        Ok(())
    }

    fn device(&self) -> Device {
        self.device
    }

    fn architecture(&self) -> &Architecture {
        self.network.architecture()
    }
}

/// Runs something on a device; a panic below (out of memory, a lost device) becomes an error.
pub(crate) fn guarded<R>(device: Device, work: impl FnOnce() -> R) -> Result<R, BurnError> {
    let caught = match device {
        // Ours: a panic is a bug, and its message belongs on the screen.
        Device::Cpu => catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic)),
        Device::Cuda(_) | Device::Wgpu(_) => quietly(work),
    };
    caught.map_err(|reason| BurnError::Failed { device: device.to_string(), reason: one_line(&reason) })
}

/// Catches a panic, and keeps what other threads of a driver crate panic about off the screen meanwhile.
pub(crate) fn quietly<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    /// The panic hook is one for the process: whoever exchanges it waits for his turn.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    caught.map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it stopped without a message")
        .to_owned()
}
