//! The kernels that paint: statistics of a picture's channels, and norm, ReLU, sum, doubling and border in one pass.
//!
//! All tensors here are channels last, `[batch, height, width, channels]`, as the convolutions keep theirs.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;

use super::border::{Border, Layout, seen};
use super::grid::{Extent, Grid, run_of, vector};

/// Units that merge a channel's partial results.
pub(super) const MERGERS: usize = 64;

/// An empty tensor beside `like`.
pub(super) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: &[usize], dtype: DType) -> CubeTensor<R> {
    empty_device_dtype(like.client.clone(), like.device.clone(), Shape::from(shape.to_vec()), dtype)
}

/// The widest index that these tensors need.
pub(super) fn addresses<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

/// Mean and `1 / √(variance + ε)` of each picture's channels: `[2, batch, channels]`, f32.
///
/// Each unit takes mean and squared deviation of its pixels as it goes (Welford 1962), and pairs of results are merged
/// (Chan, Golub, LeVeque 1979) in an order that the shape alone decides: a flat plane has variance 0 exactly, and
/// a smooth one keeps its digits.
pub(super) fn statistics<R: CubeRuntime>(input: &CubeTensor<R>, epsilon: f32) -> CubeTensor<R> {
    let size = Extent::of(input);
    let grid = Grid::summing(size, vector(&[input]));
    let partial = || empty(input, &[size.batch, size.channels, grid.runs], DType::F32);
    let (means, deviations) = (partial(), partial());
    let output = empty(input, &[2, size.batch, size.channels], DType::F32);
    // SAFETY: a unit reads pixels below `pixels` of channels below `channels`, and writes its run's place of the
    // partial results, which have one for each run.
    unsafe {
        partial_statistics::launch_unchecked(
            &input.client,
            grid.count(),
            grid.units(),
            addresses(&[input]),
            grid.vector,
            input.clone().into_tensor_arg(),
            means.clone().into_tensor_arg(),
            deviations.clone().into_tensor_arg(),
            size.width as u32,
            size.pixels() as u32,
            grid.run as u32,
            grid.lanes,
            grid.rows,
            input.dtype.into(),
        );
    }
    // SAFETY: one cube for each picture's channel; it reads its `runs` results and writes its two values.
    unsafe {
        merged_statistics::launch_unchecked(
            &input.client,
            CubeCount::new_2d(size.channels as u32, size.batch as u32),
            CubeDim::new_1d(MERGERS as u32),
            AddressType::default(),
            means.into_tensor_arg(),
            deviations.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            size.pixels() as u32,
            grid.run as u32,
            epsilon,
            MERGERS,
        );
    }
    output
}

/// Count, mean and squared deviation of one set of values and another's, into the first.
#[cube]
fn merge<N: Size>(
    count: &mut f32,
    mean: &mut Vector<f32, N>,
    deviation: &mut Vector<f32, N>,
    other_count: f32,
    other_mean: Vector<f32, N>,
    other_deviation: Vector<f32, N>,
) {
    if other_count > 0.0 {
        let all = *count + other_count;
        let delta = other_mean - *mean;
        let share = other_count / all;
        *mean += delta * Vector::new(share);
        *deviation += other_deviation + delta * delta * Vector::new(*count * share);
        *count = all;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn partial_statistics<I: Float, N: Size>(
    input: &Tensor<Vector<I, N>>,
    means: &mut Tensor<f32>,
    deviations: &mut Tensor<f32>,
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
    #[define(I)] _dtype: StorageType,
) {
    let vector = input.vector_size();
    let (lane, row) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let channel = (CUBE_POS_Y as usize * lanes + lane) * vector;
    let batch = CUBE_POS_Z as usize;
    let within = channel < input.shape(3);

    let mut count = 0.0f32;
    let mut mean = Vector::<f32, N>::new(0.0);
    let mut deviation = Vector::<f32, N>::new(0.0);
    if within {
        let picture = batch * input.stride(0) + channel * input.stride(3);
        let (first, last) = run_of(pixels, run);
        for pixel in range_stepped(first + row as u32, last, rows as u32) {
            let (y, x) = width.div_mod(pixel);
            let at = picture + y as usize * input.stride(1) + x as usize * input.stride(2);
            let value = Vector::<f32, N>::cast_from(input[at / vector]);
            count += 1.0;
            let delta = value - mean;
            mean += delta * Vector::new(1.0 / count);
            deviation += delta * (value - mean);
        }
    }

    let mut all_counts = SharedMemory::<f32>::new(lanes * rows);
    let mut all_means = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let mut all_deviations = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let own = row * lanes + lane;
    all_counts[own] = count;
    all_means[own] = mean;
    all_deviations[own] = deviation;
    let mut others = (rows / 2).runtime();
    while others > 0 {
        sync_cube();
        if row < others {
            let other = own + others * lanes;
            merge::<N>(
                &mut count,
                &mut mean,
                &mut deviation,
                all_counts[other],
                all_means[other],
                all_deviations[other],
            );
            all_counts[own] = count;
            all_means[own] = mean;
            all_deviations[own] = deviation;
        }
        others /= 2;
    }
    if row == 0 && within {
        let base = batch * means.stride(0) + CUBE_POS_X as usize;
        #[unroll]
        for part in 0..vector {
            let at = base + (channel + part) * means.stride(1);
            means[at] = mean[part];
            deviations[at] = deviation[part];
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn merged_statistics(
    means: &Tensor<f32>,
    deviations: &Tensor<f32>,
    output: &mut Tensor<f32>,
    pixels: u32,
    run: u32,
    epsilon: f32,
    #[comptime] units: usize,
) {
    let channel = CUBE_POS_X as usize;
    let batch = CUBE_POS_Y as usize;
    let own = UNIT_POS_X as usize;
    let base = batch * means.stride(0) + channel * means.stride(1);

    let mut count = 0.0f32;
    let mut mean = Vector::<f32, Const<1>>::new(0.0);
    let mut deviation = Vector::<f32, Const<1>>::new(0.0);
    for part in range_stepped(UNIT_POS_X, means.shape(2) as u32, units as u32) {
        let mut values = pixels - part * run;
        if values > run {
            values = run;
        }
        merge::<Const<1>>(
            &mut count,
            &mut mean,
            &mut deviation,
            f32::cast_from(values),
            Vector::new(means[base + part as usize]),
            Vector::new(deviations[base + part as usize]),
        );
    }

    let mut all_counts = SharedMemory::<f32>::new(units);
    let mut all_means = SharedMemory::<Vector<f32, Const<1>>>::new(units);
    let mut all_deviations = SharedMemory::<Vector<f32, Const<1>>>::new(units);
    all_counts[own] = count;
    all_means[own] = mean;
    all_deviations[own] = deviation;
    let mut others = (units / 2).runtime();
    while others > 0 {
        sync_cube();
        if own < others {
            let other = own + others;
            merge::<Const<1>>(
                &mut count,
                &mut mean,
                &mut deviation,
                all_counts[other],
                all_means[other],
                all_deviations[other],
            );
            all_counts[own] = count;
            all_means[own] = mean;
            all_deviations[own] = deviation;
        }
        others /= 2;
    }
    if own == 0 {
        let at = batch * output.stride(1) + channel * output.stride(2);
        output[at] = mean[0];
        output[output.stride(0) + at] = 1.0 / f32::sqrt(deviation[0] / f32::cast_from(pixels) + epsilon);
    }
}

/// What is done to a picture on its way into the next convolution.
pub(super) struct Norm<'a, R: CubeRuntime> {
    /// Of [`statistics`].
    pub statistics: &'a CubeTensor<R>,
    /// `[channels]`, f32.
    pub weight: &'a CubeTensor<R>,
    /// `[channels]`, f32.
    pub bias: &'a CubeTensor<R>,
    /// ReLU follows.
    pub relu: bool,
}

/// `relu((x − mean) / deviation · weight + bias) + skip`, doubled and with its border, in the float type `dtype`.
/// `skip` has a border of its own around it.
pub(super) fn normalized<R: CubeRuntime>(
    input: &CubeTensor<R>,
    norm: &Norm<'_, R>,
    skip: Option<(&CubeTensor<R>, &Border)>,
    border: &Border,
    dtype: DType,
) -> CubeTensor<R> {
    let output = bordered_like(input, border, dtype);
    let size = Extent::of(&output);
    let inset = skip.map_or([0; 2], |(_, around)| [around.rows[0] as u32, around.columns[0] as u32]);
    let skip = skip.map(|(skip, _)| skip);
    let vector = vector(&[&[input, &output], skip.as_slice()].concat());
    let grid = Grid::mapping(size, vector);
    let skip_type = skip.map_or(input.dtype, |skip| skip.dtype);
    // SAFETY: `seen` names rows and columns of the input, and units write pixels below `pixels` of channels below
    // `channels`; statistics, weight and bias have a value for each channel.
    unsafe {
        norm_kernel::launch_unchecked(
            &input.client,
            grid.count(),
            grid.units(),
            addresses(&[&[input, &output], skip.as_slice()].concat()),
            grid.vector,
            input.clone().into_tensor_arg(),
            norm.statistics.clone().into_tensor_arg(),
            norm.weight.clone().into_tensor_arg(),
            norm.bias.clone().into_tensor_arg(),
            skip.map(|skip| skip.clone().into_tensor_arg()).into(),
            output.clone().into_tensor_arg(),
            size.width as u32,
            size.pixels() as u32,
            grid.run as u32,
            grid.lanes,
            grid.rows,
            norm.relu,
            inset,
            border.layout(),
            [input.dtype.into(), skip_type.into(), dtype.into()],
        );
    }
    output
}

fn bordered_like<R: CubeRuntime>(input: &CubeTensor<R>, border: &Border, dtype: DType) -> CubeTensor<R> {
    let size = Extent::of(input);
    let [height, width] = border.around([size.height, size.width]);
    empty(input, &[size.batch, height, width, size.channels], dtype)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn norm_kernel<I: Float, S: Float, O: Float, N: Size>(
    input: &Tensor<Vector<I, N>>,
    statistics: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    skip: ComptimeOption<Tensor<Vector<S, N>>>,
    output: &mut Tensor<Vector<O, N>>,
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
    #[comptime] relu: bool,
    #[comptime] inset: [u32; 2],
    #[comptime] border: Layout,
    #[define(I, S, O)] _dtypes: [StorageType; 3],
) {
    let vector = input.vector_size();
    let channel = (CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize) * vector;
    let batch = CUBE_POS_Z as usize;
    if channel < output.shape(3) {
        let at = (batch * statistics.stride(1) + channel) / vector;
        let mean = statistics[at];
        let factor = statistics[at + statistics.stride(0) / vector] * weight[channel / vector];
        let summand = bias[channel / vector];
        let (height_in, width_in) = (input.shape(1) as u32, input.shape(2) as u32);
        let picture_in = batch * input.stride(0) + channel * input.stride(3);
        let picture_out = batch * output.stride(0) + channel;
        let (first, last) = run_of(pixels, run);
        for pixel in range_stepped(first + UNIT_POS_Y, last, rows as u32) {
            let (y, x) = width.div_mod(pixel);
            let (y_in, row_inside) = seen(y, height_in, border.top, border.scale, border.reflect);
            let (x_in, column_inside) = seen(x, width_in, border.left, border.scale, border.reflect);
            let mut value = Vector::<f32, N>::new(0.0);
            if row_inside && column_inside {
                let at = picture_in + y_in as usize * input.stride(1) + x_in as usize * input.stride(2);
                value = (Vector::<f32, N>::cast_from(input[at / vector]) - mean) * factor + summand;
                if comptime![relu] {
                    value = value.max(Vector::new(0.0));
                }
                #[comptime]
                if let ComptimeOption::Some(skip) = &skip {
                    let at = batch * skip.stride(0)
                        + (y_in + comptime![inset[0]]) as usize * skip.stride(1)
                        + (x_in + comptime![inset[1]]) as usize * skip.stride(2)
                        + channel * skip.stride(3);
                    value += Vector::<f32, N>::cast_from(skip[at / vector]);
                }
            }
            let at = picture_out + y as usize * output.stride(1) + x as usize * output.stride(2);
            output[at / vector] = Vector::cast_from(value);
        }
    }
}

/// The picture doubled and with its border, in the float type `dtype`.
pub(super) fn bordered<R: CubeRuntime>(
    input: &CubeTensor<R>,
    border: &Border,
    dtype: DType,
) -> CubeTensor<R> {
    let output = bordered_like(input, border, dtype);
    let size = Extent::of(&output);
    let grid = Grid::mapping(size, vector(&[input, &output]));
    // SAFETY: as for `normalized`.
    unsafe {
        border_kernel::launch_unchecked(
            &input.client,
            grid.count(),
            grid.units(),
            addresses(&[input, &output]),
            grid.vector,
            input.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            size.width as u32,
            size.pixels() as u32,
            grid.run as u32,
            grid.lanes,
            grid.rows,
            border.layout(),
            [input.dtype.into(), dtype.into()],
        );
    }
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn border_kernel<I: Float, O: Float, N: Size>(
    input: &Tensor<Vector<I, N>>,
    output: &mut Tensor<Vector<O, N>>,
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
    #[comptime] border: Layout,
    #[define(I, O)] _dtypes: [StorageType; 2],
) {
    let vector = input.vector_size();
    let channel = (CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize) * vector;
    let batch = CUBE_POS_Z as usize;
    if channel < output.shape(3) {
        let (height_in, width_in) = (input.shape(1) as u32, input.shape(2) as u32);
        let picture_in = batch * input.stride(0) + channel * input.stride(3);
        let picture_out = batch * output.stride(0) + channel;
        let (first, last) = run_of(pixels, run);
        for pixel in range_stepped(first + UNIT_POS_Y, last, rows as u32) {
            let (y, x) = width.div_mod(pixel);
            let (y_in, row_inside) = seen(y, height_in, border.top, border.scale, border.reflect);
            let (x_in, column_inside) = seen(x, width_in, border.left, border.scale, border.reflect);
            let mut value = Vector::<O, N>::cast_from(0.0f32);
            if row_inside && column_inside {
                let at = picture_in + y_in as usize * input.stride(1) + x_in as usize * input.stride(2);
                value = Vector::cast_from(input[at / vector]);
            }
            let at = picture_out + y as usize * output.stride(1) + x as usize * output.stride(2);
            output[at / vector] = value;
        }
    }
}
