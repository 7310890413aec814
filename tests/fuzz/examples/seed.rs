//! Fills `corpus/` from the tests' files and from models of the crate's own: `cargo run --example seed`.

use std::fs;
use std::path::Path;

use impasto_checkpoints::{Architecture, Credit, Dtype, Padding, StyleModel, Upsampling};

const LAYERS: [&str; 6] = [
    "c3s1-3",
    "c9s1-32,d64,d128,R128,R128,R128,R128,R128,u64,u32,c9s1-3",
    "c9s1-8,d16,u8,c9s1-3",
    "c5s1-2,c3s2-3,R3,u2,c5s1-3",
    "c3s1-1024,c15s1-3",
    "c1s2-4,d4,u4,R4,u4,c1s1-3",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = |target: &str| {
        let folder = here.join("corpus").join(target);
        fs::create_dir_all(&folder).map(|()| folder)
    };

    let (import, metadata, architecture) = (corpus("import")?, corpus("metadata")?, corpus("architecture")?);
    for entry in fs::read_dir(here.join("../../checkpoints/tests/fixtures"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension != "py") {
            fs::copy(&path, import.join(path.file_name().ok_or("a file without a name")?))?;
        }
    }
    for (number, layers) in LAYERS.iter().enumerate() {
        fs::write(architecture.join(format!("layers{number}")), layers)?;
    }

    let mut network = Architecture::johnson(8)?;
    for (layers, padding, upsampling, dtype) in [
        ("c3s1-3", Padding::Reflect, Upsampling::NearestConv, Dtype::F32),
        ("c3s1-2,d2,R2,u2,c3s1-3", Padding::ZeroSame, Upsampling::Transposed, Dtype::F16),
        ("c1s1-1,d1,u1,c1s1-3", Padding::Reflect, Upsampling::Transposed, Dtype::Bf16),
    ] {
        network.layers = layers.parse()?;
        network.padding = padding;
        network.upsampling = upsampling;
        network.output_norm = padding == Padding::ZeroSame;
        let mut model = StyleModel::random(network.clone(), 1)?.to_dtype(dtype)?;
        model.amend(|papers| {
            papers.license = Some("CC0".into());
            papers.credits.push(Credit {
                work: "a painting".into(),
                license: "public domain".into(),
                role: "style picture".into(),
            });
            papers.bf16_psnr = Some(41.25);
        });
        let bytes = model.to_bytes()?;
        fs::write(metadata.join(dtype.name()), &bytes)?;
        fs::write(import.join(format!("own_{}", dtype.name())), &bytes)?;
    }
    Ok(())
}
