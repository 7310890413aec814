//! What the instruction sets' tests share: engines, frames, random networks, differences.

use impasto::Precision;
use impasto::checkpoints::random::uniform;
use impasto::checkpoints::{
    Activation, Architecture, InputRange, Layer, Layers, Metadata, Output, Padding, StyleModel, Upsampling,
};
use impasto::engine::{Engine, ISA_VARIABLE, Isa, PaintedMut};

/// What a test paints: RGB bytes with their size.
pub struct Photo {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Photo {
    /// Noise, the same for the same seed.
    pub fn noise(seed: u64, width: usize, height: usize) -> Self {
        let values = uniform(seed, "photo", width * height * 3);
        Photo { width, height, rgb: values.map(|u| ((u + 1.0) * 128.0) as u8).collect() }
    }

    /// One colour.
    pub fn flat(colour: [u8; 3], width: usize, height: usize) -> Self {
        Photo { width, height, rgb: colour.repeat(width * height) }
    }

    /// Whether all pixels are the same.
    pub fn is_flat(&self) -> bool {
        self.rgb.chunks_exact(3).all(|pixel| pixel == &self.rgb[..3])
    }
}

/// The instruction sets that this machine has, without the portable one.
pub fn fast_isas() -> Vec<Isa> {
    all_isas().into_iter().filter(|&isa| isa != Isa::Portable).collect()
}

/// The instruction sets that this machine has; only the one that `IMPASTO_ISA` names, if it does.
pub fn all_isas() -> Vec<Isa> {
    if std::env::var_os(ISA_VARIABLE).is_some_and(|name| !name.is_empty()) {
        return vec![Isa::from_environment().expect("an instruction set of this machine")];
    }
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

pub fn engine(model: &StyleModel, precision: Precision, threads: usize, isa: Isa) -> Engine {
    let engine = Engine::with_isa(model, precision, threads, isa).expect("an engine");
    assert_eq!((engine.isa(), engine.precision(), engine.threads()), (isa, precision, threads));
    engine
}

/// The network's own values.
pub fn paint(engine: &Engine, photo: &Photo) -> Vec<f32> {
    // What the engine leaves alone is found out.
    let mut values = vec![f32::NAN; photo.rgb.len()];
    engine
        .run(&photo.rgb, photo.width, photo.height, PaintedMut::Values(&mut values))
        .expect("a painted frame");
    values
}

/// The painted bytes.
pub fn paint_bytes(engine: &Engine, photo: &Photo) -> Vec<u8> {
    let mut bytes = vec![77; photo.rgb.len()];
    engine
        .run(&photo.rgb, photo.width, photo.height, PaintedMut::Bytes(&mut bytes))
        .expect("a painted frame");
    bytes
}

/// Largest difference of two paintings; infinite if a value is not a number.
pub fn largest(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let difference = |(a, b): (&f32, &f32)| {
        let difference = (a - b).abs();
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    one.iter().zip(other).map(difference).fold(0.0, f32::max)
}

/// Root of the mean squared difference of two paintings.
pub fn rms(one: &[f32], other: &[f32]) -> f64 {
    assert_eq!(one.len(), other.len());
    let squares: f64 = one.iter().zip(other).map(|(&a, &b)| f64::from(a - b).powi(2)).sum();
    (squares / one.len() as f64).sqrt()
}

/// Johnson's network, its values in 0..255.
pub fn johnson(width: usize, seed: u64) -> StyleModel {
    let mut architecture = Architecture::johnson(width).expect("a width");
    (architecture.output.scale, architecture.output.offset) = (150.0, 127.5);
    StyleModel::random(architecture, seed).expect("a model")
}

/// The other conventions: zero padding, transposed doublings, a last norm, tanh.
pub fn tensorflow_style(width: usize, seed: u64) -> StyleModel {
    let mut architecture = Architecture::johnson(width).expect("a width");
    architecture.padding = Padding::ZeroSame;
    architecture.upsampling = Upsampling::Transposed;
    architecture.norm_epsilon = 1e-3;
    architecture.output_norm = true;
    architecture.output = Output { activation: Activation::Tanh, scale: 150.0, offset: 127.5 };
    StyleModel::random(architecture, seed).expect("a model")
}

/// A model of the given layers, reflecting, with values in 0..255.
pub fn layers(text: &str, seed: u64) -> StyleModel {
    let mut architecture = Architecture::johnson(1).expect("a width");
    architecture.layers = text.parse().expect("layers");
    (architecture.output.scale, architecture.output.offset) = (150.0, 127.5);
    StyleModel::random(architecture, seed).expect("a model")
}

/// The same model with every value changed by up to so many parts of itself.
pub fn shaken(model: &StyleModel, seed: u64, parts: f32) -> StyleModel {
    let mut tensors = model.tensors().clone();
    for (name, tensor) in &mut tensors {
        let shake = uniform(seed, name, tensor.values.len());
        tensor.values.iter_mut().zip(shake).for_each(|(value, u)| *value *= 1.0 + u * parts);
    }
    StyleModel::new(Metadata::new("shaken", model.architecture().clone()), tensors).expect("a model")
}

/// Random choices, the same for the same seed.
pub struct Dice(Box<dyn Iterator<Item = f32>>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(Box::new(uniform(seed, "dice", 1 << 20)))
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let u = self.0.next().expect("enough dice");
        (((u + 1.0) / 2.0 * end as f32) as usize).min(end - 1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A network of any kind that a style model can name; `winograd`: with layers that Winograd's algorithm may
    /// compute, or with none of them.
    pub fn architecture(&mut self, winograd: bool) -> Architecture {
        // Few of them multiples of a register.
        const CHANNELS: [usize; 13] = [1, 2, 3, 5, 8, 16, 17, 24, 31, 32, 33, 48, 64];
        // Kernels that Winograd's algorithm does not compute from three channels or to three.
        const DIRECT_OF_FEW: [usize; 4] = [1, 3, 13, 15];
        let mut layers = Vec::new();
        let (mut channels, mut halvings) = (3, 0);
        if winograd && self.chance(20) {
            layers.extend(vec![Layer::Residual { channels }; 1 + self.below(2)]);
        }
        let middle = self.below(6);
        for index in 0..middle {
            let wide = channels > 3 && self.chance(5);
            let next = if wide { 130 } else { self.pick(&CHANNELS) };
            let layer = match self.below(if winograd { 6 } else { 2 }) {
                _ if index == 0 && !winograd => {
                    Layer::Conv { kernel: self.pick(&DIRECT_OF_FEW), stride: 1, channels: next }
                }
                0 | 1 if !winograd => Layer::Conv { kernel: self.pick(&[1, 13]), stride: 1, channels: next },
                0 | 1 => {
                    let largest = if halvings > 0 || !layers.is_empty() { 3 } else { 8 };
                    let stride = if halvings < 3 { 1 + self.below(2) } else { 1 };
                    Layer::Conv { kernel: 1 + 2 * self.below(largest), stride, channels: next }
                }
                2 if halvings < 3 => Layer::Down { channels: next },
                2 | 3 => Layer::Residual { channels },
                _ if halvings > 0 => Layer::Up { channels: next },
                _ => Layer::Residual { channels },
            };
            channels = layer.channels();
            halvings += layer.stride() - 1;
            halvings -= usize::from(matches!(layer, Layer::Up { .. }));
            layers.push(layer);
        }
        for _ in 0..halvings {
            layers.push(Layer::Up { channels: self.pick(&CHANNELS) });
        }
        let kernel = if winograd { 1 + 2 * self.below(8) } else { self.pick(&DIRECT_OF_FEW) };
        layers.push(Layer::Conv { kernel, stride: 1, channels: 3 });
        let input = self.pick(&[InputRange::Rgb255, InputRange::Rgb01, InputRange::ImagenetNormalized]);
        // Where no norm comes before the last convolution, bytes arrive there as they are.
        let scaled = layers.iter().any(|layer| matches!(layer, Layer::Conv { .. } | Layer::Down { .. }))
            && layers.len() > 1
            && !layers[..layers.len() - 1].iter().all(|layer| matches!(layer, Layer::Residual { .. }));
        let output_norm = self.chance(25);
        let scale = if scaled || output_norm || input != InputRange::Rgb255 { 150.0 } else { 1.0 };
        let activation = self.pick(&[Activation::Linear, Activation::Linear, Activation::Tanh]);
        Architecture {
            layers: Layers::new(layers).expect("layers that keep the rules"),
            padding: self.pick(&[Padding::Reflect, Padding::ZeroSame]),
            upsampling: self.pick(&[Upsampling::NearestConv, Upsampling::Transposed]),
            norm_epsilon: self.pick(&[1e-5, 1e-5, 1e-3]),
            output_norm,
            output: Output { activation, scale, offset: 127.5 },
            input,
        }
    }
}

/// A network in words, for messages.
pub fn describe(architecture: &Architecture) -> String {
    let Architecture { layers, padding, upsampling, norm_epsilon, output_norm, output, input } = architecture;
    format!(
        "{layers} {padding:?} {upsampling:?} ε {norm_epsilon:e} output norm {output_norm} {:?}·{} {input:?}",
        output.activation, output.scale
    )
}
