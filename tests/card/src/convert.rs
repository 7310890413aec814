//! `cvt`: from one type to another.

use half::{bf16, f16};

use crate::alu::Recipe;
use crate::lanes::{LANES, Two, Value};
use crate::machine::{Block, Fault, Op, Warp};

enum Number {
    Whole(i128),
    Real(f64),
}

trait Source: Value {
    fn number(self) -> Number;
}

trait Target: Value {
    /// `saturate`: into the type's range (whole numbers), into 0..1 (others).
    fn of(number: Number, rounding: Rounding, saturate: bool) -> Self;
}

#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    None,
    Nearest,
    Zero,
    Down,
    Up,
}

impl Rounding {
    fn apply(self, value: f64) -> f64 {
        match self {
            Rounding::None => value,
            Rounding::Nearest => value.round_ties_even(),
            Rounding::Zero => value.trunc(),
            Rounding::Down => value.floor(),
            Rounding::Up => value.ceil(),
        }
    }
}

macro_rules! whole {
    ($($T:ty)*) => {$(
        impl Source for $T {
            fn number(self) -> Number {
                Number::Whole(self as i128)
            }
        }
        impl Target for $T {
            fn of(number: Number, rounding: Rounding, saturate: bool) -> Self {
                match number {
                    Number::Whole(value) if saturate => value.clamp(<$T>::MIN as i128, <$T>::MAX as i128) as $T,
                    Number::Whole(value) => value as $T,
                    // Into the range of the type, NaN to 0: what Rust's `as` does too.
                    Number::Real(value) => rounding.apply(value) as $T,
                }
            }
        }
    )*};
}

whole! { u8 i8 u16 i16 u32 i32 u64 i64 }

macro_rules! real {
    ($($T:ty: $wide:expr, $from_f64:expr, $from_whole:expr;)*) => {$(
        impl Source for $T {
            fn number(self) -> Number {
                Number::Real($wide(self))
            }
        }
        impl Target for $T {
            fn of(number: Number, rounding: Rounding, saturate: bool) -> Self {
                match number {
                    Number::Whole(value) => $from_whole(value),
                    Number::Real(value) if saturate && value.is_nan() => $from_f64(0.0),
                    Number::Real(value) if saturate => $from_f64(rounding.apply(value).clamp(0.0, 1.0)),
                    Number::Real(value) => $from_f64(rounding.apply(value)),
                }
            }
        }
    )*};
}

real! {
    f64: |value| value, |value| value, |value| value as f64;
    f32: f64::from, |value| value as f32, |value| value as f32;
    f16: f16::to_f64, f16::from_f64, |value| f16::from_f64(value as f64);
    bf16: bf16::to_f64, bf16::from_f64, |value| bf16::from_f64(value as f64);
}

fn run<S: Source, D: Target>(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let source = w.get::<S>(op.r[1]);
    let rounding = match op.imm & 7 {
        0 => Rounding::None,
        1 => Rounding::Nearest,
        2 => Rounding::Zero,
        3 => Rounding::Down,
        _ => Rounding::Up,
    };
    let saturate = op.imm & 8 != 0;
    let values: [D; LANES] = std::array::from_fn(|lane| D::of(source[lane].number(), rounding, saturate));
    w.put::<D>(op.r[0], values, mask);
    Ok(())
}

fn class(rows: usize) -> crate::alu::Class {
    if rows == 2 { crate::alu::Class::Wide } else { crate::alu::Class::Word }
}

fn to<S: Source>(kind: &str) -> Option<Recipe> {
    macro_rules! recipe {
        ($D:ty) => {
            Some(Recipe {
                run: run::<S, $D>,
                target: class(<$D as Value>::ROWS),
                sources: vec![class(S::ROWS)],
            })
        };
    }
    match kind {
        "u8" => recipe!(u8),
        "s8" => recipe!(i8),
        "u16" => recipe!(u16),
        "s16" => recipe!(i16),
        "u32" => recipe!(u32),
        "s32" => recipe!(i32),
        "u64" => recipe!(u64),
        "s64" => recipe!(i64),
        "f16" => recipe!(f16),
        "bf16" => recipe!(bf16),
        "f32" => recipe!(f32),
        "f64" => recipe!(f64),
        _ => None,
    }
}

/// `cvt` with its modifiers: what it does, and `imm`.
pub fn recipe(parts: &[&str]) -> Option<(Recipe, i64)> {
    let [.., target, source] = parts else { return None };
    let modifiers = &parts[1..parts.len() - 2];
    let word = crate::alu::Class::Word;
    match (*target, *source) {
        ("bf16x2", "f32") if modifiers == ["rn"] => {
            return Some((Recipe { run: pack_bf16, target: word, sources: vec![word; 2] }, 0));
        }
        ("f16x2", "f32") if modifiers == ["rn"] => {
            return Some((Recipe { run: pack_f16, target: word, sources: vec![word; 2] }, 0));
        }
        ("tf32", "f32") if modifiers == ["rna"] => {
            return Some((Recipe { run: to_tf32, target: word, sources: vec![word] }, 0));
        }
        _ => {}
    }
    let mut imm = 0;
    for &modifier in modifiers {
        imm |= match modifier {
            "rn" | "ftz" => 0,
            "rni" => 1,
            "rzi" => 2,
            "rmi" => 3,
            "rpi" => 4,
            "sat" => 8,
            // To a type that holds every value, how it is rounded does not matter.
            "rz" if *target == "f64" => 0,
            _ => return None,
        };
    }
    let recipe = match *source {
        "u8" | "b8" => to::<u8>(target),
        "s8" => to::<i8>(target),
        "u16" => to::<u16>(target),
        "s16" => to::<i16>(target),
        "u32" => to::<u32>(target),
        "s32" => to::<i32>(target),
        "u64" => to::<u64>(target),
        "s64" => to::<i64>(target),
        "f16" => to::<f16>(target),
        "bf16" => to::<bf16>(target),
        "f32" => to::<f32>(target),
        "f64" => to::<f64>(target),
        _ => None,
    };
    Some((recipe?, imm))
}

/// Two numbers into one register, the first into its upper half.
fn pack_bf16(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let (a, b) = (w.get::<f32>(op.r[1]), w.get::<f32>(op.r[2]));
    let values = std::array::from_fn(|lane| Two(bf16::from_f32(b[lane]), bf16::from_f32(a[lane])));
    w.put::<Two<bf16>>(op.r[0], values, mask);
    Ok(())
}

fn pack_f16(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let (a, b) = (w.get::<f32>(op.r[1]), w.get::<f32>(op.r[2]));
    let values = std::array::from_fn(|lane| Two(f16::from_f32(b[lane]), f16::from_f32(a[lane])));
    w.put::<Two<f16>>(op.r[0], values, mask);
    Ok(())
}

/// To 10 bits after the point, halves away from zero.
fn to_tf32(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let values = w.get::<u32>(op.r[1]).map(|bits| {
        let finite = bits & 0x7F80_0000 != 0x7F80_0000;
        if finite { bits.wrapping_add(0x1000) & !0x1FFF } else { bits }
    });
    w.put::<u32>(op.r[0], values, mask);
    Ok(())
}
