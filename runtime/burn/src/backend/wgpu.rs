//! wgpu: is there an adapter, and opening it. Adapters are counted here, because the crates below panic when
//! there is none.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use burn::backend::wgpu::WgpuDevice;
use burn::backend::wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use burn::tensor::DType;
use burn::tensor::backend::Backend;
use impasto_checkpoints::StyleModel;
use wgpu::{DeviceType, Instance, InstanceDescriptor};

use crate::device::{Device, Missing};
use crate::error::BurnError;
use crate::net::Operations;
use crate::painter::{NetPainter, Painter, Precision, guarded, quietly};

/// The adapters in the order of their numbers here: discrete, integrated, virtual, software.
fn adapters() -> Vec<(WgpuDevice, String)> {
    // A driver that does not load is an empty list; one that crashes the enumeration is taken for the same.
    quietly(|| {
        let backend = AutoGraphicsApi::backend();
        let instance = Instance::new(InstanceDescriptor {
            backends: backend.into(),
            ..InstanceDescriptor::new_without_display_handle()
        });
        let mut future = pin!(instance.enumerate_adapters(backend.into()));
        // Outside browsers the answer is there at once.
        let Poll::Ready(adapters) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            return Vec::new();
        };
        let infos: Vec<_> = adapters.iter().map(|adapter| adapter.get_info()).collect();
        let mut found = Vec::new();
        for kind in
            [DeviceType::DiscreteGpu, DeviceType::IntegratedGpu, DeviceType::VirtualGpu, DeviceType::Cpu]
        {
            for (index, info) in infos.iter().filter(|info| info.device_type == kind).enumerate() {
                let device = match kind {
                    DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(index),
                    DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(index),
                    DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(index),
                    // The crates below know only the first.
                    _ if index == 0 => WgpuDevice::Cpu,
                    _ => continue,
                };
                found.push((device, format!("{} ({:?})", info.name, info.backend)));
            }
        }
        found
    })
    .unwrap_or_default()
}

/// Names of the adapters.
pub(crate) fn names() -> Vec<String> {
    adapters().into_iter().map(|(_, name)| name).collect()
}

/// Whether adapter `index` is there.
pub(crate) fn check(index: usize) -> Result<(), Missing> {
    find(index).map(|_| ())
}

/// Adapter `index`. What opens one comes through here.
pub(crate) fn find(index: usize) -> Result<WgpuDevice, Missing> {
    let mut adapters = adapters();
    if index < adapters.len() {
        crate::cache::keep_tuning();
        return Ok(adapters.swap_remove(index).0);
    }
    const OTHER_HINT: &str = "take one that is there";
    Err(match adapters.len() {
        0 => Missing::new(
            "no driver for Vulkan, Metal or DirectX offers a device",
            "install the graphics driver, or take --device cpu",
        ),
        1 => Missing::new("there is one device, wgpu:0", OTHER_HINT),
        count => Missing::new(format!("there are {count} devices, wgpu:0 to wgpu:{}", count - 1), OTHER_HINT),
    })
}

/// A painter on adapter `index`; half precision is f16, where the driver computes with it.
pub(crate) fn open(
    model: &StyleModel,
    index: usize,
    precision: Precision,
    operations: Operations,
) -> Result<Box<dyn Painter>, BurnError> {
    let device = Device::Wgpu(index);
    let adapter = find(index).map_err(|missing| missing.of(device))?;
    let compute = match precision {
        Precision::F32 => DType::F32,
        Precision::Half => DType::F16,
    };
    // Asking starts the device, which may fail.
    if compute == DType::F16 && !guarded(device, || super::Wgpu::supports_dtype(&adapter, compute))? {
        return Err(BurnError::Precision {
            device: device.to_string(),
            precision: "half",
            reason: "its driver has no f16 in shaders",
        });
    }
    NetPainter::<super::Wgpu>::open(model, device, adapter, compute, operations)
}
