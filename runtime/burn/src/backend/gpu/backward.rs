//! The kernels that learn: gradients of what [`forward`](super::forward) does.
//!
//! All tensors here are channels last, `[batch, height, width, channels]`.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::border::{Border, Layout, image};
use super::forward::{MERGERS, Norm, addresses, empty, pair};
use super::grid::{Deal, Extent, Grid, index, vector};

/// Gradients of [`normalized`](super::forward::normalized).
pub(super) struct NormGradients<R: CubeRuntime> {
    /// With regard to the norm's input.
    pub input: CubeTensor<R>,
    /// With regard to the norm's output before the ReLU: that of what was added, too.
    pub output: CubeTensor<R>,
    /// `[channels]`, f32.
    pub weight: CubeTensor<R>,
    /// `[channels]`, f32.
    pub bias: CubeTensor<R>,
}

/// The gradients of a norm and what follows it, from the gradient `upstream` of the picture with its border.
///
/// With `g` the upstream gradient gathered from where each pixel is seen, 0 where the ReLU closed, and
/// `x̂ = (x − mean) / deviation`, over each picture's channel of `n` pixels:
/// `dx = weight / deviation · (g − Σg / n − x̂ · Σ(g · x̂) / n)`, `dweight = Σ g · x̂`, `dbias = Σ g`, the last two over
/// the batch too.
pub(super) fn normalized<R: CubeRuntime>(
    input: &CubeTensor<R>,
    norm: &Norm<'_, R>,
    upstream: &CubeTensor<R>,
    border: &Border,
) -> NormGradients<R> {
    let size = Extent::of(input);
    let shape = [size.batch, size.height, size.width, size.channels];
    let output = empty(input, &shape, input.dtype);
    let width = vector(&[input, upstream, &output]);
    let grid = Grid::summing(size, width);
    let partial = || empty(input, &[size.batch, size.channels, grid.runs], DType::F32);
    let (sums, products) = (partial(), partial());
    // SAFETY: a unit reads and writes pixels below `pixels` of channels below `channels`, `image` names places of the
    // upstream gradient, and the partial results have a place for each run.
    unsafe {
        gated_kernel::launch_unchecked(
            &input.client,
            grid.count(),
            grid.units(),
            addresses(&[input, upstream, &output]),
            grid.vector,
            input.clone().into_tensor_arg(),
            norm.statistics.clone().into_tensor_arg(),
            norm.weight.clone().into_tensor_arg(),
            norm.bias.clone().into_tensor_arg(),
            upstream.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            products.clone().into_tensor_arg(),
            grid.deal(size),
            norm.relu,
            border.layout(),
            [input.dtype.into(), upstream.dtype.into()],
        );
    }

    let means = empty(input, &[2, size.batch, size.channels], DType::F32);
    let weight = empty(input, &[size.channels], DType::F32);
    let bias = empty(input, &[size.channels], DType::F32);
    // SAFETY: one cube for each channel; it reads that channel's partial results and writes that channel's values.
    unsafe {
        summed_kernel::launch_unchecked(
            &input.client,
            CubeCount::new_1d(size.channels as u32),
            CubeDim::new_2d(1, MERGERS as u32),
            AddressType::default(),
            sums.into_tensor_arg(),
            products.into_tensor_arg(),
            means.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            bias.clone().into_tensor_arg(),
            size.pixels() as u32,
            MERGERS,
        );
    }

    let gradient = empty(input, &shape, input.dtype);
    let grid = Grid::mapping(size, vector(&[input, &output, &gradient]));
    // SAFETY: a unit reads and writes pixels below `pixels` of channels below `channels`.
    unsafe {
        input_kernel::launch_unchecked(
            &input.client,
            grid.count(),
            grid.units(),
            addresses(&[input, &output, &gradient]),
            grid.vector,
            input.clone().into_tensor_arg(),
            norm.statistics.clone().into_tensor_arg(),
            norm.weight.clone().into_tensor_arg(),
            means.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            gradient.clone().into_tensor_arg(),
            grid.deal(size),
            input.dtype.into(),
        );
    }
    NormGradients { input: gradient, output, weight, bias }
}

/// The gradient of [`bordered`](super::forward::bordered) with regard to the picture of `height` and `width`, in the
/// float type `dtype`.
pub(super) fn bordered<R: CubeRuntime>(
    upstream: &CubeTensor<R>,
    border: &Border,
    [height, width]: [usize; 2],
    dtype: DType,
) -> CubeTensor<R> {
    let whole = Extent::of(upstream);
    let size = Extent { height, width, ..whole };
    let output = empty(upstream, &[size.batch, height, width, size.channels], dtype);
    let grid = Grid::mapping(size, vector(&[upstream, &output]));
    // SAFETY: `image` names places of the upstream gradient; units write pixels below `pixels` of channels below
    // `channels`.
    unsafe {
        gather_kernel::launch_unchecked(
            &upstream.client,
            grid.count(),
            grid.units(),
            addresses(&[upstream, &output]),
            grid.vector,
            upstream.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            grid.deal(size),
            border.layout(),
            [upstream.dtype.into(), dtype.into()],
        );
    }
    output
}

/// The sum of the gradients of all places of the picture with its border where the pixel at `y`, `x` is seen.
#[cube]
fn gathered<U: Float, N: Size>(
    upstream: &Tensor<Vector<U, N>>,
    picture: usize,
    channel: usize,
    y: u32,
    x: u32,
    height: u32,
    width: u32,
    #[comptime] border: Layout,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0);
    if comptime![border.plain] {
        let at = index(upstream, picture, y, x, channel);
        sum = Vector::cast_from(upstream[at]);
    } else {
        let images = comptime![if border.reflect { 3u32 } else { 1u32 }];
        let (whole_height, whole_width) = (upstream.shape(1) as u32, upstream.shape(2) as u32);
        #[unroll]
        for row in 0..border.scale {
            #[unroll]
            for row_image in 0..images {
                let (y_out, row_there) =
                    image(y * border.scale + row, height * border.scale, whole_height, row_image, border.top);
                if row_there {
                    #[unroll]
                    for column in 0..border.scale {
                        #[unroll]
                        for column_image in 0..images {
                            let (x_out, column_there) = image(
                                x * border.scale + column,
                                width * border.scale,
                                whole_width,
                                column_image,
                                border.left,
                            );
                            if column_there {
                                let at = index(upstream, picture, y_out, x_out, channel);
                                sum += Vector::<f32, N>::cast_from(upstream[at]);
                            }
                        }
                    }
                }
            }
        }
    }
    sum
}

/// Adds up what a cube's units that stand below each other have, into its first row. All units take part.
#[cube]
fn add_rows<N: Size>(
    sum: &mut Vector<f32, N>,
    product: &mut Vector<f32, N>,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let mut products = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let row = UNIT_POS_Y as usize;
    let own = row * lanes + UNIT_POS_X as usize;
    sums[own] = *sum;
    products[own] = *product;
    let mut others = (rows / 2).runtime();
    while others > 0 {
        sync_cube();
        if row < others {
            let other = own + others * lanes;
            *sum += sums[other];
            *product += products[other];
            sums[own] = *sum;
            products[own] = *product;
        }
        others /= 2;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gated_kernel<I: Float, U: Float, N: Size>(
    input: &Tensor<Vector<I, N>>,
    statistics: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    upstream: &Tensor<Vector<U, N>>,
    output: &mut Tensor<Vector<I, N>>,
    sums: &mut Tensor<f32>,
    products: &mut Tensor<f32>,
    deal: &Deal,
    #[comptime] relu: bool,
    #[comptime] border: Layout,
    #[define(I, U)] _dtypes: [StorageType; 2],
) {
    let vector = input.vector_size();
    let (picture, channel) = (deal.picture(), deal.channel(vector));
    let within = channel < input.shape(3);

    let mut sum = Vector::<f32, N>::new(0.0);
    let mut product = Vector::<f32, N>::new(0.0);
    if within {
        let (mean, inverse) = pair::<N>(statistics, picture, channel);
        let factor = inverse * weight[channel / vector];
        let summand = bias[channel / vector];
        let (height, columns) = (input.shape(1) as u32, input.shape(2) as u32);
        let (first, end) = deal.pixels();
        for pixel in range_stepped(first, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let at = index(input, picture, y, x, channel);
            let centred = Vector::<f32, N>::cast_from(input[at]) - mean;
            let mut gradient = gathered::<U, N>(upstream, picture, channel, y, x, height, columns, border);
            if comptime![relu] {
                let closed = (centred * factor + summand).less_equal(Vector::new(0.0));
                gradient = select_many(closed, Vector::new(0.0), gradient);
            }
            sum += gradient;
            product += gradient * centred * inverse;
            let at = index(output, picture, y, x, channel);
            output[at] = Vector::cast_from(gradient);
        }
    }

    add_rows::<N>(&mut sum, &mut product, deal.lanes, deal.rows);
    if UNIT_POS_Y == 0 && within {
        let base = picture * sums.stride(0) + CUBE_POS_X as usize;
        #[unroll]
        for part in 0..vector {
            let at = base + (channel + part) * sums.stride(1);
            sums[at] = sum[part];
            products[at] = product[part];
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn summed_kernel(
    sums: &Tensor<f32>,
    products: &Tensor<f32>,
    means: &mut Tensor<f32>,
    weight: &mut Tensor<f32>,
    bias: &mut Tensor<f32>,
    pixels: u32,
    #[comptime] units: usize,
) {
    let channel = CUBE_POS_X as usize;
    let mut of_bias = 0.0f32;
    let mut of_weight = 0.0f32;
    for picture in 0..sums.shape(0) {
        let base = picture * sums.stride(0) + channel * sums.stride(1);
        let mut sum = Vector::<f32, Const<1>>::new(0.0);
        let mut product = Vector::<f32, Const<1>>::new(0.0);
        for part in range_stepped(UNIT_POS_Y, sums.shape(2) as u32, units as u32) {
            sum += Vector::new(sums[base + part as usize]);
            product += Vector::new(products[base + part as usize]);
        }
        add_rows::<Const<1>>(&mut sum, &mut product, 1usize, units);
        // The next picture's values come into the same memory.
        sync_cube();
        if UNIT_POS_Y == 0 {
            let at = picture * means.stride(1) + channel * means.stride(2);
            means[at] = sum[0] / f32::cast_from(pixels);
            means[at + means.stride(0)] = product[0] / f32::cast_from(pixels);
            of_bias += sum[0];
            of_weight += product[0];
        }
    }
    if UNIT_POS_Y == 0 {
        bias[channel] = of_bias;
        weight[channel] = of_weight;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn input_kernel<I: Float, N: Size>(
    input: &Tensor<Vector<I, N>>,
    statistics: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    means: &Tensor<Vector<f32, N>>,
    gated: &Tensor<Vector<I, N>>,
    gradient: &mut Tensor<Vector<I, N>>,
    deal: &Deal,
    #[define(I)] _dtype: StorageType,
) {
    let vector = input.vector_size();
    let (picture, channel) = (deal.picture(), deal.channel(vector));
    if channel < input.shape(3) {
        let (mean, inverse) = pair::<N>(statistics, picture, channel);
        let (mean_gradient, mean_product) = pair::<N>(means, picture, channel);
        let factor = inverse * weight[channel / vector];
        let slope = mean_product * inverse;
        let (first, end) = deal.pixels();
        for pixel in range_stepped(first, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let at = index(input, picture, y, x, channel);
            let centred = Vector::<f32, N>::cast_from(input[at]) - mean;
            // The two gradients are made alike, by `empty`.
            let at = index(gradient, picture, y, x, channel);
            let value = Vector::<f32, N>::cast_from(gated[at]);
            gradient[at] = Vector::cast_from((value - mean_gradient - centred * slope) * factor);
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<U: Float, O: Float, N: Size>(
    upstream: &Tensor<Vector<U, N>>,
    output: &mut Tensor<Vector<O, N>>,
    deal: &Deal,
    #[comptime] border: Layout,
    #[define(U, O)] _dtypes: [StorageType; 2],
) {
    let (picture, channel) = (deal.picture(), deal.channel(upstream.vector_size()));
    if channel < output.shape(3) {
        let (height, columns) = (output.shape(1) as u32, output.shape(2) as u32);
        let (first, end) = deal.pixels();
        for pixel in range_stepped(first, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let value = gathered::<U, N>(upstream, picture, channel, y, x, height, columns, border);
            let at = index(output, picture, y, x, channel);
            output[at] = Vector::cast_from(value);
        }
    }
}
