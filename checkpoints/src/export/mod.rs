//! Style models for other programs: ONNX, the format that most of them read.
//!
//! - `network`: a style model's network as ONNX operators
//! - `messages`: the messages of ONNX's file format that this needs
//!
//! What an exported model takes and gives, in `f32`: [`INPUT`] and [`OUTPUT`], `[1, 3, height, width]`, RGB 0..255 by
//! planes, any height and width from 1 on. The output is the network's own, neither rounded nor clamped: what
//! `impasto` paints is `clamp(round(x), 0, 255)`. Weights are f32 whatever type they have in the style model's file.
//!
//! Operator set 13 with IR version 7 (ONNX 1.8, November 2020) is the oldest that has everything the network needs
//! (reflection with amounts as an input, `Resize` that says how it rounds, `Max` of integers) without operators that
//! were redefined soon after, so that old and new run times alike read it.

mod messages;
mod network;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;

use prost::Message;

use crate::atomic::write_atomically;
use crate::error::CheckpointError;
use crate::style_model::StyleModel;
use messages::{
    Dimension, DimensionValue, ElementType, Graph, Model, OperatorSet, Property, Shape, TensorKind,
    ValueInfo, ValueKind,
};

/// Version of ONNX's operators in exported models.
pub const OPERATOR_SET: i64 = 13;
/// Version of ONNX's file format in exported models.
pub const IR_VERSION: i64 = 7;
/// Name of an exported model's input.
pub const INPUT: &str = "rgb255";
/// Name of an exported model's output.
pub const OUTPUT: &str = "painted";

/// Protocol buffers of 2 GiB and more are read by nobody.
const MAX_BYTES: usize = i32::MAX as usize;

/// The bytes of a style model as an ONNX file. Equal models give equal bytes.
///
/// # Shapes
/// In the exported model, [`INPUT`] and [`OUTPUT`]: `[1, 3, height, width]`
///
/// # Units
/// RGB 0..255 in f32, the output neither rounded nor clamped.
///
/// # Errors
/// [`CheckpointError::Architecture`] when the file would exceed the format's 2 GiB, [`CheckpointError::Format`] when
/// the metadata cannot be written as JSON.
///
/// # Source
/// Operators: <https://onnx.ai/onnx/operators/>, file format: `onnx/onnx.proto`.
pub fn to_onnx(model: &StyleModel) -> Result<Vec<u8>, CheckpointError> {
    let metadata = model.metadata();
    let network::Operators { nodes, constants } = network::operators(model)?;
    let size = "any height and width";
    let file = Model {
        ir_version: IR_VERSION,
        producer_name: "impasto".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!(
            "Paints a picture in the style {}: {INPUT}, RGB 0..255 as f32 [1, 3, height, width], to {OUTPUT}, the same; \
             {size}. A byte of the painting is clamp(round(x), 0, 255).",
            metadata.name
        ),
        graph: Some(Graph {
            node: nodes,
            name: metadata.name.clone(),
            initializer: constants,
            doc_string: format!("transform network {}", metadata.architecture),
            input: vec![value_info(INPUT, &format!("the picture: RGB 0..255 by planes, {size}"))],
            output: vec![value_info(
                OUTPUT,
                "the painting: RGB 0..255 by planes, neither rounded nor clamped, of the picture's size",
            )],
        }),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }],
        metadata_props: properties(model)?,
    };
    let length = file.encoded_len();
    if length > MAX_BYTES {
        return Err(CheckpointError::Architecture {
            reason: format!(
                "as ONNX it takes {} MB, expected under 2 GiB, the format's limit",
                length / 1_000_000
            ),
        });
    }
    Ok(file.encode_to_vec())
}

/// Writes a style model as an ONNX file: temporary name, sync, rename. Gives the file's length in bytes.
///
/// # Errors
/// As [`to_onnx`], and [`CheckpointError::Io`] with the file's name.
pub fn save_onnx(model: &StyleModel, path: impl AsRef<Path>) -> Result<usize, CheckpointError> {
    let path = path.as_ref();
    let bytes = to_onnx(model).map_err(|error| error.in_file(path))?;
    write_atomically(path, |out| out.write_all(&bytes)).map_err(|source| CheckpointError::Io {
        action: "write",
        path: path.to_path_buf(),
        source,
    })?;
    Ok(bytes.len())
}

/// The model's papers: in plain words for those who look, and under `impasto` whole, as in the style model's file.
fn properties(model: &StyleModel) -> Result<Vec<Property>, CheckpointError> {
    let metadata = model.metadata();
    let credits = metadata.credits.iter().map(|c| format!("{}: {} ({})", c.role, c.work, c.license));
    let all = [
        ("style", metadata.name.clone()),
        ("license", metadata.license.clone().unwrap_or_else(|| "unknown".into())),
        ("credits", credits.collect::<Vec<_>>().join("; ")),
        ("architecture", metadata.architecture.to_string()),
        ("impasto", metadata.to_json()?),
    ];
    Ok(all.into_iter().map(|(key, value)| Property { key: key.into(), value }).collect())
}

/// `[1, 3, height, width]` in f32.
fn value_info(name: &str, words: &str) -> ValueInfo {
    let number = |n| DimensionValue::Number(n);
    let named = |name: &str| DimensionValue::Name(name.into());
    let dims = [number(1), number(3), named("height"), named("width")];
    let shape = Shape { dim: dims.into_iter().map(|value| Dimension { value: Some(value) }).collect() };
    let tensor = TensorKind { elem_type: ElementType::Float as i32, shape: Some(shape) };
    ValueInfo {
        name: name.into(),
        kind: Some(ValueKind { tensor_type: Some(tensor) }),
        doc_string: words.into(),
    }
}
