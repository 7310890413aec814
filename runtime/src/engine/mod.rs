//! The CPU engine: runs a transform network on one frame.
//!
//! - `plain`: safe Rust, pass by pass; the reference for the rest, and what runs where there is nothing better
//! - `fast`: the same network by rows, with kernels for NEON, AVX2, AVX-512 and bf16
//! - `lower`: every kind of convolution as plain ones, for both
//! - `isa`: which instruction set is used; `cpu`: the processor's name
//! - `tile`: how large pictures are cut, and where their activations are kept
//! - `threads`: how many threads unless told
//! - `output`: from the last layer's values to bytes
//!
//! Results do not depend on the number of threads, and are the same from run to run on the same instruction set.

mod cpu;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod fast;
mod isa;
mod lower;
mod output;
mod plain;
mod threads;
mod tile;

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use impasto_checkpoints::StyleModel;

use crate::error::RuntimeError;
use crate::progress::Progress;
pub use cpu::cpu_name;
pub use isa::{ISA_VARIABLE, Isa};
pub use threads::{default_threads, physical_cores};
pub use tile::Tile;

/// PSNR in dB of bf16 against f32 from which on the difference is not seen.
pub const INVISIBLE_PSNR: f64 = 40.0;

/// Number type of the convolutions' inputs and weights. Sums, norms and outputs are f32 in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16 inputs and weights, and planes kept in bf16. Where the processor has no bf16 arithmetic the CPU
    /// engine rounds at the same points, in f32.
    Bf16,
    /// The fastest that loses nothing visible: bf16 where the hardware has it and the model's measured
    /// `bf16_psnr` is at least [`INVISIBLE_PSNR`], else f32.
    #[default]
    Auto,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Auto => "auto",
        })
    }
}

impl FromStr for Precision {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "auto" => Ok(Precision::Auto),
            _ => Err(RuntimeError::Device(format!(
                "`{}` is no precision; expected f32, bf16 or auto",
                text.escape_debug()
            ))),
        }
    }
}

/// Where a painted frame goes: `[height, width, 3]` in RGB 0..255.
pub enum PaintedMut<'a> {
    /// Rounded to bytes.
    Bytes(&'a mut [u8]),
    /// The network's own values, neither rounded nor clamped.
    Values(&'a mut [f32]),
}

impl PaintedMut<'_> {
    fn len(&self) -> usize {
        match self {
            PaintedMut::Bytes(bytes) => bytes.len(),
            PaintedMut::Values(values) => values.len(),
        }
    }
}

/// A style model made ready to run on the CPU. Any number of threads may share one: frames are painted one after
/// the other, each by all of the engine's threads.
pub struct Engine {
    path: Path,
    isa: Isa,
    precision: Precision,
    threads: usize,
}

/// What one convolution of a frame took, with everything that is done on the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTime {
    /// The convolution, as its tensors are named.
    pub name: String,
    /// How it was computed.
    pub kernel: &'static str,
    /// Its time.
    pub milliseconds: f64,
    /// Its products as the network defines them (Winograd computes fewer).
    pub multiply_adds: f64,
    /// Bytes of the planes it read and wrote.
    pub bytes: f64,
}

enum Path {
    Plain(Box<PlainPath>),
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Fast(Box<fast::FastEngine>),
}

struct PlainPath {
    engine: plain::PlainEngine,
    buffers: Mutex<PlainBuffers>,
}

/// The plain path's buffers, kept from frame to frame.
#[derive(Default)]
struct PlainBuffers {
    scratch: plain::Scratch,
    painted: Vec<f32>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Engine");
        shown.field("isa", &self.isa).field("precision", &self.precision).field("threads", &self.threads);
        shown.finish_non_exhaustive()
    }
}

impl Engine {
    /// Packs a model's weights for the processor's best instruction set, or the one that [`ISA_VARIABLE`] asks for.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the variable asks for what this machine lacks.
    pub fn new(model: &StyleModel, precision: Precision, threads: usize) -> Result<Self, RuntimeError> {
        Self::with_isa(model, precision, threads, Isa::from_environment()?)
    }

    /// As [`Engine::new`], for a given instruction set.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when this machine lacks it.
    pub fn with_isa(
        model: &StyleModel,
        precision: Precision,
        threads: usize,
        isa: Isa,
    ) -> Result<Self, RuntimeError> {
        if !isa.is_available() {
            return Err(RuntimeError::Device(format!(
                "{isa}: this processor lacks it; hint: the best here is {}",
                Isa::best()
            )));
        }
        let invisible = model.metadata().bf16_psnr.is_some_and(|psnr| psnr >= INVISIBLE_PSNR);
        let bf16 = match precision {
            Precision::F32 => false,
            Precision::Bf16 => true,
            Precision::Auto => isa.gains_from_bf16() && invisible,
        };
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if let Some(engine) = fast::FastEngine::new(model, isa, bf16, threads)? {
            let threads = engine.threads();
            return Ok(Engine { path: Path::Fast(Box::new(engine)), isa, precision, threads });
        }
        let engine = plain::PlainEngine::new(model, bf16, threads)?;
        let path = Path::Plain(Box::new(PlainPath { engine, buffers: Mutex::default() }));
        Ok(Engine { path, isa, precision, threads })
    }

    /// Sets how frames are cut and where their activations are kept.
    #[must_use]
    pub fn with_tile(mut self, tile: Tile) -> Self {
        match &mut self.path {
            Path::Plain(plain) => plain.engine.set_tile(tile),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Path::Fast(engine) => engine.set_tile(tile),
        }
        self
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The precision in use: f32 or bf16.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The threads in use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Where the last frame's time went, convolution by convolution; empty on the portable path.
    pub fn profile(&self) -> Vec<StageTime> {
        match &self.path {
            Path::Plain(..) => Vec::new(),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Path::Fast(engine) => engine.profile(),
        }
    }

    /// Paints one frame.
    ///
    /// # Shapes
    /// `rgb` and `painted`: `[height, width, 3]`
    ///
    /// # Errors
    /// [`RuntimeError::FrameSize`] when a side is 0 or a slice is not `height · width · 3` long,
    /// [`RuntimeError::Scratch`] when a large frame's activations go to a file and that fails,
    /// [`RuntimeError::Memory`] for a frame too large for the portable path.
    pub fn run(
        &self,
        rgb: &[u8],
        width: usize,
        height: usize,
        painted: PaintedMut<'_>,
    ) -> Result<(), RuntimeError> {
        self.run_with(rgb, width, height, painted, &Progress::new())
    }

    /// As [`Engine::run`], telling how far it is. After an error `painted` holds nothing in particular.
    ///
    /// # Errors
    /// As [`Engine::run`], and [`RuntimeError::Stopped`] when `progress` stopped it.
    pub fn run_with(
        &self,
        rgb: &[u8],
        width: usize,
        height: usize,
        painted: PaintedMut<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        let size = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        for bytes in [rgb.len(), painted.len()] {
            if width == 0 || height == 0 || size != Some(bytes) {
                return Err(RuntimeError::FrameSize { width, height, bytes });
            }
        }
        match &self.path {
            Path::Plain(plain) => {
                let PlainPath { engine, buffers } = &**plain;
                // A panic elsewhere does not spoil buffers that are overwritten anyway.
                let mut buffers = buffers.lock().unwrap_or_else(PoisonError::into_inner);
                let PlainBuffers { scratch, painted: values } = &mut *buffers;
                engine.check_size(width, height)?;
                match painted {
                    PaintedMut::Values(painted) => engine.run(rgb, width, height, scratch, painted, progress),
                    PaintedMut::Bytes(painted) => {
                        values.resize(painted.len(), 0.0);
                        engine.run(rgb, width, height, scratch, values, progress)?;
                        output::bytes(values, painted);
                        Ok(())
                    }
                }
            }
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Path::Fast(engine) => engine.run(rgb, width, height, painted, progress),
        }
    }
}

/// Rounds to the nearest bfloat16, ties to even, as the hardware's conversions do. For finite values.
#[inline]
fn round_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}
