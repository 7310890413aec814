//! Arithmetic, logic, comparison: what happens in registers, lane by lane.
//!
//! PTX ISA 9.0, chapter 9.7.1 to 9.7.8. Approximations (`ex2.approx` and its like) are exact here; subnormal numbers are
//! kept where `.ftz` would make them zero.

use half::{bf16, f16};

use crate::lanes::{LANES, Two, Value, bits, lanes};
use crate::machine::{Block, Execute, Fault, Op, Warp};

/// How an operand is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A row: 32 bits or fewer.
    Word,
    /// Two rows.
    Wide,
    Predicate,
}

/// What an instruction does, and what its operands are.
pub struct Recipe {
    pub run: Execute,
    pub target: Class,
    pub sources: Vec<Class>,
}

fn class<T: Value>() -> Class {
    if T::ROWS == 2 { Class::Wide } else { Class::Word }
}

macro_rules! unary {
    ($A:ty => $R:ty, $f:expr) => {{
        fn run(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
            let a = w.get::<$A>(op.r[1]);
            let f: fn($A) -> $R = $f;
            w.put::<$R>(op.r[0], std::array::from_fn(|lane| f(a[lane])), mask);
            Ok(())
        }
        Recipe { run, target: class::<$R>(), sources: vec![class::<$A>()] }
    }};
}

macro_rules! binary {
    ($A:ty, $B:ty => $R:ty, $f:expr) => {{
        fn run(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
            let (a, b) = (w.get::<$A>(op.r[1]), w.get::<$B>(op.r[2]));
            let f = |a: $A, b: $B| -> $R { ($f)(a, b) };
            w.put::<$R>(op.r[0], std::array::from_fn(|lane| f(a[lane], b[lane])), mask);
            Ok(())
        }
        Recipe { run, target: class::<$R>(), sources: vec![class::<$A>(), class::<$B>()] }
    }};
}

macro_rules! ternary {
    ($A:ty, $B:ty, $C:ty => $R:ty, $f:expr) => {{
        fn run(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
            let (a, b, c) = (w.get::<$A>(op.r[1]), w.get::<$B>(op.r[2]), w.get::<$C>(op.r[3]));
            let f = |a: $A, b: $B, c: $C| -> $R { ($f)(a, b, c) };
            w.put::<$R>(op.r[0], std::array::from_fn(|lane| f(a[lane], b[lane], c[lane])), mask);
            Ok(())
        }
        Recipe { run, target: class::<$R>(), sources: vec![class::<$A>(), class::<$B>(), class::<$C>()] }
    }};
}

/// The body once for each integer type, under the name `T`.
macro_rules! by_integer {
    ($kind:expr, $T:ident => $body:expr) => {
        match $kind {
            "u16" | "b16" => {
                type $T = u16;
                Some($body)
            }
            "s16" => {
                type $T = i16;
                Some($body)
            }
            "u32" | "b32" => {
                type $T = u32;
                Some($body)
            }
            "s32" => {
                type $T = i32;
                Some($body)
            }
            "u64" | "b64" => {
                type $T = u64;
                Some($body)
            }
            "s64" => {
                type $T = i64;
                Some($body)
            }
            _ => None,
        }
    };
}

/// The body once for each floating-point type that PTX computes in.
macro_rules! by_float {
    ($kind:expr, $T:ident => $body:expr) => {
        match $kind {
            "f32" => {
                type $T = f32;
                Some($body)
            }
            "f64" => {
                type $T = f64;
                Some($body)
            }
            "f16" => {
                type $T = f16;
                Some($body)
            }
            "bf16" => {
                type $T = bf16;
                Some($body)
            }
            _ => None,
        }
    };
}

/// The body once for each pair of 16-bit floating-point numbers.
macro_rules! by_two {
    ($kind:expr, $T:ident => $body:expr) => {
        match $kind {
            "f16x2" => {
                type $T = f16;
                Some($body)
            }
            "bf16x2" => {
                type $T = bf16;
                Some($body)
            }
            _ => None,
        }
    };
}

/// Through f64: sums and products of 16- and 32-bit floats are rounded once.
pub trait Float: Value {
    fn wide(self) -> f64;
    fn of(value: f64) -> Self;
    fn fused(a: Self, b: Self, c: Self) -> Self;
}

impl Float for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn of(value: f64) -> Self {
        value
    }
    fn fused(a: Self, b: Self, c: Self) -> Self {
        a.mul_add(b, c)
    }
}

impl Float for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn of(value: f64) -> Self {
        value as f32
    }
    fn fused(a: Self, b: Self, c: Self) -> Self {
        a.mul_add(b, c)
    }
}

impl Float for f16 {
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn of(value: f64) -> Self {
        f16::from_f64(value)
    }
    fn fused(a: Self, b: Self, c: Self) -> Self {
        f16::from_f64(a.to_f64().mul_add(b.to_f64(), c.to_f64()))
    }
}

impl Float for bf16 {
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn of(value: f64) -> Self {
        bf16::from_f64(value)
    }
    fn fused(a: Self, b: Self, c: Self) -> Self {
        bf16::from_f64(a.to_f64().mul_add(b.to_f64(), c.to_f64()))
    }
}

fn through<T: Float>(f: impl Fn(f64, f64) -> f64) -> impl Fn(T, T) -> T {
    move |a, b| T::of(f(a.wide(), b.wide()))
}

/// The greater, the lesser: a NaN yields to a number unless `.NaN` says that it wins.
fn extreme<T: Float>(a: T, b: T, greater: bool, nan_wins: bool) -> T {
    let (x, y) = (a.wide(), b.wide());
    if x.is_nan() || y.is_nan() {
        return if nan_wins || x.is_nan() && y.is_nan() {
            T::of(f64::NAN)
        } else if x.is_nan() {
            b
        } else {
            a
        };
    }
    let a_is_greater = x > y || x == y && !x.is_sign_negative();
    if a_is_greater == greater { a } else { b }
}

/// Arithmetic by name; `None`: there is no such instruction here.
pub fn recipe(parts: &[&str]) -> Option<Recipe> {
    let (base, kind) = (*parts.first()?, *parts.last()?);
    let has = |modifier: &str| parts[1..].contains(&modifier);
    if has("rm") || has("rp") {
        return None;
    }
    if has("rz") && !matches!(base, "cvt") {
        return None;
    }
    let nan = has("NaN");
    match base {
        "mov" if kind == "f32" => Some(unary!(u32 => u32, |a| a)),
        "mov" if kind == "f64" => Some(unary!(u64 => u64, |a| a)),
        "mov" => by_integer!(kind, T => unary!(T => T, |a| a)),
        "add" if has("sat") && kind == "s32" => Some(binary!(i32, i32 => i32, i32::saturating_add)),
        "add" => by_integer!(kind, T => binary!(T, T => T, T::wrapping_add))
            .or_else(|| match kind {
                "f32" if has("sat") => {
                    Some(binary!(f32, f32 => f32, |a: f32, b: f32| (a + b).clamp(0.0, 1.0)))
                }
                "f32" => Some(binary!(f32, f32 => f32, |a, b| a + b)),
                _ => by_float!(kind, T => binary!(T, T => T, through(|a, b| a + b))),
            })
            .or_else(|| {
                by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                    let f = through(|a, b| a + b);
                    Two(f(a.0, b.0), f(a.1, b.1))
                }))
            }),
        "sub" if has("sat") && kind == "s32" => Some(binary!(i32, i32 => i32, i32::saturating_sub)),
        "sub" => by_integer!(kind, T => binary!(T, T => T, T::wrapping_sub))
            .or_else(|| match kind {
                "f32" => Some(binary!(f32, f32 => f32, |a, b| a - b)),
                _ => by_float!(kind, T => binary!(T, T => T, through(|a, b| a - b))),
            })
            .or_else(|| {
                by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                    let f = through(|a, b| a - b);
                    Two(f(a.0, b.0), f(a.1, b.1))
                }))
            }),
        "mul" if has("wide") => match kind {
            "u16" => Some(binary!(u16, u16 => u32, |a, b| u32::from(a) * u32::from(b))),
            "s16" => Some(binary!(i16, i16 => i32, |a, b| i32::from(a) * i32::from(b))),
            "u32" => Some(binary!(u32, u32 => u64, |a, b| u64::from(a) * u64::from(b))),
            "s32" => Some(binary!(i32, i32 => i64, |a, b| i64::from(a) * i64::from(b))),
            _ => None,
        },
        "mul" if has("hi") => match kind {
            "u32" => Some(binary!(u32, u32 => u32, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32)),
            "s32" => Some(binary!(i32, i32 => i32, |a, b| ((i64::from(a) * i64::from(b)) >> 32) as i32)),
            "u64" => Some(binary!(u64, u64 => u64, |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64)),
            "s64" => Some(binary!(i64, i64 => i64, |a, b| ((i128::from(a) * i128::from(b)) >> 64) as i64)),
            _ => None,
        },
        "mul" => by_integer!(kind, T => binary!(T, T => T, T::wrapping_mul))
            .or_else(|| match kind {
                "f32" => Some(binary!(f32, f32 => f32, |a, b| a * b)),
                _ => by_float!(kind, T => binary!(T, T => T, through(|a, b| a * b))),
            })
            .or_else(|| {
                by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                    let f = through(|a, b| a * b);
                    Two(f(a.0, b.0), f(a.1, b.1))
                }))
            }),
        "mad" if has("wide") => match kind {
            "u16" => Some(ternary!(u16, u16, u32 => u32, |a, b, c| {
                (u32::from(a) * u32::from(b)).wrapping_add(c)
            })),
            "u32" => Some(ternary!(u32, u32, u64 => u64, |a, b, c| {
                (u64::from(a) * u64::from(b)).wrapping_add(c)
            })),
            "s32" => Some(ternary!(i32, i32, i64 => i64, |a, b, c| {
                (i64::from(a) * i64::from(b)).wrapping_add(c)
            })),
            _ => None,
        },
        "mad" if has("lo") => {
            by_integer!(kind, T => ternary!(T, T, T => T, |a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
        }
        "fma" | "mad" => by_float!(kind, T => ternary!(T, T, T => T, T::fused)).or_else(|| {
            by_two!(kind, T => ternary!(Two<T>, Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>, c: Two<T>| {
                Two(T::fused(a.0, b.0, c.0), T::fused(a.1, b.1, c.1))
            }))
        }),
        // A division of whole numbers by zero gives what nobody should use.
        "div" => by_integer!(kind, T => binary!(T, T => T, |a: T, b: T| a.checked_div(b).unwrap_or(T::MAX)))
            .or_else(|| match kind {
                "f32" => Some(binary!(f32, f32 => f32, |a, b| a / b)),
                "f64" => Some(binary!(f64, f64 => f64, |a, b| a / b)),
                _ => None,
            }),
        "rem" => by_integer!(kind, T => binary!(T, T => T, |a: T, b: T| a.checked_rem(b).unwrap_or(a))),
        "min" => by_integer!(kind, T => binary!(T, T => T, T::min))
            .or_else(|| match (kind, nan) {
                (_, true) => by_float!(kind, T => binary!(T, T => T, |a, b| extreme(a, b, false, true))),
                (_, false) => by_float!(kind, T => binary!(T, T => T, |a, b| extreme(a, b, false, false))),
            })
            .or_else(|| {
                if nan {
                    by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                        Two(extreme(a.0, b.0, false, true), extreme(a.1, b.1, false, true))
                    }))
                } else {
                    by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                        Two(extreme(a.0, b.0, false, false), extreme(a.1, b.1, false, false))
                    }))
                }
            }),
        "max" => by_integer!(kind, T => binary!(T, T => T, T::max))
            .or_else(|| match (kind, nan) {
                (_, true) => by_float!(kind, T => binary!(T, T => T, |a, b| extreme(a, b, true, true))),
                (_, false) => by_float!(kind, T => binary!(T, T => T, |a, b| extreme(a, b, true, false))),
            })
            .or_else(|| {
                if nan {
                    by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                        Two(extreme(a.0, b.0, true, true), extreme(a.1, b.1, true, true))
                    }))
                } else {
                    by_two!(kind, T => binary!(Two<T>, Two<T> => Two<T>, |a: Two<T>, b: Two<T>| {
                        Two(extreme(a.0, b.0, true, false), extreme(a.1, b.1, true, false))
                    }))
                }
            }),
        "abs" => match kind {
            "s16" => Some(unary!(i16 => i16, |a| a.wrapping_abs())),
            "s32" => Some(unary!(i32 => i32, |a| a.wrapping_abs())),
            "s64" => Some(unary!(i64 => i64, |a| a.wrapping_abs())),
            "f32" => Some(unary!(f32 => f32, |a| a.abs())),
            "f64" => Some(unary!(f64 => f64, |a| a.abs())),
            "f16" | "bf16" => Some(unary!(u16 => u16, |a| a & 0x7FFF)),
            "f16x2" | "bf16x2" => Some(unary!(u32 => u32, |a| a & 0x7FFF_7FFF)),
            _ => None,
        },
        "neg" => match kind {
            "s16" => Some(unary!(i16 => i16, |a| a.wrapping_neg())),
            "s32" => Some(unary!(i32 => i32, |a| a.wrapping_neg())),
            "s64" => Some(unary!(i64 => i64, |a| a.wrapping_neg())),
            "f32" => Some(unary!(f32 => f32, |a| -a)),
            "f64" => Some(unary!(f64 => f64, |a| -a)),
            "f16" | "bf16" => Some(unary!(u16 => u16, |a| a ^ 0x8000)),
            "f16x2" | "bf16x2" => Some(unary!(u32 => u32, |a| a ^ 0x8000_8000)),
            _ => None,
        },
        "sqrt" => match kind {
            "f32" => Some(unary!(f32 => f32, |a| a.sqrt())),
            "f64" => Some(unary!(f64 => f64, |a| a.sqrt())),
            _ => None,
        },
        "rsqrt" => by_float!(kind, T => unary!(T => T, |a| T::of(1.0 / a.wide().sqrt()))),
        "rcp" => by_float!(kind, T => unary!(T => T, |a| T::of(1.0 / a.wide()))),
        "ex2" => by_float!(kind, T => unary!(T => T, |a| T::of(a.wide().exp2()))).or_else(|| {
            by_two!(kind, T => unary!(Two<T> => Two<T>, |a| {
                Two(T::of(a.0.wide().exp2()), T::of(a.1.wide().exp2()))
            }))
        }),
        "lg2" => by_float!(kind, T => unary!(T => T, |a| T::of(a.wide().log2()))),
        "sin" => by_float!(kind, T => unary!(T => T, |a| T::of(a.wide().sin()))),
        "cos" => by_float!(kind, T => unary!(T => T, |a| T::of(a.wide().cos()))),
        "tanh" => by_float!(kind, T => unary!(T => T, |a| T::of(a.wide().tanh()))),
        "copysign" if kind == "f32" => Some(binary!(f32, f32 => f32, |a: f32, b: f32| b.copysign(a))),
        "and" | "or" | "xor" | "not" if kind == "pred" => Some(logic(base)),
        "and" => by_integer!(kind, T => binary!(T, T => T, |a, b| a & b)),
        "or" => by_integer!(kind, T => binary!(T, T => T, |a, b| a | b)),
        "xor" => by_integer!(kind, T => binary!(T, T => T, |a, b| a ^ b)),
        "not" => by_integer!(kind, T => unary!(T => T, |a| !a)),
        "shl" => {
            by_integer!(kind, T => binary!(T, u32 => T, |a: T, b: u32| if b < T::BITS { a << b } else { 0 }))
        }
        "shr" => by_integer!(kind, T => binary!(T, u32 => T, |a: T, b: u32| {
            if b < T::BITS { a >> b } else { a >> (T::BITS - 1) >> 1 }
        })),
        "popc" if kind == "b32" => Some(unary!(u32 => u32, |a| a.count_ones())),
        "popc" if kind == "b64" => Some(unary!(u64 => u32, |a| a.count_ones())),
        "clz" if kind == "b32" => Some(unary!(u32 => u32, |a| a.leading_zeros())),
        "clz" if kind == "b64" => Some(unary!(u64 => u32, |a| a.leading_zeros())),
        "brev" if kind == "b32" => Some(unary!(u32 => u32, |a| a.reverse_bits())),
        "brev" if kind == "b64" => Some(unary!(u64 => u64, |a| a.reverse_bits())),
        // The place of the highest bit, or how far it is from the top; all ones where there is none.
        "bfind" if kind == "u32" && has("shiftamt") => {
            Some(unary!(u32 => u32, |a| if a == 0 { u32::MAX } else { a.leading_zeros() }))
        }
        "bfind" if kind == "u32" => Some(unary!(u32 => u32, |a| a.checked_ilog2().unwrap_or(u32::MAX))),
        "bfe" if kind == "u32" => Some(ternary!(u32, u32, u32 => u32, |a: u32, at: u32, count: u32| {
            let (at, count) = (at & 255, count & 255);
            let shifted = if at < 32 { a >> at } else { 0 };
            if count >= 32 { shifted } else { shifted & ((1 << count) - 1) }
        })),
        "prmt" if kind == "b32" => Some(ternary!(u32, u32, u32 => u32, permute)),
        "shf" => shift_of_two(parts),
        _ => None,
    }
}

/// Bytes of two registers picked by four selectors; bit 3 of a selector spreads the byte's sign.
fn permute(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
    (0..4).fold(0, |found, at| {
        let selector = selectors >> (4 * at) & 15;
        let byte = bytes[(selector & 7) as usize];
        let byte = if selector & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        found | u32::from(byte) << (8 * at)
    })
}

/// `shf`: 64 bits shifted, one half of them taken.
fn shift_of_two(parts: &[&str]) -> Option<Recipe> {
    Some(match &parts[1..] {
        ["l", "wrap", "b32"] => ternary!(u32, u32, u32 => u32, |low: u32, high: u32, by: u32| {
            let both = u64::from(high) << 32 | u64::from(low);
            (both << (by & 31) >> 32) as u32
        }),
        ["r", "wrap", "b32"] => ternary!(u32, u32, u32 => u32, |low: u32, high: u32, by: u32| {
            ((u64::from(high) << 32 | u64::from(low)) >> (by & 31)) as u32
        }),
        _ => return None,
    })
}

fn logic(base: &str) -> Recipe {
    macro_rules! on_predicates {
        ($f:expr) => {{
            fn run(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
                let f: fn(u32, u32) -> u32 = $f;
                w.set_predicate(op.r[0], f(w.predicate(op.r[1]), w.predicate(op.r[2])), mask);
                Ok(())
            }
            Recipe { run, target: Class::Predicate, sources: vec![Class::Predicate; 2] }
        }};
    }
    match base {
        "and" => on_predicates!(|a, b| a & b),
        "or" => on_predicates!(|a, b| a | b),
        "xor" => on_predicates!(|a, b| a ^ b),
        _ => Recipe { sources: vec![Class::Predicate], ..on_predicates!(|a, _| !a) },
    }
}

/// `setp.CMP.TYPE p, a, b`: the predicate alone; what is combined with it is the caller's.
pub fn comparison(test: &str, kind: &str) -> Option<Recipe> {
    macro_rules! compare {
        ($T:ty, $f:expr) => {{
            fn run(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
                let (a, b) = (w.get::<$T>(op.r[1]), w.get::<$T>(op.r[2]));
                let f = |a: $T, b: $T| -> bool { ($f)(a, b) };
                w.set_predicate(op.r[0], bits(|lane| f(a[lane], b[lane])), mask);
                Ok(())
            }
            Recipe { run, target: Class::Predicate, sources: vec![class::<$T>(); 2] }
        }};
    }
    if let "f32" | "f64" | "f16" | "bf16" = kind {
        return match test {
            "eq" => by_float!(kind, T => compare!(T, |a: T, b: T| a == b)),
            "ne" => {
                by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_some_and(|o| o.is_ne())))
            }
            "lt" => by_float!(kind, T => compare!(T, |a: T, b: T| a < b)),
            "le" => by_float!(kind, T => compare!(T, |a: T, b: T| a <= b)),
            "gt" => by_float!(kind, T => compare!(T, |a: T, b: T| a > b)),
            "ge" => by_float!(kind, T => compare!(T, |a: T, b: T| a >= b)),
            "equ" => {
                by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_none_or(|o| o.is_eq())))
            }
            "neu" => by_float!(kind, T => compare!(T, |a: T, b: T| a != b)),
            "ltu" => {
                by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_none_or(|o| o.is_lt())))
            }
            "leu" => {
                by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_none_or(|o| o.is_le())))
            }
            "gtu" => {
                by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_none_or(|o| o.is_gt())))
            }
            "geu" => {
                by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_none_or(|o| o.is_ge())))
            }
            "num" => by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_some())),
            "nan" => by_float!(kind, T => compare!(T, |a: T, b: T| a.partial_cmp(&b).is_none())),
            _ => None,
        };
    }
    match test {
        "eq" => by_integer!(kind, T => compare!(T, |a, b| a == b)),
        "ne" => by_integer!(kind, T => compare!(T, |a, b| a != b)),
        "lt" | "lo" => by_integer!(kind, T => compare!(T, |a, b| a < b)),
        "le" | "ls" => by_integer!(kind, T => compare!(T, |a, b| a <= b)),
        "gt" | "hi" => by_integer!(kind, T => compare!(T, |a, b| a > b)),
        "ge" | "hs" => by_integer!(kind, T => compare!(T, |a, b| a >= b)),
        _ => None,
    }
}

/// Moves from one row, or two, to as many.
pub fn select(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let chosen = w.predicate(op.r[3]);
    for row in 0..op.imm as usize {
        let (a, b) = (w.rows[op.r[1] + row], w.rows[op.r[2] + row]);
        let values = std::array::from_fn(|lane| if chosen >> lane & 1 == 1 { a[lane] } else { b[lane] });
        w.put::<u32>(op.r[0] + row, values, mask);
    }
    Ok(())
}

/// `lop3`: any function of three bits, by its table.
pub fn three_bits(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let [a, b, c] = [1, 2, 3].map(|at| w.rows[op.r[at]]);
    let mut found = [0; LANES];
    for (lane, found) in found.iter_mut().enumerate() {
        for entry in 0..8 {
            if op.imm >> entry & 1 == 1 {
                let of = |x: u32, bit: i64| if entry >> bit & 1 == 1 { x } else { !x };
                *found |= of(a[lane], 2) & of(b[lane], 1) & of(c[lane], 0);
            }
        }
    }
    w.put::<u32>(op.r[0], found, mask);
    Ok(())
}

/// `bfi.b32 d, a, b, at, count`: bits of `a` put into `b`.
pub fn insert_bits(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let [a, b, at, count] = [1, 2, 3, 4].map(|i| w.rows[op.r[i]]);
    let values = std::array::from_fn(|lane| {
        let (at, count) = (at[lane] & 255, count[lane] & 255);
        let field = (1u64 << count.min(32)) - 1;
        let field = (field << at.min(32)) as u32;
        b[lane] & !field | ((u64::from(a[lane]) << at.min(32)) as u32) & field
    });
    w.put::<u32>(op.r[0], values, mask);
    Ok(())
}

/// `shfl.sync`: a lane's register read by others. `imm`: the mode; `list`: the row of a predicate, if one is asked for.
pub fn shuffle(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let [a, b, c] = [1, 2, 3].map(|at| w.rows[op.r[at]]);
    let (takers, a) = if w.party == 0 { (mask, a) } else { (w.party, w.given) };
    let mut values = [0; LANES];
    let mut inside = 0;
    for lane in lanes(mask) {
        let (by, clamp, segment) = (b[lane] & 31, c[lane] & 31, c[lane] >> 8 & 31);
        let own = lane as u32;
        let last = own & segment | clamp & !segment;
        let (from, valid) = match op.imm {
            0 => (own.wrapping_sub(by), own >= by && own - by >= last),
            1 => (own + by, own + by <= last),
            2 => (own ^ by, own ^ by <= last),
            _ => {
                let from = own & segment | by & !segment;
                (from, from <= last)
            }
        };
        let from = if valid { from } else { own };
        if takers >> from & 1 == 0 {
            return Err(format!("lane {lane} reads lane {from}, which does not take part"));
        }
        values[lane] = a[from as usize];
        inside |= u32::from(valid) << lane;
    }
    w.put::<u32>(op.r[0], values, mask);
    if let Some(&row) = op.list.first() {
        w.set_predicate(row, inside, mask);
    }
    Ok(())
}

/// `vote.sync`: `imm` 0 all, 1 any, 2 ballot (a word), 3 uni.
pub fn vote(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    if w.party != 0 {
        return Err("a vote at different instructions".to_owned());
    }
    let mut yes = w.predicate(op.r[1]);
    if op.list.first() == Some(&1) {
        yes = !yes;
    }
    yes &= mask;
    match op.imm {
        0 => w.set_predicate(op.r[0], if yes == mask { mask } else { 0 }, mask),
        1 => w.set_predicate(op.r[0], if yes != 0 { mask } else { 0 }, mask),
        2 => w.put::<u32>(op.r[0], [yes; LANES], mask),
        _ => w.set_predicate(op.r[0], if yes == mask || yes == 0 { mask } else { 0 }, mask),
    }
    Ok(())
}

/// `activemask`.
pub fn active(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    w.put::<u32>(op.r[0], [mask; LANES], mask);
    Ok(())
}

/// `elect.sync`: one lane of those that take part.
pub fn elect(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let all = if w.party == 0 { mask } else { w.party };
    w.set_predicate(op.r[0], all & all.wrapping_neg(), mask);
    Ok(())
}
