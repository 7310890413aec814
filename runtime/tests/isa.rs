//! Every instruction set of the CPU engine that this machine has, against the portable one and against itself.
//!
//! Memory: valgrind runs them too, but 3.19 knows no AVX-512, and under it only AVX2 is there. The address sanitizer
//! sees all: `RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test -p impasto --no-default-features --target
//! x86_64-unknown-linux-gnu --test isa --lib`.

mod isa {
    pub mod flat;
    pub mod portable;
    pub mod repeat;
    pub mod support;
}
