//! Winograd's transforms against their matrices.

use super::super::{InputTransform, OutputTransform, PATCH, POINTS, REACH};
use super::{Dice, Guarded, UNTOUCHED, kernels, values};

/// `Bᵀ` of F(6×6, 3×3) with the points 0, 1, −1, 2, −2, ½, −½, ∞.
const B: [[f64; REACH]; REACH] = [
    [1.0, 0.0, -5.25, 0.0, 5.25, 0.0, -1.0, 0.0],
    [0.0, 1.0, 1.0, -4.25, -4.25, 1.0, 1.0, 0.0],
    [0.0, -1.0, 1.0, 4.25, -4.25, -1.0, 1.0, 0.0],
    [0.0, 0.5, 0.25, -2.5, -1.25, 2.0, 1.0, 0.0],
    [0.0, -0.5, 0.25, 2.5, -1.25, -2.0, 1.0, 0.0],
    [0.0, 2.0, 4.0, -2.5, -5.0, 0.5, 1.0, 0.0],
    [0.0, -2.0, 4.0, 2.5, -5.0, -0.5, 1.0, 0.0],
    [0.0, -1.0, 0.0, 5.25, 0.0, -5.25, 0.0, 1.0],
];

/// `Aᵀ`.
const A: [[f64; REACH]; PATCH] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.25, 0.25, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 0.125, -0.125, 0.0],
    [0.0, 1.0, 1.0, 16.0, 16.0, 0.0625, 0.0625, 0.0],
    [0.0, 1.0, -1.0, 32.0, -32.0, 0.03125, -0.03125, 1.0],
];

/// A patch's values.
type Patch = [[f64; REACH]; REACH];

/// `left · d · leftᵀ` at one place; and the sum of its products' sizes.
fn product(left: &[[f64; REACH]], d: &Patch, y: usize, x: usize) -> (f64, f64) {
    let products = (0..REACH * REACH).map(|at| (at / REACH, at % REACH));
    products.fold((0.0, 0.0), |(sum, size), (i, j)| {
        let product = left[y][i] * d[i][j] * left[x][j];
        (sum + product, size + product.abs())
    })
}

#[test]
fn input_patches() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(8);
        for seed in 0..40 {
            let (patches, channels) = (dice.within(1..20), 16 * dice.within(1..5));
            let pixels = PATCH * patches + 2;
            let rows: Vec<_> =
                (0..REACH).map(|y| values(seed, &format!("row {y}"), pixels * channels)).collect();
            let point = patches * channels + [0, 16][dice.within(0..2)];
            let mut to = Guarded::new((POINTS - 1) * point + patches * channels, UNTOUCHED);
            let args = InputTransform {
                rows: std::array::from_fn(|y| rows[y].as_ptr()),
                channels,
                patches,
                to: to.pointer(),
                point,
            };
            // SAFETY: the instruction set is here; the rows hold PATCH · patches + 2 pixels, `to` POINTS points.
            unsafe { (kernels.input_transform)(&args) };
            for (i, &value) in to.written().iter().enumerate() {
                let (at, patch, channel) = (i / point, i % point / channels, i % channels);
                if i % point >= patches * channels {
                    assert_eq!(value, UNTOUCHED, "{isa}: written between the points");
                    continue;
                }
                let channel = if i % point < patches * channels { (i % point) % channels } else { channel };
                let d: Patch = std::array::from_fn(|y| {
                    std::array::from_fn(|x| f64::from(rows[y][(PATCH * patch + x) * channels + channel]))
                });
                let (expected, size) = product(&B, &d, at / REACH, at % REACH);
                assert!(
                    (f64::from(value) - expected).abs() < 1e-6 * size,
                    "{isa}: {value} at point {at}, patch {patch}, channel {channel}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn output_patches() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(9);
        for seed in 0..40 {
            let (patches, outputs) = (dice.within(1..20), [16, 32][dice.within(0..2)]);
            let point = patches * outputs + [0, 16][dice.within(0..2)];
            let from = values(seed, "products", (POINTS - 1) * point + patches * outputs);
            // Pixels may be apart: the phases of a doubling lie between them, other outputs beside them.
            let out_pixel = outputs + [0, 16, 3][dice.within(0..3)];
            let mut rows: [_; PATCH] =
                std::array::from_fn(|_| Guarded::new((PATCH * patches - 1) * out_pixel + outputs, UNTOUCHED));
            let args = OutputTransform {
                from: from.as_ptr(),
                point,
                patches,
                outputs,
                rows: rows.each_mut().map(Guarded::pointer),
                out_pixel,
            };
            // SAFETY: the instruction set is here; `from` holds POINTS points, each row PATCH · patches pixels.
            unsafe { (kernels.output_transform)(&args) };
            for (y, row) in rows.iter().enumerate() {
                for (i, &value) in row.written().iter().enumerate() {
                    let (x, output) = (i / out_pixel, i % out_pixel);
                    if output >= outputs {
                        assert_eq!(value, UNTOUCHED, "{isa}: written between the pixels");
                        continue;
                    }
                    let m: Patch = std::array::from_fn(|p| {
                        std::array::from_fn(|q| {
                            f64::from(from[(REACH * p + q) * point + x / PATCH * outputs + output])
                        })
                    });
                    let (expected, size) = product(&A, &m, y, x % PATCH);
                    assert!(
                        (f64::from(value) - expected).abs() < 1e-6 * size,
                        "{isa}: {value} at row {y}, pixel {x}, output {output}, expected {expected}"
                    );
                }
            }
        }
    }
}
