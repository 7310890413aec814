//! The concrete backends, each named once, and the kernels this crate brings for the CPU.
//!
//! Code elsewhere is generic over `B: Backend` or calls this crate's non-generic functions: a backend is
//! spelled out nowhere else, so the many minutes that its kernels take to compile are spent once.

#[cfg(feature = "flex")]
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

/// The CPU: Burn's `flex`, in f32. Other float types of its tensors are chosen at run time (`Tensor::cast`).
#[cfg(feature = "flex")]
pub type Cpu = burn::backend::Flex;

/// An NVIDIA GPU through CUDA, in f32 (matrix products in TF32 where the card has it).
#[cfg(feature = "cuda")]
pub type Cuda = burn::backend::Cuda<f32, i32>;

/// Any GPU through Vulkan, Metal or DirectX, in f32.
#[cfg(feature = "wgpu")]
pub type Wgpu = burn::backend::Wgpu<f32, i32>;
