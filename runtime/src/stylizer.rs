//! The public door: open a style, paint frames.

use std::fmt;
use std::path::Path;
#[cfg(feature = "burn")]
use std::sync::{Mutex, PoisonError};

use impasto_checkpoints::{Device, Metadata, StyleModel, shipped};

use crate::ahead::Ahead;
use crate::engine::{Engine, PaintedMut, Precision, StageTime, Tile, default_threads};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::post::PostSteps;
use crate::progress::Progress;

/// How a [`Stylizer`] is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StylizerOptions {
    /// Where it paints.
    pub device: Device,
    /// Number type of the convolutions.
    pub precision: Precision,
    /// Threads of the CPU engine; `None`: one for each physical core.
    pub threads: Option<usize>,
    /// Where the CPU engine keeps a large picture's activations.
    pub tile: Tile,
}

/// A style, ready to paint. One may be shared by any number of threads: frames are painted one after the other,
/// each with all of the engine's threads. Buffers are kept from frame to frame.
pub struct Stylizer {
    metadata: Metadata,
    options: StylizerOptions,
    painter: Painter,
}

enum Painter {
    Engine(Box<Engine>),
    #[cfg(feature = "burn")]
    Burn(Mutex<Box<dyn impasto_burn::Painter>>),
}

impl fmt::Debug for Stylizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Stylizer");
        shown.field("style", &self.metadata.name).field("options", &self.options).finish_non_exhaustive()
    }
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
            Device::Cpu => {
                let engine = Engine::new(model, options.precision, threads)?;
                Painter::Engine(Box::new(engine.with_tile(options.tile)))
            }
            gpu => open_gpu(model, gpu, options.precision)?,
        };
        Ok(Stylizer { metadata: model.metadata().clone(), options, painter })
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
    /// [`RuntimeError::Device`] when a GPU gives up, [`RuntimeError::Scratch`] when a large picture's activations
    /// go to a file and that fails, [`RuntimeError::Memory`] for a picture too large for the portable path.
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
        self.stylize_with(frame, painted, &Progress::new())
    }

    /// As [`Stylizer::stylize_into`], for a large picture: tells how far it is, and can be stopped. After an error
    /// `painted` holds nothing in particular.
    ///
    /// # Errors
    /// As for [`Stylizer::stylize`], and [`RuntimeError::Stopped`] when `progress` stopped it.
    pub fn stylize_with(
        &self,
        frame: &Frame,
        painted: &mut Frame,
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        self.stylize_and(frame, painted, PostSteps::NONE, progress)
    }

    /// As [`Stylizer::stylize_with`], on a GPU with post-steps. The CPU engine leaves them to its caller.
    pub(crate) fn stylize_and(
        &self,
        frame: &Frame,
        painted: &mut Frame,
        post: PostSteps,
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        painted.reshape(frame.width(), frame.height());
        let (width, height) = (frame.width(), frame.height());
        match &self.painter {
            Painter::Engine(engine) => {
                debug_assert_eq!(post, PostSteps::NONE, "post-steps for the CPU engine");
                engine.run_with(frame.rgb(), width, height, PaintedMut::Bytes(painted.rgb_mut()), progress)
            }
            #[cfg(feature = "burn")]
            Painter::Burn(painter) => {
                let mut painter = painter.lock().unwrap_or_else(PoisonError::into_inner);
                painter
                    .paint_bytes(frame.rgb(), width, height, post.into(), painted.rgb_mut())
                    .map_err(|error| RuntimeError::Device(error.to_string()))?;
                progress.step(0, 1, 1);
                Ok(())
            }
        }
    }

    /// Paints a frame and gives the network's own values, neither rounded nor clamped.
    ///
    /// # Shapes
    /// `[height, width, 3]`, interleaved, in RGB 0..255.
    ///
    /// # Errors
    /// As for [`Stylizer::stylize`].
    pub fn stylize_to_f32(&self, frame: &Frame) -> Result<Vec<f32>, RuntimeError> {
        match &self.painter {
            Painter::Engine(engine) => {
                let mut values = vec![0.0; frame.rgb().len()];
                engine.run(frame.rgb(), frame.width(), frame.height(), PaintedMut::Values(&mut values))?;
                Ok(values)
            }
            #[cfg(feature = "burn")]
            Painter::Burn(painter) => {
                let mut painter = painter.lock().unwrap_or_else(PoisonError::into_inner);
                let mut values = vec![0.0; frame.rgb().len()];
                painter
                    .paint(frame.rgb(), frame.width(), frame.height(), &mut values)
                    .map_err(|error| RuntimeError::Device(error.to_string()))?;
                Ok(values)
            }
        }
    }

    /// A queue of frames that overlap on a GPU: one goes up or comes down while another is painted. `None` on the CPU,
    /// where a frame has all threads anyway.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the queue cannot be set up.
    pub fn ahead(&self) -> Result<Option<Ahead>, RuntimeError> {
        match &self.painter {
            Painter::Engine(_) => Ok(None),
            #[cfg(feature = "burn")]
            Painter::Burn(painter) => {
                let painter = painter.lock().unwrap_or_else(PoisonError::into_inner);
                let queue = painter.queue().map_err(|error| RuntimeError::Device(error.to_string()))?;
                Ok(Some(Ahead { queue }))
            }
        }
    }

    /// What does the arithmetic: the CPU engine's instruction set, or the kind of GPU.
    pub fn isa(&self) -> &'static str {
        match (&self.painter, self.options.device) {
            (Painter::Engine(engine), _) => engine.isa().name(),
            #[cfg(feature = "burn")]
            (Painter::Burn(_), Device::Cuda(_)) => "cuda",
            #[cfg(feature = "burn")]
            (Painter::Burn(_), _) => "wgpu",
        }
    }

    /// The precision in use, [`Precision::Auto`] resolved.
    pub fn precision(&self) -> Precision {
        match &self.painter {
            Painter::Engine(engine) => engine.precision(),
            #[cfg(feature = "burn")]
            Painter::Burn(_) if self.options.precision == Precision::Bf16 => Precision::Bf16,
            #[cfg(feature = "burn")]
            Painter::Burn(_) => Precision::F32,
        }
    }

    /// Where the last frame's time went, convolution by convolution; empty on the portable path and on GPUs.
    pub fn profile(&self) -> Vec<StageTime> {
        match &self.painter {
            Painter::Engine(engine) => engine.profile(),
            #[cfg(feature = "burn")]
            Painter::Burn(_) => Vec::new(),
        }
    }

    /// Threads that paint: 1 for a GPU.
    pub fn threads(&self) -> usize {
        match &self.painter {
            Painter::Engine(engine) => engine.threads(),
            #[cfg(feature = "burn")]
            Painter::Burn(_) => 1,
        }
    }
}

#[cfg(feature = "burn")]
fn open_gpu(model: &StyleModel, device: Device, precision: Precision) -> Result<Painter, RuntimeError> {
    let broken = |error: impasto_burn::BurnError| RuntimeError::Device(error.to_string());
    let precision = match precision {
        Precision::F32 | Precision::Auto => impasto_burn::Precision::F32,
        Precision::Bf16 => impasto_burn::Precision::Half,
    };
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
