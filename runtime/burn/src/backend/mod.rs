//! The concrete backends, each named once, and the kernels this crate brings for them.
//!
//! Code elsewhere is generic over `B: Backend` or calls this crate's non-generic functions: a backend's type is spelled
//! out nowhere else. Who paints compiles none of it anew; the trainer, whose loop is generic, instantiates it by these
//! aliases in one file (`trainer/src/backends.rs`).

#[cfg(feature = "flex")]
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) mod gpu;
mod product;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::ConvOptions;

pub use product::matmul;
pub(crate) use product::{lengthened, turned_matmul};

use crate::device::Device;
use crate::error::BurnError;
#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
use crate::painter::guarded;

/// The CPU: Burn's `flex`, in f32. Other float types of its tensors are chosen at run time (`Tensor::cast`).
#[cfg(feature = "flex")]
pub type Cpu = burn::backend::Flex;

/// An NVIDIA GPU through CUDA, in f32 (matrix products in TF32 where the card has it).
#[cfg(feature = "cuda")]
pub type Cuda = burn::backend::Cuda<f32, i32>;

/// Any GPU through Vulkan, Metal or DirectX, in f32.
#[cfg(feature = "wgpu")]
pub type Wgpu = burn::backend::Wgpu<f32, i32>;

/// The adapter that `wgpu:INDEX` names.
///
/// # Errors
/// [`BurnError::Unavailable`] when there are fewer.
#[cfg(feature = "wgpu")]
pub fn wgpu_adapter(index: usize) -> Result<burn::backend::wgpu::WgpuDevice, BurnError> {
    wgpu::find(index).map_err(|missing| missing.of(Device::Wgpu(index)))
}

/// Something to compute, gradients included, on whichever backend a device has.
pub(crate) trait Work {
    /// What comes of it.
    type Output;

    /// Computes it. Gradients are those of `Autodiff<B>`.
    fn run<B: Backend>(self, place: &B::Device) -> Result<Self::Output, BurnError>;
}

/// Does `work` on `device`: the one place where generic work meets the concrete backends.
///
/// # Errors
/// Those of [`check`](crate::device::check) and of the work; [`BurnError::Failed`] when something below panics.
pub(crate) fn run_on<W: Work>(device: Device, work: W) -> Result<W::Output, BurnError> {
    crate::device::check(device)?;
    match device {
        #[cfg(feature = "flex")]
        Device::Cpu => guarded(device, || work.run::<Cpu>(&Default::default()))?,
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            guarded(device, || work.run::<Cuda>(&burn::backend::cuda::CudaDevice::new(index)))?
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => {
            let adapter = wgpu_adapter(index)?;
            guarded(device, || work.run::<Wgpu>(&adapter))?
        }
        // Without the backend, `check` has returned its error.
        #[allow(unreachable_patterns)]
        _ => {
            let _ = work;
            Err(BurnError::Failed {
                device: device.to_string(),
                reason: "its backend is not built in".to_owned(),
            })
        }
    }
}

/// [`burn::tensor::module::conv2d`], on the CPU in f32 by this crate's kernels, which are several times as fast
/// and differentiable alike. Dilation, groups and kernels that are not square go to Burn.
///
/// # Shapes
/// - input: `[batch, in, height, width]`
/// - weight: `[out, in, kernel, kernel]`
/// - bias: `[out]`
/// - output: `[batch, out, (height + 2 · padding − kernel) / stride + 1, …]`
pub fn conv2d<B: Backend>(
    input: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    options: ConvOptions<2>,
) -> Tensor<B, 4> {
    conv2d_kept(input, weight, bias, options, &Kept::default())
}

/// What is kept of a kernel that never changes, from one [`conv2d_kept`] to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    #[cfg(feature = "flex")]
    transformed: std::sync::Arc<cpu::Transformed>,
}

/// [`conv2d`] with a kernel that never changes, and what is kept of it.
pub(crate) fn conv2d_kept<B: Backend>(
    input: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    options: ConvOptions<2>,
    kept: &Kept,
) -> Tensor<B, 4> {
    #[cfg(not(feature = "flex"))]
    let _ = kept;
    #[cfg(feature = "flex")]
    let (input, weight) = {
        let [filters, _, kernel, other] = weight.dims();
        let [stride, across] = options.stride;
        if kernel == other && stride == across && options.dilation == [1, 1] && options.groups == 1 {
            let geometry = |input: &Tensor<B, 4>| {
                let [_, _, height, width] = input.dims();
                let [rows, columns] = options.padding;
                cpu::Geometry {
                    rows: cpu::Axis::zeros(height, rows, rows),
                    columns: cpu::Axis::zeros(width, columns, columns),
                    kernel,
                    stride,
                }
            };
            let none = || Tensor::zeros([filters], (&input.device(), input.dtype()));
            let summand = bias.clone().unwrap_or_else(none);
            match cpu::convolution(input, weight, summand, kept.transformed.clone(), geometry) {
                Ok(output) => return output,
                Err((input, weight, _)) => (input, weight),
            }
        } else {
            (input, weight)
        }
    };
    if product::is_on_gpu(&input) && is_pointwise(&weight, &options) {
        return with_bias(product::pointwise(input, weight), bias);
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if is_square(&weight, &options)
        && let Some(output) = gpu::convolution(&input, &weight, [options.stride[0], options.padding[0]])
    {
        return with_bias(output, bias);
    }
    burn::tensor::module::conv2d(input, weight, bias, options)
}

/// Whether height and width are treated alike, and neighbours and channels are not left out.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn is_square<B: Backend>(weight: &Tensor<B, 4>, options: &ConvOptions<2>) -> bool {
    let [_, _, height, width] = weight.dims();
    let ([down, right], [above, left]) = (options.stride, options.padding);
    height == width && down == right && above == left && options.dilation == [1; 2] && options.groups == 1
}

fn with_bias<B: Backend>(output: Tensor<B, 4>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 4> {
    match bias {
        Some(bias) => output + bias.reshape([1, -1, 1, 1]),
        None => output,
    }
}

/// Whether each pixel of the output sees one of the input, its own.
fn is_pointwise<B: Backend>(weight: &Tensor<B, 4>, options: &ConvOptions<2>) -> bool {
    let [_, _, height, width] = weight.dims();
    [height, width] == [1, 1] && options.stride == [1, 1] && options.padding == [0, 0] && options.groups == 1
}
