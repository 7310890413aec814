//! `impasto --version`: what this build is and what it finds, for reports of what went wrong (`-V` is one line).

use std::env::consts::{ARCH, OS};
use std::sync::LazyLock;

use impasto::engine::Isa;

/// The features of this build that change what it can do, and whether they are in it.
const FEATURES: [(&str, bool); 5] = [
    ("webcam", cfg!(feature = "webcam")),
    ("serve", cfg!(feature = "serve")),
    ("reference", cfg!(feature = "reference")),
    ("cuda", cfg!(feature = "cuda")),
    ("wgpu", cfg!(feature = "wgpu")),
];

/// Version, features, instruction sets, target; clap puts the command's name before it.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION");
        let with = |wanted: bool| {
            let names = FEATURES.iter().filter(|(_, there)| *there == wanted).map(|(name, _)| *name);
            Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
        };
        let features = match (with(true), with(false)) {
            (there, None) => there.unwrap_or_default(),
            (None, Some(missing)) => format!("default (without {missing})"),
            (Some(there), Some(missing)) => format!("default, {there} (without {missing})"),
        };
        let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Isa::name);
        let isas = isas.collect::<Vec<_>>().join(", ");
        format!("{version}\nfeatures: {features}\ninstruction sets here: {isas}\ntarget: {}", target())
    });
    &LONG
}

/// The target as rustc names it, put together from what the code can know without a build script.
fn target() -> String {
    let vendor = if cfg!(target_vendor = "apple") {
        "apple"
    } else if cfg!(target_vendor = "pc") {
        "pc"
    } else {
        "unknown"
    };
    let system = if OS == "macos" { "darwin" } else { OS };
    let environment = if cfg!(target_env = "gnu") {
        "-gnu"
    } else if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "msvc") {
        "-msvc"
    } else {
        ""
    };
    format!("{ARCH}-{vendor}-{system}{environment}")
}
