//! The table of models: style models, and the foreign ones that `styles import` takes.

use std::collections::BTreeMap;

use impasto::checkpoints::{StyleModel, Tensor};
use impasto_test_support::repository;

use super::files::{half, link, start, without_last};
use super::fixtures::fixture_bytes;
use super::pictures::{Bad, bad, place};
use super::support::small_model;

const NO_MODEL: &[&str] = &["not a style model: not a whole safetensors file", "hint: PyTorch files"];

pub const BAD_MODELS: &[Bad] = &[
    // name, how it is made, what is said
    bad("empty.safetensors", Vec::new, &["not a style model: the file is empty, expected safetensors"]),
    bad("text.safetensors", || b"Dear model, I am a text.\n".to_vec(), NO_MODEL),
    bad("picture.safetensors", || fixture_bytes("baseline.jpg"), NO_MODEL),
    bad("pytorch.safetensors", legacy, NO_MODEL),
    bad("zip.safetensors", zip, NO_MODEL),
    bad("head.safetensors", || start(good(), 5), NO_MODEL),
    bad("header.safetensors", || start(good(), 20), NO_MODEL),
    bad("middle.safetensors", || half(good()), NO_MODEL),
    bad("end.safetensors", || without_last(good(), 1), NO_MODEL),
    bad("appended.safetensors", || [good(), vec![0]].concat(), NO_MODEL),
    bad("bit.safetensors", || changed(8, b'{', b';'), NO_MODEL),
    bad("huge.safetensors", || [u64::MAX.to_le_bytes().to_vec(), good()].concat(), NO_MODEL),
    bad("zeros.safetensors", || vec![0; 100_000], NO_MODEL),
    bad(
        "papers.safetensors",
        || header("\"impasto\"", "\"impastO\""),
        &["without the metadata key `impasto`", "hint"],
    ),
    bad(
        "unknown papers.safetensors",
        || header("\\\"padding\\\"", "\\\"paddinq\\\""),
        &["paddinq", "expected"],
    ),
    bad(
        "newer.safetensors",
        || header("\\\"format_version\\\":1", "\\\"format_version\\\":2"),
        &["format version 2 is newer than 1", "hint: update impasto"],
    ),
    bad(
        "architecture.safetensors",
        || header("c9s1-2,d3", "c9s1-2,x3"),
        &["bad architecture: layer `x3` is none of cKsS-N, dN, RN, uN"],
    ),
    bad("even kernel.safetensors", || header("c9s1-2,d3", "c8s1-2,d3"), &["c8s1-2"]),
    bad("padding.safetensors", || header("\\\"reflect\\\"", "\\\"reflecT\\\""), &["reflecT", "expected"]),
    bad("wide.safetensors", || header("c9s1-2", "c9s1-4"), &["`conv1.conv2d.", "expected [4"]),
    bad(
        "missing tensor.safetensors",
        || header("\"in1.weight\"", "\"in1.weighd\""),
        &["`in1.weight`", "missing"],
    ),
    bad("surplus tensor.safetensors", surplus_tensor, &["`in9.weight`", "unknown; the architecture"]),
    bad("shape.safetensors", wrong_shape, &["`in1.bias`", "shape [3], expected [2]"]),
    bad(
        "nan.safetensors",
        || with_value(f32::NAN),
        &["`in1.bias`", "value 1 is NaN, expected finite numbers"],
    ),
    bad(
        "infinite.safetensors",
        || with_value(f32::INFINITY),
        &["`in1.bias`", "value 1 is inf, expected finite"],
    ),
    bad("\u{1b}[31mmodel\n\u{7}.safetensors", Vec::new, &["the file is empty"]),
    bad("\u{FFFD}.safetensors", Vec::new, &["the file is empty"]),
    place("missing.safetensors", |_| (), &["cannot read: No such file"]),
    place(
        "folder.safetensors",
        |path| std::fs::create_dir(path).expect("made"),
        &["is a folder, expected a model"],
    ),
    place("loop.safetensors", |path| link("loop.safetensors", path), &["cannot read: Too many levels"]),
    place("endless.safetensors", |path| link("/dev/zero", path), &["larger than 512 MiB, expected a model"]),
];

const NO_FOREIGN: &[&str] =
    &["neither a PyTorch file (zip or pickle) nor safetensors", "hint: a model is saved by"];

pub const BAD_FOREIGN_MODELS: &[Bad] = &[
    bad("empty.pth", Vec::new, &["the file is empty, expected a PyTorch or safetensors model"]),
    bad("text.pth", || b"Dear model, I am a text.\n".to_vec(), NO_FOREIGN),
    bad("picture.pth", || fixture_bytes("baseline.jpg"), NO_FOREIGN),
    bad("head.pth", || start(legacy(), 30), &["not a style model: broken pickle: it ends at byte"]),
    bad("middle.pth", || half(legacy()), &["not a style model: broken pickle: it ends at byte"]),
    bad("end.pth", || without_last(legacy(), 20), &["not a style model", "the file ends within them"]),
    bad("head zip.pth", || start(zip(), 30), &["not a style model", "zip"]),
    bad("middle zip.pth", || half(zip()), &["not a style model", "zip"]),
    bad("end zip.pth", || without_last(zip(), 20), &["not a style model", "zip"]),
    bad("pickle.pth", || b"\x80\x02}q\x00".to_vec(), &["not a style model"]),
    bad("own.pth", good, &["impasto"]),
    // c os system, ('touch ran'), call: what `pickle.dumps` writes for an object with such a __reduce__.
    bad(
        "evil.pth",
        || b"\x80\x02cos\nsystem\nq\x00X\x09\x00\x00\x00touch ranq\x01\x85q\x02Rq\x03.".to_vec(),
        &["the pickle wants to call `os.system`", "nothing was run", "hint: save `model.state_dict()`"],
    ),
    place("missing.pth", |_| (), &["cannot read: No such file"]),
    place("folder.pth", |path| std::fs::create_dir(path).expect("made"), &["is a folder, expected a model"]),
    place("endless.pth", |path| link("/dev/zero", path), &["larger than 512 MiB, expected a model"]),
];

/// A whole style model.
pub fn good() -> Vec<u8> {
    small_model().to_bytes().expect("bytes")
}

/// A PyTorch file of pickles, whole.
pub fn legacy() -> Vec<u8> {
    fixture("johnson1.pt")
}

/// A PyTorch file that is a zip archive, whole.
fn zip() -> Vec<u8> {
    fixture("zip.pt")
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = repository("checkpoints/tests/fixtures");
    std::fs::read(folder.join(name)).expect("a fixture")
}

fn changed(at: usize, from: u8, to: u8) -> Vec<u8> {
    let mut bytes = good();
    assert_eq!(bytes[at], from);
    bytes[at] = to;
    bytes
}

/// The model with a text of its header exchanged for another of the same length.
fn header(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = good();
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    assert!(StyleModel::from_bytes(&bytes).is_err());
    bytes
}

fn surplus_tensor() -> Vec<u8> {
    with(|tensors| {
        tensors.insert("in9.weight".into(), Tensor::f32([1], vec![1.0]));
    })
}

fn wrong_shape() -> Vec<u8> {
    with(|tensors| {
        tensors.insert("in1.bias".into(), Tensor::f32([3], vec![0.0; 3]));
    })
}

fn with_value(value: f32) -> Vec<u8> {
    with(|tensors| tensors.get_mut("in1.bias").expect("a tensor").values[1] = value)
}

/// The model with other tensors and the same papers, whether they fit each other or not: the crate's own writer only
/// takes what [`StyleModel::new`] has checked.
fn with(change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> Vec<u8> {
    let mut tensors = small_model().tensors().clone();
    change(&mut tensors);
    let json = small_model().metadata().to_json().expect("papers");
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({ "impasto": json }));
    let mut data = Vec::new();
    for (key, tensor) in tensors {
        let start = data.len();
        data.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
        let entry =
            serde_json::json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, data.len()] });
        header.insert(key, entry);
    }
    let header = serde_json::to_vec(&header).expect("a header");
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
