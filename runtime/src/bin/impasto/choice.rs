//! What the command line says of the style and the engine becomes a model, and a [`Stylizer`].

use std::path::Path;

use anyhow::{Result, bail};
use impasto::checkpoints::{StyleModel, shipped};
use impasto::{Stylizer, StylizerOptions};

use crate::args::{EngineArgs, StyleChoice};

/// The engine's options.
pub fn engine_options(args: &EngineArgs) -> StylizerOptions {
    StylizerOptions {
        device: args.device,
        precision: args.precision,
        threads: args.threads.map(usize::from),
        tile: args.tile,
    }
}

/// Opens the style that was chosen.
pub fn open_stylizer(choice: &StyleChoice, options: StylizerOptions) -> Result<Stylizer> {
    let model = match (&choice.style, &choice.model) {
        (Some(name), _) => shipped::load(name)?,
        (None, Some(path)) => StyleModel::load(path)?,
        (None, None) => bail!("no style; expected --style NAME or --model FILE"),
    };
    Ok(Stylizer::new(&model, options)?)
}

/// The style that is taken where none is asked for: the first that ships.
pub fn first_shipped() -> &'static str {
    shipped::names().next().unwrap_or_default()
}

/// A shipped style by name, else a file. A name that is also a file in the current folder means the style.
pub fn find(style: &Path) -> Result<StyleModel> {
    let text = style.to_string_lossy();
    if shipped::names().any(|name| name == text) || !(text.contains(['/', '.']) || style.exists()) {
        return Ok(shipped::load(&text)?);
    }
    Ok(StyleModel::load(style)?)
}
