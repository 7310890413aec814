//! What a command's `--version` says beyond a number: what its build has and what it finds, for reports of what went
//! wrong.

use std::env::consts::{ARCH, OS};

use crate::engine::Isa;

/// A version with the features in a build and not in it, the instruction sets of this machine, and the target: four
/// lines, before which clap puts the command's name.
pub fn describe(version: &str, features: &[(&str, bool)]) -> String {
    let named = |wanted: bool| {
        let names = features.iter().filter(|(_, there)| *there == wanted).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(", ")
    };
    let missing = Some(named(false)).filter(|names| !names.is_empty());
    let missing = missing.map_or(String::new(), |names| format!(" (without {names})"));
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Isa::name);
    let isas = isas.collect::<Vec<_>>().join(", ");
    let (there, target) = (named(true), target());
    format!("{version}\nfeatures: {there}{missing}\ninstruction sets here: {isas}\ntarget: {target}")
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
