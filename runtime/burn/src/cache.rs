//! The user's cache folder: where it is, and that CubeCL keeps its tuning there.

use std::path::PathBuf;

use etcetera::{BaseStrategy, HomeDirError};

/// `…/impasto` in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`, on Unix).
///
/// # Errors
/// When the user has no home folder.
pub(crate) fn folder() -> Result<PathBuf, HomeDirError> {
    Ok(etcetera::choose_base_strategy()?.cache_dir().join("impasto"))
}

/// Has CubeCL remember which kernels were fastest in `…/impasto/autotune` of the user's cache folder. Left alone, it
/// makes a folder `target` beside the nearest `Cargo.toml` above the working folder.
///
/// It must come before the first client is made, and what it does is done once in a process. A `cubecl.toml` (or
/// `burn.toml`) that CubeCL would find rules instead, and so does a configuration that a program has set before;
/// CubeCL's environment variables hold either way.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) fn keep_tuning() {
    use burn::cubecl::config::cache::CacheConfig;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    // Not `RuntimeConfig::set`, which panics where another thread was faster.
    let mut state = CubeClRuntimeConfig::storage().lock();
    if state.is_some() || is_configured::<CubeClRuntimeConfig>() {
        return;
    }
    let mut config = CubeClRuntimeConfig::default().override_from_env();
    // Without a home there is still a folder that is nobody's work. One that cannot be written is none to CubeCL,
    // which then tunes for this process alone.
    config.autotune.cache =
        CacheConfig::File(folder().unwrap_or_else(|_| std::env::temp_dir().join("impasto")));
    *state = Some(config.into());
}

/// Whether there is a configuration file where CubeCL looks for one: in the working folder and those above it.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn is_configured<C: burn::cubecl::config::RuntimeConfig>() -> bool {
    let Ok(here) = std::env::current_dir() else { return false };
    let sections = C::section_file_names().iter().map(|(name, _)| name);
    let names: Vec<_> = C::file_names().iter().chain(sections).collect();
    here.ancestors().any(|folder| names.iter().any(|name| folder.join(name).is_file()))
}
