//! Cuts a loss network's weight file down to what a training run needs: only the layers as deep as asked, in f16.
//!
//! `cargo run -p impasto-burn --example trim_weights -- vgg19.pth relu4_1 vgg19_relu4_1_f16.safetensors`

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use half::f16;
use impasto_burn::loss_network::LossWeights;
use impasto_checkpoints::write_atomically;
use safetensors::tensor::{Dtype, TensorView};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, layer, output] = arguments.as_slice() else {
        eprintln!("usage: trim_weights WEIGHTS LAYER OUT.safetensors");
        return ExitCode::from(2);
    };
    match trim(input, layer, Path::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trim_weights: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trim(input: &str, layer: &str, output: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let weights = LossWeights::load(input)?;
    let known = weights.layers();
    if !known.iter().any(|name| name == layer) {
        return Err(format!("{input}: no layer `{layer}`; it has {}", known.join(", ")).into());
    }
    // VGG's layers are named as its convolutions are: relu4_1 needs conv1_1 to conv4_1, which sort alphabetically.
    let deepest = layer.replace("relu", "conv");
    let kept = weights
        .tensors
        .iter()
        .filter(|(key, _)| key.split('.').next().unwrap_or_default() <= deepest.as_str());
    let data: Vec<(&String, Vec<usize>, Vec<u8>)> = kept
        .map(|(key, (shape, values))| {
            let bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
            (key, shape.clone(), bytes)
        })
        .collect();
    let views = data
        .iter()
        .map(|(key, shape, bytes)| Ok((key.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let metadata = HashMap::from([
        ("network".to_string(), weights.kind.name().to_string()),
        ("input_convention".to_string(), weights.convention.name().to_string()),
    ]);
    let file = safetensors::serialize(views, Some(metadata))?;
    write_atomically(output, |out| std::io::Write::write_all(out, &file))?;
    eprintln!("{}: {} tensors, {:.1} MB", output.display(), data.len(), file.len() as f64 / 1e6);
    Ok(())
}
