//! An NVIDIA card in software, for tests where there is none: `libcuda.so` over an interpreter of PTX.
//!
//! Burn compiles its kernels with NVIDIA's own run-time compiler (NVRTC needs no card) and hands the PTX to the driver.
//! This driver runs it: every instruction on 32 lanes in lock step, blocks on the host's cores. So the kernels that a
//! card would get are run, and their numbers compared; nothing is learned about a card's speed, about its own assembler
//! (but see `IMPASTO_CARD_PTXAS`), or about what happens between streams, which are done at once here.
//! `scripts/test-cuda` puts it all together.
//!
//! What it finds out that a card may not: memory that nobody wrote is no number (NaN; allocations above 64 MiB begin as
//! zeros), every access is checked against the allocations and the shared memory asked for, and its alignment too. What
//! it does not: threads that race, and asynchronous copies that are read before they were waited for.
//!
//! | file | duty |
//! | --- | --- |
//! | `driver` | CUDA's calls: memory, modules, launches |
//! | `ptx` | PTX as text into statements |
//! | `lower` | statements into functions and rows of registers |
//! | `machine` | blocks, warps, divergence, barriers |
//! | `lanes`, `memory` | registers of 32 lanes; state spaces and what may be reached |
//! | `alu`, `convert`, `access`, `matrix`, `mbarrier`, `tensor` | what instructions do |

#![allow(missing_docs, reason = "a test's tool, not a library")]

mod access;
mod alu;
mod convert;
pub mod driver;
mod lanes;
mod lower;
mod machine;
mod matrix;
mod mbarrier;
mod memory;
mod ptx;
mod tensor;

/// Whether every kernel of a module is understood.
///
/// # Errors
///
/// One line about the first instruction that is not.
pub fn check(ptx: &str) -> Result<(), String> {
    let module = ptx::parse(ptx)?;
    let globals = module.variables.iter().map(|variable| (variable.name.clone(), 0)).collect();
    module.functions.iter().try_for_each(|f| lower::lower(f, &module.variables, &globals).map(drop))
}
