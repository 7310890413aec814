//! Instruction sets: which this processor has, which is used, and `IMPASTO_ISA` that forces one.

use std::fmt;

use crate::error::RuntimeError;

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "IMPASTO_ISA";

/// Instruction set of the CPU engine's kernels, from the slowest to the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain safe Rust: any processor, and the reference for the others.
    Portable,
    /// AArch64 with NEON, which all of them have: 4 floats at a time.
    Neon,
    /// x86-64 with AVX2 and FMA: 8 floats at a time.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL): 16 floats at a time.
    Avx512,
    /// AVX-512 with the bf16 dot product: 32 products at a time in bf16.
    Avx512Bf16,
    /// Intel's tile matrix unit in bf16, beside AVX-512 and its bf16 conversions.
    Amx,
}

impl Isa {
    /// All, from the slowest to the fastest.
    pub const ALL: [Isa; 6] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// Its name in [`ISA_VARIABLE`] and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// Whether this processor and operating system have it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Isa::Portable => true,
                Isa::Neon => false,
                Isa::Avx2 => avx2,
                Isa::Avx512 => avx512,
                Isa::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
                Isa::Amx => {
                    avx512 && is_x86_feature_detected!("avx512bf16") && super::fast::amx_is_available()
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Portable || (cfg!(target_arch = "aarch64") && self == Isa::Neon)
        }
    }

    /// The fastest this machine has.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// What [`ISA_VARIABLE`] asks for, else the fastest.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the variable names none, or one that this machine lacks.
    pub fn from_environment() -> Result<Isa, RuntimeError> {
        let Some(value) = std::env::var_os(ISA_VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(Isa::best());
        };
        let value = value.to_string_lossy();
        let names = || Isa::ALL.map(Isa::name).join(", ");
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == value).ok_or_else(|| {
            RuntimeError::Device(format!(
                "{ISA_VARIABLE}={}: no such instruction set; expected one of {}",
                value.escape_debug(),
                names()
            ))
        })?;
        if !isa.is_available() {
            return Err(RuntimeError::Device(format!(
                "{ISA_VARIABLE}={isa}: this processor lacks it; hint: unset it, the best here is {}",
                Isa::best()
            )));
        }
        Ok(isa)
    }

    /// Whether bf16 is faster than f32 on it: what [`Precision::Auto`](super::Precision::Auto) goes by, beside the model.
    pub fn gains_from_bf16(self) -> bool {
        self >= Isa::Avx512Bf16
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
