//! Winograd's transforms against their matrices.

use super::super::{InputTransform, OutputTransform};
use super::{Dice, Guarded, UNTOUCHED, kernels, values};

/// `Bᵀ` of F(4×4, 3×3) with the points 0, 1, −1, 2, −2, ∞.
const B: [[f64; 6]; 6] = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
];

/// `Aᵀ`.
const A: [[f64; 6]; 4] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
];

/// `left · d · leftᵀ` at one place.
fn product(left: &[[f64; 6]], d: &[[f64; 6]; 6], y: usize, x: usize) -> f64 {
    (0..6).map(|i| (0..6).map(|j| left[y][i] * d[i][j] * left[x][j]).sum::<f64>()).sum()
}

#[test]
fn input_patches() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(8);
        for seed in 0..40 {
            let (patches, channels) = (dice.within(1..20), 16 * dice.within(1..5));
            let pixels = 4 * patches + 2;
            let rows: Vec<_> = (0..6).map(|y| values(seed, &format!("row {y}"), pixels * channels)).collect();
            let point = patches * channels + [0, 16][dice.within(0..2)];
            let mut to = Guarded::new(35 * point + patches * channels, UNTOUCHED);
            let args = InputTransform {
                rows: std::array::from_fn(|y| rows[y].as_ptr()),
                channels,
                patches,
                to: to.pointer(),
                point,
            };
            // SAFETY: the instruction set is here; the rows hold 4 · patches + 2 pixels, `to` 36 points.
            unsafe { (kernels.input_transform)(&args) };
            for (i, &value) in to.written().iter().enumerate() {
                let (at, patch, channel) = (i / point, i % point / channels, i % channels);
                if i % point >= patches * channels {
                    assert_eq!(value, UNTOUCHED, "{isa}: written between the points");
                    continue;
                }
                let channel = if i % point < patches * channels { (i % point) % channels } else { channel };
                let d: [[f64; 6]; 6] = std::array::from_fn(|y| {
                    std::array::from_fn(|x| f64::from(rows[y][(4 * patch + x) * channels + channel]))
                });
                let expected = product(&B, &d, at / 6, at % 6);
                assert!(
                    (f64::from(value) - expected).abs() < 2e-5,
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
            let from = values(seed, "products", 35 * point + patches * outputs);
            // Pixels may be apart: the phases of a doubling lie between them, other outputs beside them.
            let out_pixel = outputs + [0, 16, 3][dice.within(0..3)];
            let mut rows: [_; 4] =
                std::array::from_fn(|_| Guarded::new((4 * patches - 1) * out_pixel + outputs, UNTOUCHED));
            let args = OutputTransform {
                from: from.as_ptr(),
                point,
                patches,
                outputs,
                rows: rows.each_mut().map(Guarded::pointer),
                out_pixel,
            };
            // SAFETY: the instruction set is here; `from` holds 36 points, each row 4 · patches pixels.
            unsafe { (kernels.output_transform)(&args) };
            for (y, row) in rows.iter().enumerate() {
                for (i, &value) in row.written().iter().enumerate() {
                    let (x, output) = (i / out_pixel, i % out_pixel);
                    if output >= outputs {
                        assert_eq!(value, UNTOUCHED, "{isa}: written between the pixels");
                        continue;
                    }
                    let m: [[f64; 6]; 6] = std::array::from_fn(|p| {
                        std::array::from_fn(|q| {
                            f64::from(from[(6 * p + q) * point + x / 4 * outputs + output])
                        })
                    });
                    let expected = product(&A, &m, y, x % 4);
                    assert!(
                        (f64::from(value) - expected).abs() < 1e-4,
                        "{isa}: {value} at row {y}, pixel {x}, output {output}, expected {expected}"
                    );
                }
            }
        }
    }
}
