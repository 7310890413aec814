//! `impasto styles export`: a style model for other programs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use impasto::checkpoints::export;
use serde_json::json;

use crate::args::ResultArgs;
use crate::choice::find;
use crate::files::refuse_existing;
use crate::interrupt;
use crate::say::{Say, json_line, print};

#[derive(Args)]
pub struct ExportArgs {
    /// A shipped style's name or a model file
    #[arg(value_name = "NAME|FILE")]
    pub style: PathBuf,
    /// As an ONNX model: f32, any height and width, RGB 0..255 by planes in and out, neither rounded nor clamped
    #[arg(long, required = true)]
    pub onnx: bool,
    /// The file to write
    #[arg(long, short, value_name = "OUT.onnx")]
    pub output: PathBuf,
    #[command(flatten)]
    pub result: ResultArgs,
}

pub fn run(args: ExportArgs, say: Say) -> Result<()> {
    let output = args.output.display();
    refuse_existing(&args.output, args.result.overwrite)?;
    if args.output.extension().is_none_or(|extension| extension != "onnx") {
        bail!("{output}: an ONNX model's name ends in .onnx");
    }
    let model = find(&args.style)?;
    let bytes = {
        let _guard = interrupt::writing();
        export::save_onnx(&model, &args.output)?
    };
    let license = model.metadata().license.as_deref();
    if args.result.json {
        return print(json_line(&json!({
            "style": model.metadata().name,
            "output": output.to_string(),
            "bytes": bytes,
            "operator_set": export::OPERATOR_SET,
            "ir_version": export::IR_VERSION,
            "input": export::INPUT,
            "painted": export::OUTPUT,
            "shape": [json!(1), json!(3), json!("height"), json!("width")],
            "license": license,
        }))?);
    }
    say.note(&format!(
        "{output}: {:.1} MB, ONNX operator set {}; {} to {}: f32 [1, 3, height, width], RGB 0..255, any size; a byte is clamp(round(x), 0, 255)",
        bytes as f64 / 1e6,
        export::OPERATOR_SET,
        export::INPUT,
        export::OUTPUT,
    ));
    say.note(&format!("licence of the weights: {}", license.unwrap_or("unknown")));
    Ok(())
}
