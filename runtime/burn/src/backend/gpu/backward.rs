//! The kernels that learn: gradients of what [`forward`](super::forward) does.
//!
//! All tensors here are channels last, `[batch, height, width, channels]`.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;

use super::border::{Border, Layout, image};
use super::forward::{MERGERS, Norm, addresses, empty};
use super::grid::{Extent, Grid, run_of, vector};

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
            size.width as u32,
            size.pixels() as u32,
            grid.run as u32,
            grid.lanes,
            grid.rows,
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
            CubeDim::new_1d(MERGERS as u32),
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
            size.width as u32,
            size.pixels() as u32,
            grid.run as u32,
            grid.lanes,
            grid.rows,
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
            size.width as u32,
            size.pixels() as u32,
            grid.run as u32,
            grid.lanes,
            grid.rows,
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
    y: u32,
    x: u32,
    height: u32,
    width: u32,
    #[comptime] border: Layout,
) -> Vector<f32, N> {
    let vector = upstream.vector_size();
    let mut sum = Vector::<f32, N>::new(0.0);
    if comptime![border.plain] {
        let at = picture + y as usize * upstream.stride(1) + x as usize * upstream.stride(2);
        sum = Vector::cast_from(upstream[at / vector]);
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
                    let base = picture + y_out as usize * upstream.stride(1);
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
                                let at = base + x_out as usize * upstream.stride(2);
                                sum += Vector::<f32, N>::cast_from(upstream[at / vector]);
                            }
                        }
                    }
                }
            }
        }
    }
    sum
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
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
    #[comptime] relu: bool,
    #[comptime] border: Layout,
    #[define(I, U)] _dtypes: [StorageType; 2],
) {
    let vector = input.vector_size();
    let (lane, row) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let channel = (CUBE_POS_Y as usize * lanes + lane) * vector;
    let batch = CUBE_POS_Z as usize;
    let within = channel < input.shape(3);

    let mut sum = Vector::<f32, N>::new(0.0);
    let mut product = Vector::<f32, N>::new(0.0);
    if within {
        let at = (batch * statistics.stride(1) + channel) / vector;
        let mean = statistics[at];
        let inverse = statistics[at + statistics.stride(0) / vector];
        let factor = inverse * weight[channel / vector];
        let summand = bias[channel / vector];
        let (height, columns) = (input.shape(1) as u32, input.shape(2) as u32);
        let picture = batch * input.stride(0) + channel * input.stride(3);
        let picture_up = batch * upstream.stride(0) + channel * upstream.stride(3);
        let picture_out = batch * output.stride(0) + channel;
        let (first, last) = run_of(pixels, run);
        for pixel in range_stepped(first + row as u32, last, rows as u32) {
            let (y, x) = width.div_mod(pixel);
            let at = picture + y as usize * input.stride(1) + x as usize * input.stride(2);
            let centred = Vector::<f32, N>::cast_from(input[at / vector]) - mean;
            let mut gradient = gathered::<U, N>(upstream, picture_up, y, x, height, columns, border);
            if comptime![relu] {
                let closed = (centred * factor + summand).less_equal(Vector::new(0.0));
                gradient = select_many(closed, Vector::new(0.0), gradient);
            }
            sum += gradient;
            product += gradient * centred * inverse;
            let at = picture_out + y as usize * output.stride(1) + x as usize * output.stride(2);
            output[at / vector] = Vector::cast_from(gradient);
        }
    }

    let mut all_sums = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let mut all_products = SharedMemory::<Vector<f32, N>>::new(lanes * rows);
    let own = row * lanes + lane;
    all_sums[own] = sum;
    all_products[own] = product;
    let mut others = (rows / 2).runtime();
    while others > 0 {
        sync_cube();
        if row < others {
            let other = own + others * lanes;
            sum += all_sums[other];
            product += all_products[other];
            all_sums[own] = sum;
            all_products[own] = product;
        }
        others /= 2;
    }
    if row == 0 && within {
        let base = batch * sums.stride(0) + CUBE_POS_X as usize;
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
    let own = UNIT_POS_X as usize;
    let mut all_sums = SharedMemory::<f32>::new(units);
    let mut all_products = SharedMemory::<f32>::new(units);
    let mut of_bias = 0.0f32;
    let mut of_weight = 0.0f32;
    for batch in 0..sums.shape(0) {
        let base = batch * sums.stride(0) + channel * sums.stride(1);
        let mut sum = 0.0f32;
        let mut product = 0.0f32;
        for part in range_stepped(UNIT_POS_X, sums.shape(2) as u32, units as u32) {
            sum += sums[base + part as usize];
            product += products[base + part as usize];
        }
        all_sums[own] = sum;
        all_products[own] = product;
        let mut others = (units / 2).runtime();
        while others > 0 {
            sync_cube();
            if own < others {
                sum += all_sums[own + others];
                product += all_products[own + others];
                all_sums[own] = sum;
                all_products[own] = product;
            }
            others /= 2;
        }
        // The next picture's values come into the same memory.
        sync_cube();
        if own == 0 {
            let at = batch * means.stride(1) + channel * means.stride(2);
            means[at] = sum / f32::cast_from(pixels);
            means[at + means.stride(0)] = product / f32::cast_from(pixels);
            of_bias += sum;
            of_weight += product;
        }
    }
    if own == 0 {
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
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
    #[define(I)] _dtype: StorageType,
) {
    let vector = input.vector_size();
    let channel = (CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize) * vector;
    let batch = CUBE_POS_Z as usize;
    if channel < input.shape(3) {
        let at = (batch * statistics.stride(1) + channel) / vector;
        let mean = statistics[at];
        let inverse = statistics[at + statistics.stride(0) / vector];
        let at = (batch * means.stride(1) + channel) / vector;
        let mean_gradient = means[at];
        let mean_product = means[at + means.stride(0) / vector];
        let factor = inverse * weight[channel / vector];
        let slope = mean_product * inverse;
        let picture = batch * input.stride(0) + channel * input.stride(3);
        let picture_out = batch * gradient.stride(0) + channel;
        let (first, last) = run_of(pixels, run);
        for pixel in range_stepped(first + UNIT_POS_Y, last, rows as u32) {
            let (y, x) = width.div_mod(pixel);
            let at = picture + y as usize * input.stride(1) + x as usize * input.stride(2);
            let centred = Vector::<f32, N>::cast_from(input[at / vector]) - mean;
            // The two gradients are made alike, by `empty`.
            let at = picture_out + y as usize * gradient.stride(1) + x as usize * gradient.stride(2);
            let value = Vector::<f32, N>::cast_from(gated[at / vector]);
            gradient[at / vector] = Vector::cast_from((value - mean_gradient - centred * slope) * factor);
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<U: Float, O: Float, N: Size>(
    upstream: &Tensor<Vector<U, N>>,
    output: &mut Tensor<Vector<O, N>>,
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[comptime] lanes: usize,
    #[comptime] rows: usize,
    #[comptime] border: Layout,
    #[define(U, O)] _dtypes: [StorageType; 2],
) {
    let vector = upstream.vector_size();
    let channel = (CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize) * vector;
    let batch = CUBE_POS_Z as usize;
    if channel < output.shape(3) {
        let (height, columns) = (output.shape(1) as u32, output.shape(2) as u32);
        let picture = batch * upstream.stride(0) + channel * upstream.stride(3);
        let picture_out = batch * output.stride(0) + channel;
        let (first, last) = run_of(pixels, run);
        for pixel in range_stepped(first + UNIT_POS_Y, last, rows as u32) {
            let (y, x) = width.div_mod(pixel);
            let value = gathered::<U, N>(upstream, picture, y, x, height, columns, border);
            let at = picture_out + y as usize * output.stride(1) + x as usize * output.stride(2);
            output[at / vector] = Vector::cast_from(value);
        }
    }
}
