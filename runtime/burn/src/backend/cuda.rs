//! CUDA: is it there, and opening it. The driver is asked directly, because the crates below panic when it,
//! the run-time compiler or the headers that compiler reads are missing.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};

use burn::backend::cuda::CudaDevice;
use burn::tensor::DType;
use impasto_checkpoints::StyleModel;
use libloading::Library;

use crate::device::{Device, Missing};
use crate::error::BurnError;
use crate::net::Operations;
use crate::painter::{NetPainter, Painter, Precision};

const DRIVER_HINT: &str = "install NVIDIA's driver, or take --device cpu";
const OTHER_HINT: &str = "take one that is there";
const TOOLKIT_HINT: &str =
    "install the CUDA toolkit (its NVRTC library and headers) and set CUDA_PATH to it, or take --device cpu";
/// By the loader alone: a library that was loaded from its folder before does not find what it needs itself.
const LIBRARY_HINT: &str = if cfg!(windows) {
    "install the CUDA toolkit and put its folder bin in PATH, or take --device cpu"
} else {
    "install the CUDA toolkit and put its folder lib64 in LD_LIBRARY_PATH, or take --device cpu"
};

/// Whether CUDA device `index` can be used: driver, card, run-time compiler and its headers.
pub(crate) fn check(index: usize) -> Result<(), Missing> {
    let names = names()?;
    if index >= names.len() {
        return Err(match names.len() {
            0 => Missing::new("the driver finds no card", DRIVER_HINT),
            1 => Missing::new("there is one card, cuda:0", OTHER_HINT),
            count => {
                Missing::new(format!("there are {count} cards, cuda:0 to cuda:{}", count - 1), OTHER_HINT)
            }
        });
    }
    check_compiler()?;
    crate::cache::keep_tuning();
    Ok(())
}

/// Names of the cards.
pub(crate) fn names() -> Result<Vec<String>, Missing> {
    const CANDIDATES: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };
    let driver = load(CANDIDATES)
        .ok_or_else(|| Missing::new(format!("cannot load the driver ({})", CANDIDATES[0]), DRIVER_HINT))?;
    let failed = |call: &str, code: c_int| {
        Missing::new(format!("the driver answers {call} with error {code}"), DRIVER_HINT)
    };
    let lacks = |error: libloading::Error| {
        Missing::new(
            format!("the driver lacks a function: {}", crate::error::one_line(&error.to_string())),
            DRIVER_HINT,
        )
    };
    type Init = unsafe extern "system" fn(c_uint) -> c_int;
    type Count = unsafe extern "system" fn(*mut c_int) -> c_int;
    type Name = unsafe extern "system" fn(*mut c_char, c_int, c_int) -> c_int;
    // SAFETY: the types are those of the driver's C header (CUresult is an int, CUdevice an int), unchanged since
    // CUDA 2. `driver` outlives the symbols, which borrow from it.
    let (init, count, name) = unsafe {
        (
            driver.get::<Init>(b"cuInit\0").map_err(lacks)?,
            driver.get::<Count>(b"cuDeviceGetCount\0").map_err(lacks)?,
            driver.get::<Name>(b"cuDeviceGetName\0").map_err(lacks)?,
        )
    };
    // SAFETY: 0 is the one value `cuInit` takes.
    match unsafe { init(0) } {
        0 => {}
        100 => return Ok(Vec::new()), // CUDA_ERROR_NO_DEVICE
        code => return Err(failed("cuInit", code)),
    }
    let mut cards = 0;
    // SAFETY: the pointer is to a live int.
    match unsafe { count(&mut cards) } {
        0 => {}
        code => return Err(failed("cuDeviceGetCount", code)),
    }
    let names = (0..cards).map(|card| {
        let mut text = [0; 256];
        // SAFETY: the length given is one less than the buffer's, so the last byte stays zero whatever the driver
        // writes. A device handle is its index in the driver's API (`cuDeviceGet` returns it).
        let code = unsafe { name(text.as_mut_ptr(), text.len() as c_int - 1, card) };
        if code != 0 {
            return format!("NVIDIA card {card}");
        }
        // SAFETY: the buffer ends with a zero, see above.
        unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()
    });
    Ok(names.collect())
}

/// Burn compiles its kernels at run time: NVRTC and the headers must be there.
fn check_compiler() -> Result<(), Missing> {
    const CANDIDATES: &[&str] = if cfg!(windows) {
        &[
            "nvrtc.dll",
            "nvrtc64.dll",
            "nvrtc64_130_0.dll",
            "nvrtc64_120_0.dll",
            "nvrtc64_12.dll",
            "nvrtc64_11.dll",
        ]
    } else {
        &["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11"]
    };
    if load(CANDIDATES).is_none() {
        return Err(Missing::new(
            format!("cannot load CUDA's run-time compiler ({})", CANDIDATES[0]),
            LIBRARY_HINT,
        ));
    }
    // The places where the kernels' compiler looks.
    let root = match std::env::var_os("CUDA_PATH") {
        Some(path) => Some(PathBuf::from(path)),
        None if cfg!(windows) => Some(PathBuf::from("C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/")),
        None if Path::new("/usr/local/cuda").exists() => Some(PathBuf::from("/usr/local/cuda")),
        None if Path::new("/opt/cuda").exists() => Some(PathBuf::from("/opt/cuda")),
        None if Path::new("/usr/bin/nvcc").exists() => Some(PathBuf::from("/usr")),
        None => None,
    };
    let Some(root) = root else {
        return Err(Missing::new("cannot find CUDA's headers (CUDA_PATH is not set)", TOOLKIT_HINT));
    };
    let header = root.join("include").join("cuda_runtime.h");
    if !header.is_file() {
        return Err(Missing::new(format!("cannot find CUDA's header {}", header.display()), TOOLKIT_HINT));
    }
    Ok(())
}

fn load(candidates: &[&str]) -> Option<Library> {
    // SAFETY: NVIDIA's own libraries; their initializers may run on any thread at any time, as every program that
    // links them relies on.
    candidates.iter().find_map(|name| unsafe { Library::new(*name) }.ok())
}

/// A painter on CUDA device `index`; half precision is bf16, which cannot overflow where f32 does not.
pub(crate) fn open(
    model: &StyleModel,
    index: usize,
    precision: Precision,
    operations: Operations,
) -> Result<Box<dyn Painter>, BurnError> {
    let compute = match precision {
        Precision::F32 => DType::F32,
        Precision::Half => DType::BF16,
    };
    NetPainter::<super::Cuda>::open(model, Device::Cuda(index), CudaDevice::new(index), compute, operations)
}
