//! Painting through Burn without saying which backend: one object-safe trait, one function that opens it.

#![cfg_attr(
    not(any(feature = "flex", feature = "cuda", feature = "wgpu")),
    allow(dead_code, reason = "no backend is built in")
)]

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, PoisonError};

use burn::tensor::backend::Backend;
use burn::tensor::{DType, TensorData};
use impasto_checkpoints::{Architecture, StyleModel};

use crate::device::Device;
use crate::error::{BurnError, one_line};
use crate::net::{Operations, TransformNet};
use crate::post::PostSteps;
use crate::queue::{FrameQueue, PaintInPlace};
use crate::rgb8;

/// In what the convolutions compute. Statistics of norms, weights and the picture are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit float.
    #[default]
    F32,
    /// A 16-bit float where the device does it well: bf16 on CUDA, f16 through wgpu where the driver has it.
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

    /// Paints one picture and rounds it as the CPU engine does: `⌊value + ½⌋`, held in 0..255. Conversions, padding,
    /// network, rounding and post-steps are done on the device; a frame moves its bytes there and back, and no more.
    ///
    /// # Shapes
    /// - rgb, painted: `height · width · 3` bytes, rows from the top, red green blue
    ///
    /// # Errors
    /// As for [`Painter::paint`].
    fn paint_bytes(
        &mut self,
        rgb: &[u8],
        width: usize,
        height: usize,
        post: PostSteps,
        painted: &mut [u8],
    ) -> Result<(), BurnError>;

    /// A queue of frames that overlap on the device. It shares the weights and is otherwise on its own.
    ///
    /// # Errors
    /// [`BurnError::Failed`] when the system gives no thread.
    fn queue(&self) -> Result<FrameQueue, BurnError>;

    /// Where it paints.
    fn device(&self) -> Device;

    /// What it paints with.
    fn architecture(&self) -> &Architecture;
}

/// Puts a model on a device.
///
/// # Errors
/// Those of [`check`](crate::device::check); [`BurnError::Precision`] where the device does not paint in half
/// precision; [`BurnError::Failed`] when the device is there and does not start.
pub fn open_painter(
    model: &StyleModel,
    device: Device,
    precision: Precision,
) -> Result<Box<dyn Painter>, BurnError> {
    open_painter_with(model, device, precision, Operations::default())
}

/// [`open_painter`], with a say in how a GPU computes.
///
/// # Errors
/// Those of [`open_painter`].
pub fn open_painter_with(
    model: &StyleModel,
    device: Device,
    precision: Precision,
    operations: Operations,
) -> Result<Box<dyn Painter>, BurnError> {
    crate::device::check(device)?;
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
            NetPainter::<crate::backend::Cpu>::open(model, device, Default::default(), DType::F32, operations)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => crate::backend::cuda::open(model, index, precision, operations),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => crate::backend::wgpu::open(model, index, precision, operations),
        // Without the backend, `check` has returned its error.
        #[allow(unreachable_patterns)]
        _ => {
            let _ = (model, precision, operations);
            crate::device::check(device).and(Err(BurnError::Failed {
                device: device.to_string(),
                reason: "its backend is not built in".to_owned(),
            }))
        }
    }
}

/// A [`TransformNet`] on one backend.
#[derive(Clone)]
pub(crate) struct NetPainter<B: Backend> {
    network: TransformNet<B>,
    device: Device,
    place: B::Device,
    compute: DType,
}

impl<B: Backend> NetPainter<B>
where
    TransformNet<B>: Send,
{
    /// Puts the weights on the device and paints a pixel, so that what can fail does so here.
    pub(crate) fn open(
        model: &StyleModel,
        device: Device,
        place: B::Device,
        compute: DType,
        operations: Operations,
    ) -> Result<Box<dyn Painter>, BurnError> {
        let network = guarded(device, || {
            TransformNet::<B>::from_model(model, &place)
                .map(|network| network.with_operations(operations).with_kernels_in(compute))
        })??;
        let mut painter = Box::new(NetPainter { network, device, place, compute });
        painter.paint_bytes(&[0; 3], 1, 1, PostSteps::default(), &mut [0; 3])?;
        Ok(painter)
    }

    fn failed(&self, reason: &str) -> BurnError {
        BurnError::Failed { device: self.device.to_string(), reason: one_line(reason) }
    }

    /// The painting, rounded, for [`rgb8::unpack`]. The size has been checked.
    fn words(
        &self,
        rgb: &[u8],
        width: usize,
        height: usize,
        post: PostSteps,
    ) -> Result<TensorData, BurnError> {
        guarded(self.device, || {
            let picture = rgb8::upload::<B>(rgb, [1, height, width], &self.place);
            let painted = self.network.forward_in(picture.clone(), self.compute);
            let done = post.apply(painted, picture);
            rgb8::round(done).try_into_data().map_err(|error| error.to_string())
        })?
        .map_err(|reason| self.failed(&reason))
    }

    /// The bytes of those words, without another copy in between.
    fn unpack(&self, words: &TensorData, rgb: &mut [u8]) -> Result<(), BurnError> {
        let words = words.as_slice::<i32>().map_err(|error| self.failed(&format!("{error:?}")))?;
        rgb8::unpack(words, rgb);
        Ok(())
    }
}

/// Whether buffers have the length that a picture's size asks for; `false`: the picture is empty.
fn check_size(lengths: [usize; 2], width: usize, height: usize) -> Result<bool, BurnError> {
    let expected = width.saturating_mul(height).saturating_mul(3);
    for found in lengths {
        if found != expected {
            return Err(BurnError::BufferSize { found, expected, width, height });
        }
    }
    Ok(expected > 0)
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
        if !check_size([rgb.len(), painted.len()], width, height)? {
            return Ok(());
        }
        let values = guarded(self.device, || {
            let picture = rgb8::upload::<B>(rgb, [1, height, width], &self.place);
            let output = self.network.forward_in(picture, self.compute).permute([0, 2, 3, 1]);
            let data = output.try_into_data().map_err(|error| error.to_string())?;
            data.convert::<f32>().into_vec::<f32>().map_err(|error| format!("{error:?}"))
        })?
        .map_err(|reason| self.failed(&reason))?;
        painted.copy_from_slice(&values);
        Ok(())
    }

    fn paint_bytes(
        &mut self,
        rgb: &[u8],
        width: usize,
        height: usize,
        post: PostSteps,
        painted: &mut [u8],
    ) -> Result<(), BurnError> {
        if check_size([rgb.len(), painted.len()], width, height)? {
            self.unpack(&self.words(rgb, width, height, post)?, painted)?;
        }
        Ok(())
    }

    fn queue(&self) -> Result<FrameQueue, BurnError> {
        FrameQueue::new(self.device, || {
            let own = OnStream(self.clone());
            let paint: PaintInPlace = Box::new(move |rgb, width, height, post| {
                // The whole of it, not its one field, is what the closure owns.
                let OnStream(painter) = &own;
                let words = painter.words(rgb, width, height, post)?;
                painter.unpack(&words, rgb)
            });
            paint
        })
    }

    fn device(&self) -> Device {
        self.device
    }

    fn architecture(&self) -> &Architecture {
        self.network.architecture()
    }
}

/// A painter with a stream of its own: the memory that the device keeps for the stream goes with it.
struct OnStream<B: Backend>(NetPainter<B>);

impl<B: Backend> Drop for OnStream<B> {
    fn drop(&mut self) {
        let place = &self.0.place;
        // Where the device has failed there is nothing left to give back.
        let _ = guarded(self.0.device, || {
            let _ = B::sync(place);
            B::memory_cleanup(place);
        });
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
///
/// CubeCL works on a thread of its own. Where that one panics (a full card), ours only learns that the call failed: then
/// what it said is the reason.
pub(crate) fn quietly<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    let quiet = Quiet::begin();
    let caught = catch_unwind(AssertUnwindSafe(work));
    let elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(quiet);
    caught.map_err(|panic| {
        let said = message(&*panic);
        let said = if said.contains("CallError") { elsewhere.unwrap_or(said) } else { said };
        match crate::device::memory_asked_for(&said) {
            Some(megabytes) => format!("out of memory, {megabytes} MiB more were asked for"),
            None => said,
        }
    })
}

/// What another thread panicked about first, while it is quiet.
static ELSEWHERE: Mutex<Option<String>> = Mutex::new(None);

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send + 'static>;

/// The panic hook is one for the process: the first that wants quiet puts it away, the last puts it back, so that
/// frames may be painted side by side.
static QUIET: Mutex<(usize, Option<Hook>)> = Mutex::new((0, None));

struct Quiet;

impl Quiet {
    fn begin() -> Self {
        let mut state = QUIET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.0 == 0 {
            state.1 = Some(std::panic::take_hook());
            std::panic::set_hook(Box::new(|info| {
                let said = message(info.payload());
                if !said.contains("CallError") {
                    ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(said);
                }
            }));
        }
        state.0 += 1;
        Quiet
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let mut state = QUIET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.0 -= 1;
        if state.0 == 0
            && let Some(hook) = state.1.take()
        {
            std::panic::set_hook(hook);
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it stopped without a message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CubeCL's thread panics about is the reason, not that its caller got no answer; a panic of the caller's own is.
    #[test]
    fn the_reason_is_the_device_threads() {
        let device_thread = || {
            let first = std::thread::spawn(|| {
                panic!("an `Err` value: can't allocate buffer of size: 8388608\nNo backtrace")
            });
            // One after the other: the first is the one that counts.
            first.join().is_err() && std::thread::spawn(|| panic!("a consequence")).join().is_err()
        };
        let caught = quietly(|| {
            assert!(device_thread(), "it panicked");
            panic!("called `Result::unwrap()` on an `Err` value: CallError");
        });
        assert_eq!(caught, Err("out of memory, 8 MiB more were asked for".to_owned()));
        let caught = quietly(|| {
            assert!(device_thread(), "it panicked");
            panic!("a tensor of the wrong shape");
        });
        assert_eq!(caught, Err("a tensor of the wrong shape".to_owned()));
        assert_eq!(quietly(|| panic!("CallError")), Err::<(), _>("CallError".to_owned()));
    }
}
