//! A layer string: parsing never panics; whatever parses prints as it was written, and its sizes, costs and
//! tensors can be asked for under all conventions.
#![no_main]

use impasto_checkpoints::{Architecture, Layers, Padding, Upsampling};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(layers) = text.parse::<Layers>() else { return };
    assert_eq!(layers.to_string(), text);
    assert_eq!(Layers::new(layers.as_slice().to_vec()).expect("checked before"), layers);
    let mut architecture = Architecture::johnson(8).expect("the paper's network");
    architecture.layers = layers;
    for padding in [Padding::Reflect, Padding::ZeroSame] {
        for upsampling in [Upsampling::NearestConv, Upsampling::Transposed] {
            for output_norm in [false, true] {
                architecture.padding = padding;
                architecture.upsampling = upsampling;
                architecture.output_norm = output_norm;
                check(&architecture);
            }
        }
    }
});

fn check(architecture: &Architecture) {
    architecture.validate().expect("it parsed");
    assert!(architecture.parameter_count() > 0);
    assert!(architecture.multiply_adds_per_pixel() > 0.0);
    assert!((1..=16).contains(&architecture.downscale()));
    let minimum = architecture.minimum_size();
    assert!((1..1000).contains(&minimum));
    for size in [1, minimum, 481, 100_000] {
        let output = architecture.output_size(size);
        assert!(output >= size && output < size + 16, "{size} → {output}");
    }
    let names: std::collections::BTreeSet<_> =
        architecture.tensors().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), architecture.tensors().len(), "names are unique");
}
