//! Convolutions whose sums are f32, whatever type their inputs have.
//!
//! Among the kernels that Burn 0.21 times against each other is one that sums in the type of what it reads. In f32 that
//! is as good as any; in bf16 a 9×9 kernel's 2592 products lose some 4 % of the result's deviation so, where rounding the
//! result loses 0.2 %. For 16-bit floats the candidates here are those for tensor cores, which sum in f32, and Burn's
//! convolution of the same in f32, for devices and shapes that the others do not take.
//!
//! All tensors here are channels last, `[batch, height, width, channels]`; kernels `[outputs, kernel, kernel, inputs]`.

use burn::tensor::DType;
use burn::tensor::ops::ConvOptions;
use burn::tensor::ops::conv::calculate_conv_output_sizes;
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_forward_nhwc};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeRuntime, CubeTuneId};
use cubecl::tune::{LocalTuner, Tunable, TunableSet, anchor, local_tuner};
use cubek::convolution::components::ConvSetupError;
use cubek::convolution::{
    AcceleratedTileKind, ConvAlgorithm, ConvolutionArgs, ConvolutionInputs, Strategy, launch_ref,
};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::std::InputBinding;

use super::forward::empty;

/// Input, kernel, options.
type Inputs<R> = (CubeTensor<R>, CubeTensor<R>, ConvOptions<2>);

/// Whether a type is half as wide as f32.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// A convolution in the type of its input, without a bias.
pub(super) fn convolution<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    options: ConvOptions<2>,
) -> CubeTensor<R> {
    if is_half(input.dtype) && options.groups == 1 {
        return tuned(input, weight, options);
    }
    let output = conv_forward_nhwc(input, weight, None, options, ConvStrategy::default());
    output.expect("a convolution as Burn has them")
}

/// By the fastest of the candidates, which is found when a shape is first seen.
fn tuned<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    options: ConvOptions<2>,
) -> CubeTensor<R> {
    static TUNER: LocalTuner<String, CubeTuneId> = local_tuner!();
    let candidates = TUNER.init(|| {
        let mut candidates =
            TunableSet::new(key::<R>, |_: &String, inputs: &Inputs<R>| inputs.clone())
                .with(Tunable::new("in f32", |(input, weight, options): Inputs<R>| {
                    in_f32(input, weight, options)
                }));
        for (name, algorithm, tile_kind) in [
            ("sync cmma", ConvAlgorithm::SimpleSyncCyclic, AcceleratedTileKind::Cmma),
            ("sync mma", ConvAlgorithm::SimpleSyncStrided, AcceleratedTileKind::Mma),
            ("async cmma", ConvAlgorithm::SimpleAsyncCyclic, AcceleratedTileKind::Cmma),
            ("async mma", ConvAlgorithm::SimpleAsyncStrided, AcceleratedTileKind::Mma),
            ("tma cmma", ConvAlgorithm::SimpleAsyncTma, AcceleratedTileKind::Cmma),
            ("tma mma", ConvAlgorithm::SimpleAsyncTma, AcceleratedTileKind::Mma),
        ] {
            let strategy = Strategy::Inferred { algorithm, tile_kind };
            candidates = candidates.with(Tunable::new(name, move |(input, weight, options): Inputs<R>| {
                on_tensor_cores(&strategy, &input, &weight, options)
            }));
        }
        candidates
    });
    let client = input.client.clone();
    let device = CubeTuneId::new(&input.client, &input.device);
    TUNER.execute(&device, &client, candidates, (input, weight, options))
}

/// What the choice depends on; sizes to the next power of two.
fn key<R: CubeRuntime>((input, weight, options): &Inputs<R>) -> String {
    let [batch, height, width, inputs] = input.meta.shape().dims();
    let [outputs, kernel, ..] = weight.meta.shape().dims::<4>();
    let [batch, height, width] = [batch, height, width].map(|size| anchor(size, None, None, None));
    let ([stride, _], [padding, _]) = (options.stride, options.padding);
    format!(
        "{:?} {batch}×{height}×{width}×{inputs} to {outputs} by {kernel}×{kernel}, stride {stride}, padding {padding}, \
         lines of {}",
        input.dtype,
        1 << input.meta.strides()[2].trailing_zeros().min(4),
    )
}

/// Burn's convolution in f32, and its result rounded.
fn in_f32<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    options: ConvOptions<2>,
) -> Result<CubeTensor<R>, ConvSetupError> {
    let dtype = input.dtype;
    let [input, weight] = [input, weight].map(|tensor| cast(tensor, DType::F32));
    Ok(cast(conv_forward_nhwc(input, weight, None, options, ConvStrategy::Direct)?, dtype))
}

fn on_tensor_cores<R: CubeRuntime>(
    strategy: &Strategy,
    input: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    options: ConvOptions<2>,
) -> Result<CubeTensor<R>, ConvSetupError> {
    let [batch, height, width, _] = input.meta.shape().dims();
    let [outputs, kernel, ..] = weight.meta.shape().dims::<4>();
    let ConvOptions { stride, padding, dilation, .. } = options;
    let size = calculate_conv_output_sizes(&[kernel; 2], &stride, &padding, &dilation, &[height, width]);
    let output = empty(input, &[batch, size[0], size[1], outputs], input.dtype);
    let dtype = input.dtype.into();
    let binding = |tensor: &CubeTensor<R>| InputBinding::new(tensor.clone().binding(), dtype);
    launch_ref::<R, 2>(
        strategy,
        &input.client,
        ConvolutionInputs::Forward {
            input: binding(input),
            weight: binding(weight),
            bias: None,
            out: output.clone().binding(),
        },
        ConvolutionArgs { stride, padding, dilation },
        MatmulElems::from_globals(&MatmulGlobalElems { lhs: dtype, rhs: dtype, out: dtype }),
    )?;
    Ok(output)
}
