//! `impasto --version`: what this build is and what it finds (`-V` is one line).

use std::sync::LazyLock;

/// The features of this build that change what it can do, and whether they are in it.
const FEATURES: [(&str, bool); 6] = [
    ("default", true),
    ("webcam", cfg!(feature = "webcam")),
    ("serve", cfg!(feature = "serve")),
    ("reference", cfg!(feature = "reference")),
    ("cuda", cfg!(feature = "cuda")),
    ("wgpu", cfg!(feature = "wgpu")),
];

/// [`impasto::version::describe`], kept for clap.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> =
        LazyLock::new(|| impasto::version::describe(env!("CARGO_PKG_VERSION"), &FEATURES));
    &LONG
}
