//! The kernels that paint: statistics of a picture's channels, and norm, ReLU, sum, doubling and border in one pass.
//!
//! All tensors here are channels last, `[batch, height, width, channels]`, as the convolutions keep theirs.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::border::{Border, Layout, seen};
use super::grid::{Deal, Extent, Grid, index, vector};

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
            grid.deal(size),
            input.dtype.into(),
        );
    }
    // SAFETY: one cube for each picture's channel; it reads its `runs` results and writes its two values.
    unsafe {
        merged_statistics::launch_unchecked(
            &input.client,
            CubeCount::new_2d(size.channels as u32, size.batch as u32),
            CubeDim::new_2d(1, MERGERS as u32),
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

/// Merges another set's count, mean and squared deviation into the first's.
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

/// Merges the sets of a cube's units that stand below each other into that of its first row. All units take part.
#[cube]
fn merge_rows<N: Size>(
    count: &mut f32,
    mean: &mut Vector<f32, N>,
    deviation: &mut Vector<f32, N>,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
) {
    let mut counts = SharedMemory::<f32>::new(lanes * rows);
    let mut means = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let mut deviations = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let row = UNIT_POS_Y as usize;
    let own = row * lanes + UNIT_POS_X as usize;
    counts[own] = *count;
    means[own] = *mean;
    deviations[own] = *deviation;
    let mut others = (rows / 2).runtime();
    while others > 0 {
        sync_cube();
        if row < others {
            let other = own + others * lanes;
            merge::<N>(count, mean, deviation, counts[other], means[other], deviations[other]);
            counts[own] = *count;
            means[own] = *mean;
            deviations[own] = *deviation;
        }
        others /= 2;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn partial_statistics<I: Float, N: Size>(
    input: &Tensor<Vector<I, N>>,
    means: &mut Tensor<f32>,
    deviations: &mut Tensor<f32>,
    deal: &Deal,
    #[define(I)] _dtype: StorageType,
) {
    let vector = input.vector_size();
    let (picture, channel) = (deal.picture(), deal.channel(vector));
    let within = channel < input.shape(3);

    let mut count = 0.0f32;
    let mut mean = Vector::<f32, N>::new(0.0);
    let mut deviation = Vector::<f32, N>::new(0.0);
    if within {
        let (first, end) = deal.pixels();
        for pixel in range_stepped(first, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let at = index(input, picture, y, x, channel);
            let value = Vector::<f32, N>::cast_from(input[at]);
            count += 1.0;
            let delta = value - mean;
            mean += delta * Vector::new(1.0 / count);
            deviation += delta * (value - mean);
        }
    }

    merge_rows::<N>(&mut count, &mut mean, &mut deviation, deal.lanes, deal.rows);
    if UNIT_POS_Y == 0 && within {
        let base = picture * means.stride(0) + CUBE_POS_X as usize;
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
    let (channel, picture) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let base = picture * means.stride(0) + channel * means.stride(1);

    let mut count = 0.0f32;
    let mut mean = Vector::<f32, Const<1>>::new(0.0);
    let mut deviation = Vector::<f32, Const<1>>::new(0.0);
    for part in range_stepped(UNIT_POS_Y, means.shape(2) as u32, units as u32) {
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

    merge_rows::<Const<1>>(&mut count, &mut mean, &mut deviation, 1usize, units);
    if UNIT_POS_Y == 0 {
        let at = picture * output.stride(1) + channel * output.stride(2);
        output[at] = mean[0];
        output[output.stride(0) + at] = 1.0 / f32::sqrt(deviation[0] / f32::cast_from(pixels) + epsilon);
    }
}

/// Both values of a picture's channels in `[2, batch, channels]`.
#[cube]
pub(super) fn pair<N: Size>(
    values: &Tensor<Vector<f32, N>>,
    picture: usize,
    channel: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let vector = values.vector_size();
    let at = picture * values.stride(1) + channel;
    (values[at / vector], values[(at + values.stride(0)) / vector])
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
            grid.deal(size),
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
    deal: &Deal,
    #[comptime] relu: bool,
    #[comptime] inset: [u32; 2],
    #[comptime] border: Layout,
    #[define(I, S, O)] _dtypes: [StorageType; 3],
) {
    let vector = input.vector_size();
    let (picture, channel) = (deal.picture(), deal.channel(vector));
    if channel < output.shape(3) {
        let (mean, inverse) = pair::<N>(statistics, picture, channel);
        let factor = inverse * weight[channel / vector];
        let summand = bias[channel / vector];
        let (height_in, width_in) = (input.shape(1) as u32, input.shape(2) as u32);
        let (first, end) = deal.pixels();
        for pixel in range_stepped(first, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let (y_in, row_inside) = seen(y, height_in, border.top, border.scale, border.reflect);
            let (x_in, column_inside) = seen(x, width_in, border.left, border.scale, border.reflect);
            let mut value = Vector::<f32, N>::new(0.0);
            if row_inside && column_inside {
                let at = index(input, picture, y_in, x_in, channel);
                value = (Vector::<f32, N>::cast_from(input[at]) - mean) * factor + summand;
                if comptime![relu] {
                    value = value.max(Vector::new(0.0));
                }
                #[comptime]
                if let ComptimeOption::Some(skip) = &skip {
                    let [top, left] = inset;
                    let at = index(skip, picture, y_in + top, x_in + left, channel);
                    value += Vector::<f32, N>::cast_from(skip[at]);
                }
            }
            let at = index(output, picture, y, x, channel);
            output[at] = Vector::cast_from(value);
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
            grid.deal(size),
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
    deal: &Deal,
    #[comptime] border: Layout,
    #[define(I, O)] _dtypes: [StorageType; 2],
) {
    let vector = input.vector_size();
    let (picture, channel) = (deal.picture(), deal.channel(vector));
    if channel < output.shape(3) {
        let (height_in, width_in) = (input.shape(1) as u32, input.shape(2) as u32);
        let (first, end) = deal.pixels();
        for pixel in range_stepped(first, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let (y_in, row_inside) = seen(y, height_in, border.top, border.scale, border.reflect);
            let (x_in, column_inside) = seen(x, width_in, border.left, border.scale, border.reflect);
            let mut value = Vector::<O, N>::cast_from(0.0f32);
            if row_inside && column_inside {
                let at = index(input, picture, y_in, x_in, channel);
                value = Vector::cast_from(input[at]);
            }
            let at = index(output, picture, y, x, channel);
            output[at] = value;
        }
    }
}
