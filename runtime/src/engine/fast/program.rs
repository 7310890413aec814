//! The network as stages, independent of the frame's size: what each convolution reads, how it is computed, and
//! where its result goes.

use impasto_checkpoints::{Block, CheckpointError, ConvKind, ConvSpec, NormSpec, StyleModel};

use super::decomposed::{self, Colors, Decomposed};
use super::direct::Direct;
use super::kernels::{DotKernel, Kernels, Store};
use super::winograd::{PATCH, REACH, Winograd};
use crate::engine::lower::{Axis, Weights};

/// Planes hold a multiple of this many channels: what the widest register holds.
pub(super) const CHANNELS: usize = 16;

/// A transform network packed for an instruction set.
pub(super) struct Program {
    pub(super) stages: Vec<Stage>,
    /// Every plane that a stage writes.
    pub(super) planes: Vec<PlaneSpec>,
    pub(super) norms: Vec<Norm>,
    /// An instance norm after the last convolution: the plane of its colours, and the norm.
    pub(super) output_norm: Option<(usize, usize)>,
    /// How planes lie in memory: F32 or Bf16.
    pub(super) store: Store,
}

/// A plane of activations.
pub(super) struct PlaneSpec {
    pub(super) channels: usize,
    pub(super) store: Store,
    /// The stage that writes it, and the last one that reads it.
    pub(super) live: (usize, usize),
}

/// One convolution with what comes before and after it.
pub(super) struct Stage {
    /// Name of the convolution, for profiles.
    pub(super) name: String,
    /// Products of one base's outputs, as the network defines them.
    pub(super) multiply_adds: usize,
    pub(super) axis: Axis,
    pub(super) source: Source,
    /// The plane in which the prepared rows are kept, as what a residual block is added to.
    pub(super) keep: Option<usize>,
    /// How prepared rows lie in memory.
    pub(super) prepared: Store,
    /// Values of a prepared pixel.
    pub(super) inputs: usize,
    /// Values of a result's pixel.
    pub(super) outputs: usize,
    pub(super) kernel: Kernel,
    pub(super) target: Target,
}

/// What a convolution reads.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Frame,
    /// `relu(norm(raw)) + trunk`.
    Plane {
        raw: usize,
        norm: usize,
        relu: bool,
        trunk: Option<usize>,
    },
}

/// Where a convolution's result goes.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A plane, whose moments feed a norm.
    Plane { plane: usize, norm: usize },
    /// The painted frame.
    Frame,
    /// Three colours to a plane, whose moments feed a norm.
    Colors { plane: usize, norm: usize },
}

pub(super) enum Kernel {
    Direct(Direct),
    Winograd(Winograd),
    /// Larger than 3×3, in pieces.
    Decomposed(Decomposed),
    /// To three colours, in pieces.
    Colors(Colors),
    /// To three colours: the horizontal taps are outputs of their own, and are added up afterwards.
    Columns {
        direct: Direct,
        taps: usize,
        bias: [f32; 3],
    },
}

impl Stage {
    /// Prepared columns that so many bases see, whole patches where there are patches.
    pub(super) fn columns(&self, bases: usize) -> usize {
        match &self.kernel {
            Kernel::Winograd(_) => bases.next_multiple_of(PATCH) + REACH - PATCH,
            Kernel::Decomposed(decomposed) => decomposed.columns(bases.div_ceil(PATCH)),
            Kernel::Colors(colors) => colors.patches(bases) * PATCH + REACH - PATCH,
            Kernel::Direct(_) | Kernel::Columns { .. } => {
                (bases - 1) * self.axis.stride() + self.axis.reach()
            }
        }
    }
}

/// An affine instance norm; channels past the model's are zero.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

impl Program {
    /// Packs a model; `bf16`: bf16 planes, and weights and prepared rows rounded to it.
    pub(super) fn new(model: &StyleModel, kernels: &Kernels, bf16: bool) -> Result<Self, CheckpointError> {
        let store = if bf16 { Store::Bf16 } else { Store::F32 };
        let mut build = Build {
            model,
            kernels,
            bf16,
            program: Program {
                stages: Vec::new(),
                planes: Vec::new(),
                norms: Vec::new(),
                output_norm: None,
                store,
            },
            source: Source::Frame,
        };
        for block in model.architecture().blocks() {
            match block {
                Block::Conv { conv, norm: Some(norm), relu } => {
                    let last = !relu;
                    build.normed(&conv, &norm, None, last)?;
                    if let Source::Plane { relu: of_source, .. } = &mut build.source {
                        *of_source = relu;
                    }
                }
                Block::Conv { conv, norm: None, .. } => build.last(&conv)?,
                Block::Residual { convs: [conv1, conv2], norms: [norm1, norm2] } => {
                    let trunk = build.plane(padded(conv1.input), store);
                    build.normed(&conv1, &norm1, Some(trunk), false)?;
                    if let Source::Plane { relu, .. } = &mut build.source {
                        *relu = true;
                    }
                    build.normed(&conv2, &norm2, None, false)?;
                    if let Source::Plane { trunk: of_source, .. } = &mut build.source {
                        *of_source = Some(trunk);
                    }
                }
            }
        }
        let mut program = build.program;
        program.find_lives();
        Ok(program)
    }

    /// When each plane is written and last read.
    fn find_lives(&mut self) {
        for (index, stage) in self.stages.iter().enumerate() {
            let written = match stage.target {
                Target::Plane { plane, .. } | Target::Colors { plane, .. } => Some(plane),
                Target::Frame => None,
            };
            for plane in written.into_iter().chain(stage.keep) {
                self.planes[plane].live = (index, index);
            }
            if let Source::Plane { raw, trunk, .. } = stage.source {
                for plane in [Some(raw), trunk].into_iter().flatten() {
                    self.planes[plane].live.1 = index;
                }
            }
        }
        if let Some((plane, _)) = self.output_norm {
            self.planes[plane].live.1 = self.stages.len();
        }
    }
}

/// A channel count as planes hold it.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNELS)
}

/// Products of the `up²` outputs of one base: a transposed kernel meets every input pixel once.
fn multiply_adds(conv: &ConvSpec, up: usize) -> usize {
    let kernels = if conv.kind == ConvKind::Transposed { 1 } else { up * up };
    conv.fan_in() * conv.output * kernels
}

struct Build<'a> {
    model: &'a StyleModel,
    kernels: &'a Kernels,
    bf16: bool,
    program: Program,
    /// What the next convolution reads.
    source: Source,
}

impl Build<'_> {
    fn plane(&mut self, channels: usize, store: Store) -> usize {
        self.program.planes.push(PlaneSpec { channels, store, live: (0, 0) });
        self.program.planes.len() - 1
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<usize, CheckpointError> {
        let values = |part: &str| -> Result<Vec<f32>, CheckpointError> {
            let mut values = self.model.values(&format!("{}.{part}", spec.name))?.to_vec();
            values.resize(padded(spec.channels), 0.0);
            Ok(values)
        };
        let (weight, bias) = (values("weight")?, values("bias")?);
        let epsilon = self.model.architecture().norm_epsilon;
        self.program.norms.push(Norm { weight, bias, epsilon });
        Ok(self.program.norms.len() - 1)
    }

    /// The tiles of direct kernels where they are bf16's.
    fn dot(&self) -> Option<DotKernel> {
        self.kernels.dot.filter(|_| self.bf16)
    }

    /// Whether Winograd's f32 is faster than what direct kernels there are.
    fn filters(&self) -> bool {
        !self.dot().is_some_and(|dot| dot.beats_winograd)
    }

    /// How prepared rows lie in memory for direct kernels with these tiles, and without for Winograd's.
    fn prepared(&self, dot: Option<DotKernel>) -> Store {
        match (dot, self.bf16) {
            (Some(_), _) => Store::Bf16,
            (None, true) => Store::Rounded,
            (None, false) => Store::F32,
        }
    }

    /// A convolution before an instance norm: its bias cancels there and is dropped.
    fn normed(
        &mut self,
        conv: &ConvSpec,
        norm: &NormSpec,
        keep: Option<usize>,
        last: bool,
    ) -> Result<(), CheckpointError> {
        let norm = self.norm(norm)?;
        if last {
            let plane = self.plane(3, Store::F32);
            self.program.output_norm = Some((plane, norm));
            return self.columns(conv, [0.0; 3], Target::Colors { plane, norm });
        }
        let plane = self.plane(padded(conv.output), self.program.store);
        let mut axis = Axis::new(conv, self.model.architecture().padding);
        // A frame that a residual block adds to is prepared like a plane.
        let inputs = match self.source {
            Source::Frame if keep.is_none() => 3,
            _ => padded(conv.input),
        };
        let weights = Weights::new(conv, self.model.values(&format!("{}.weight", conv.name))?, self.bf16);
        let dot = self.dot();
        let outputs = padded(conv.output);
        let filter = conv.kernel == 3 && axis.stride() == 1 && inputs % CHANNELS == 0;
        let (kernel, prepared) = if filter && (self.filters() || conv.kind == ConvKind::Transposed) {
            (
                Kernel::Winograd(Winograd::new(&axis, &weights, inputs, outputs, self.kernels)),
                self.prepared(None),
            )
        } else {
            // Over the doubled plane: in bf16, sums of taps would be rounded (see `Weights::new`).
            axis = Axis::whole(conv, self.model.architecture().padding);
            if self.filters() && axis.stride() == 1 && decomposed::suits(conv.kernel) {
                let kernel = Decomposed::new(&axis, &weights, inputs, outputs, self.kernels);
                (Kernel::Decomposed(kernel), self.prepared(None))
            } else {
                let kernel = Direct::new(&axis, &weights, inputs, outputs, self.kernels, dot);
                (Kernel::Direct(kernel), self.prepared(dot))
            }
        };
        let target = Target::Plane { plane, norm };
        let name = conv.name.clone();
        let source = self.source;
        self.program.stages.push(Stage {
            name,
            multiply_adds: multiply_adds(conv, axis.up()),
            axis,
            source,
            keep,
            prepared,
            inputs,
            outputs,
            kernel,
            target,
        });
        self.source = Source::Plane { raw: plane, norm, relu: false, trunk: None };
        Ok(())
    }

    /// The last convolution where no norm follows.
    fn last(&mut self, conv: &ConvSpec) -> Result<(), CheckpointError> {
        let bias = self.model.values(&format!("{}.bias", conv.name))?;
        let bias = std::array::from_fn(|o| bias[o]);
        self.columns(conv, bias, Target::Frame)
    }

    /// The last convolution: stride 1, three outputs (`Architecture` allows no other).
    fn columns(&mut self, conv: &ConvSpec, bias: [f32; 3], target: Target) -> Result<(), CheckpointError> {
        let axis = Axis::new(conv, self.model.architecture().padding);
        let inputs = match self.source {
            Source::Frame => 3,
            Source::Plane { .. } => padded(conv.input),
        };
        let weights = Weights::new(conv, self.model.values(&format!("{}.weight", conv.name))?, self.bf16);
        let (kernel, prepared) = if self.filters() && inputs % CHANNELS == 0 && decomposed::suits(conv.kernel)
        {
            (Kernel::Colors(Colors::new(&axis, &weights, inputs, self.kernels, bias)), self.prepared(None))
        } else {
            let dot = self.dot();
            let direct = Direct::columns(&axis, &weights, inputs, self.kernels, dot);
            (Kernel::Columns { direct, taps: conv.kernel, bias }, self.prepared(dot))
        };
        self.program.stages.push(Stage {
            name: conv.name.clone(),
            multiply_adds: multiply_adds(conv, 1),
            axis,
            source: self.source,
            keep: None,
            prepared,
            inputs,
            outputs: 3,
            kernel,
            target,
        });
        Ok(())
    }
}
