//! The public door: open a style, paint frames.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use impasto_checkpoints::{Metadata, StyleModel, shipped};

use crate::device::Device;
use crate::engine::{Engine, Precision, Scratch, default_threads};
use crate::error::RuntimeError;
use crate::frame::Frame;

/// How a [`Stylizer`] is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StylizerOptions {
    /// Where it paints.
    pub device: Device,
    /// Number type of the convolutions.
    pub precision: Precision,
    /// Threads of the CPU engine; `None`: as many as the process may run at once.
    pub threads: Option<usize>,
}

/// A style, ready to paint. One may be shared by any number of threads; buffers are kept from frame to frame,
/// one set for each frame in flight.
pub struct Stylizer {
    metadata: Metadata,
    options: StylizerOptions,
    painter: Painter,
    idle: Mutex<Vec<Workspace>>,
}

enum Painter {
    Engine(Box<Engine>),
    #[cfg(feature = "burn")]
    Burn(Mutex<Box<dyn impasto_burn::Painter>>),
}

/// The buffers of one frame in flight.
#[derive(Default)]
struct Workspace {
    scratch: Scratch,
    painted: Vec<f32>,
}

impl Stylizer {
    /// Opens a style model file and paints on the CPU.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] names the file and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        Self::new(&StyleModel::load(path)?, StylizerOptions::default())
    }

    /// A style that ships with the project, by name.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] lists the names there are.
    pub fn shipped(name: &str) -> Result<Self, RuntimeError> {
        Self::new(&shipped::load(name)?, StylizerOptions::default())
    }

    /// Makes a loaded model ready to paint.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the device is not in this build or not on this machine.
    pub fn new(model: &StyleModel, options: StylizerOptions) -> Result<Self, RuntimeError> {
        let threads = options.threads.unwrap_or_else(default_threads);
        let painter = match options.device {
            Device::Cpu => Painter::Engine(Box::new(Engine::new(model, options.precision, threads)?)),
            gpu => open_gpu(model, gpu, options.precision)?,
        };
        Ok(Stylizer { metadata: model.metadata().clone(), options, painter, idle: Mutex::default() })
    }

    /// The model's papers: name, architecture, credits.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// How it was opened.
    pub fn options(&self) -> StylizerOptions {
        self.options
    }

    /// Paints a frame.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when a GPU gives up.
    pub fn stylize(&self, frame: &Frame) -> Result<Frame, RuntimeError> {
        let mut painted = Frame::black(frame.width(), frame.height());
        self.stylize_into(frame, &mut painted)?;
        Ok(painted)
    }

    /// Paints a frame into another, whose size is set and whose buffer is reused.
    ///
    /// # Errors
    /// As for [`Stylizer::stylize`].
    pub fn stylize_into(&self, frame: &Frame, painted: &mut Frame) -> Result<(), RuntimeError> {
        painted.reshape(frame.width(), frame.height());
        self.with_painted(frame, |values| {
            for (byte, &value) in painted.rgb_mut().iter_mut().zip(values) {
                *byte = (value + 0.5) as u8; // saturates at 0 and 255
            }
        })
    }

    /// Paints a frame and gives the network's own values, neither rounded nor clamped.
    ///
    /// # Shapes
    /// `[height, width, 3]`, interleaved, in RGB 0..255.
    ///
    /// # Errors
    /// As for [`Stylizer::stylize`].
    pub fn stylize_to_f32(&self, frame: &Frame) -> Result<Vec<f32>, RuntimeError> {
        let mut copy = Vec::new();
        self.with_painted(frame, |values| copy.extend_from_slice(values))?;
        Ok(copy)
    }

    fn with_painted(&self, frame: &Frame, take: impl FnOnce(&[f32])) -> Result<(), RuntimeError> {
        let mut workspace = lock(&self.idle).pop().unwrap_or_default();
        workspace.painted.resize(frame.rgb().len(), 0.0);
        let (width, height) = (frame.width(), frame.height());
        let done = match &self.painter {
            Painter::Engine(engine) => {
                engine.run(frame.rgb(), width, height, &mut workspace.scratch, &mut workspace.painted)
            }
            #[cfg(feature = "burn")]
            Painter::Burn(painter) => lock(painter)
                .paint(frame.rgb(), width, height, &mut workspace.painted)
                .map_err(|error| RuntimeError::Device(error.to_string())),
        };
        if done.is_ok() {
            take(&workspace.painted);
        }
        lock(&self.idle).push(workspace);
        done
    }
}

/// A panic elsewhere does not spoil buffers that are overwritten anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "burn")]
fn open_gpu(model: &StyleModel, device: Device, precision: Precision) -> Result<Painter, RuntimeError> {
    let broken = |error: impasto_burn::BurnError| RuntimeError::Device(error.to_string());
    let precision = match precision {
        Precision::F32 | Precision::Auto => impasto_burn::Precision::F32,
        Precision::Bf16 => impasto_burn::Precision::Half,
    };
    let device = device.to_string().parse().map_err(broken)?;
    let painter = impasto_burn::open_painter(model, device, precision).map_err(broken)?;
    Ok(Painter::Burn(Mutex::new(painter)))
}

#[cfg(not(feature = "burn"))]
fn open_gpu(_: &StyleModel, device: Device, _: Precision) -> Result<Painter, RuntimeError> {
    let kind = match device {
        Device::Cuda(_) => "cuda",
        Device::Cpu | Device::Wgpu(_) => "wgpu",
    };
    Err(RuntimeError::Device(format!(
        "--device {device}: this impasto was built without GPU support; hint: build with --features {kind}, or use --device cpu"
    )))
}
