//! The loss networks as lists of steps: which convolutions there are, where the pools stand, what the layers
//! are called, and how small a picture may be.

use super::kind::LossNetworkKind;

/// One convolution with a bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvSpec {
    /// Its tensors are `{name}.weight` (OIHW) and `{name}.bias`.
    pub(crate) name: String,
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl ConvSpec {
    fn same(name: impl Into<String>, input: usize, output: usize, kernel: usize) -> Self {
        ConvSpec { name: name.into(), input, output, kernel, stride: 1, padding: kernel / 2 }
    }

    pub(crate) fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    pub(crate) fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    pub(crate) fn shape(&self) -> [usize; 4] {
        [self.output, self.input, self.kernel, self.kernel]
    }

    pub(crate) fn fan_in(&self) -> usize {
        self.input * self.kernel * self.kernel
    }
}

/// One step of a loss network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Convolution and ReLU; the result is the features of `layer`.
    Conv { layer: String, conv: ConvSpec },
    /// Pooling over `kernel`², stride 2, no padding; `ceil` keeps a last, incomplete window.
    Pool { kernel: usize, ceil: bool },
    /// SqueezeNet's module: `relu(squeeze)`, then two convolutions of it side by side, concatenated, ReLU.
    Fire { layer: String, squeeze: ConvSpec, expand1x1: ConvSpec, expand3x3: ConvSpec },
}

impl Step {
    /// The layer whose features the step computes.
    pub(crate) fn layer(&self) -> Option<&str> {
        match self {
            Step::Conv { layer, .. } | Step::Fire { layer, .. } => Some(layer),
            Step::Pool { .. } => None,
        }
    }

    /// The step's convolutions.
    pub(crate) fn convs(&self) -> Vec<&ConvSpec> {
        match self {
            Step::Conv { conv, .. } => vec![conv],
            Step::Pool { .. } => Vec::new(),
            Step::Fire { squeeze, expand1x1, expand3x3, .. } => vec![squeeze, expand1x1, expand3x3],
        }
    }

    /// Height (or width) after the step, or `None` when the picture has become too small for it.
    fn size_after(&self, size: usize) -> Option<usize> {
        match self {
            Step::Conv { conv, .. } => {
                Some((size + 2 * conv.padding).checked_sub(conv.kernel)? / conv.stride + 1)
            }
            Step::Pool { kernel, ceil } => {
                let span = size.checked_sub(*kernel)?;
                Some(if *ceil { span.div_ceil(2) } else { span / 2 } + 1)
            }
            Step::Fire { .. } => Some(size),
        }
    }
}

/// What the values of a layer see of the picture, along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Pixels from one value to the next.
    pub(crate) stride: usize,
    /// Pixels that one value sees.
    pub(crate) extent: usize,
}

/// What the values after `steps` see.
pub(crate) fn sight<'a>(steps: impl Iterator<Item = &'a Step>) -> Sight {
    steps.fold(Sight { stride: 1, extent: 1 }, |Sight { stride, extent }, step| {
        let (kernel, by) = match step {
            Step::Conv { conv, .. } => (conv.kernel, conv.stride),
            Step::Pool { kernel, .. } => (*kernel, 2),
            Step::Fire { expand3x3, .. } => (expand3x3.kernel, 1),
        };
        Sight { stride: stride * by, extent: extent + (kernel - 1) * stride }
    })
}

/// Height (or width) of the features after `steps`, or `None` when the picture is too small.
pub(crate) fn size_after<'a>(mut steps: impl Iterator<Item = &'a Step>, size: usize) -> Option<usize> {
    steps.try_fold(size, |size, step| step.size_after(size))
}

/// How many values the features of one picture have after all of `steps` together; 0 when it is too small.
pub(crate) fn values<'a>(
    steps: impl Iterator<Item = &'a Step>,
    mut height: usize,
    mut width: usize,
) -> usize {
    let (mut channels, mut sum) = (3, 0);
    for step in steps {
        let (Some(tall), Some(wide)) = (step.size_after(height), step.size_after(width)) else { return 0 };
        (height, width) = (tall, wide);
        let made = match step {
            Step::Pool { .. } => channels,
            _ => step.convs().iter().map(|conv| conv.output).sum(),
        };
        channels = match step {
            Step::Fire { squeeze, .. } => made - squeeze.output,
            _ => made,
        };
        sum += made * height * width;
    }
    sum
}

/// The steps of a network, whole.
pub(crate) fn steps(kind: LossNetworkKind) -> Vec<Step> {
    match kind {
        LossNetworkKind::Vgg16 => vgg([2, 2, 3, 3, 3]),
        LossNetworkKind::Vgg19 => vgg([2, 2, 4, 4, 4]),
        LossNetworkKind::SqueezeNet => squeezenet(),
    }
}

fn vgg(convs: [usize; 5]) -> Vec<Step> {
    const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];
    let mut steps = Vec::new();
    let mut input = 3;
    for (block, (count, width)) in (1..).zip(convs.into_iter().zip(WIDTHS)) {
        if block > 1 {
            steps.push(Step::Pool { kernel: 2, ceil: false });
        }
        for number in 1..=count {
            steps.push(Step::Conv {
                layer: format!("relu{block}_{number}"),
                conv: ConvSpec::same(format!("conv{block}_{number}"), input, width, 3),
            });
            input = width;
        }
    }
    steps
}

fn squeezenet() -> Vec<Step> {
    // (squeeze, each half of expand) of fire2 … fire9; a pool stands before fire2, fire5 and fire9.
    const FIRES: [(usize, usize); 8] =
        [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)];
    let mut steps = vec![Step::Conv {
        layer: "relu1".to_string(),
        conv: ConvSpec { name: "conv1".to_string(), input: 3, output: 96, kernel: 7, stride: 2, padding: 0 },
    }];
    let mut input = 96;
    for (number, (squeeze, expand)) in (2..).zip(FIRES) {
        if matches!(number, 2 | 5 | 9) {
            steps.push(Step::Pool { kernel: 3, ceil: true });
        }
        let layer = format!("fire{number}");
        steps.push(Step::Fire {
            squeeze: ConvSpec::same(format!("{layer}/conv1x1_1"), input, squeeze, 1),
            expand1x1: ConvSpec::same(format!("{layer}/conv1x1_2"), squeeze, expand, 1),
            expand3x3: ConvSpec::same(format!("{layer}/conv3x3_2"), squeeze, expand, 3),
            layer,
        });
        input = 2 * expand;
    }
    steps
}

/// The smallest height and width for which every step of `steps` has something to work on.
pub(crate) fn smallest_size<'a>(steps: impl Iterator<Item = &'a Step> + Clone) -> usize {
    (1..).find(|size| size_after(steps.clone(), *size).is_some()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_names_are_the_fields_own() {
        let names = LossNetworkKind::Vgg16.layers();
        assert_eq!(names.len(), 13);
        assert_eq!((names[0].as_str(), names[12].as_str()), ("relu1_1", "relu5_3"));
        let names = LossNetworkKind::Vgg19.layers();
        assert_eq!(names.len(), 16);
        assert_eq!(names[15], "relu5_4");
        let names = LossNetworkKind::SqueezeNet.layers();
        assert_eq!(names.len(), 9);
        assert_eq!((names[0].as_str(), names[1].as_str(), names[8].as_str()), ("relu1", "fire2", "fire9"));
    }

    #[test]
    fn parameters_are_the_published_ones() {
        let count = |kind| -> usize {
            steps(kind).iter().flat_map(Step::convs).map(|c| c.output * (c.fan_in() + 1)).sum()
        };
        assert_eq!(count(LossNetworkKind::Vgg16), 14_714_688);
        assert_eq!(count(LossNetworkKind::Vgg19), 20_024_384);
        // 1,248,424 with the final classifier, a 1×1 convolution of 512 → 1000.
        assert_eq!(count(LossNetworkKind::SqueezeNet), 1_248_424 - 513_000);
    }

    #[test]
    fn sights_are_the_published_receptive_fields() {
        let all = steps(LossNetworkKind::Vgg16);
        let of = |name: &str| {
            let at = all.iter().position(|step| step.layer() == Some(name)).unwrap();
            let found = sight(all[..=at].iter());
            (found.stride, found.extent)
        };
        assert_eq!((of("relu1_2"), of("relu3_3"), of("relu5_3")), ((1, 5), (4, 40), (16, 196)));
        let all = steps(LossNetworkKind::SqueezeNet);
        assert_eq!(sight(all[..1].iter()), Sight { stride: 2, extent: 7 });
        assert_eq!(sight(all[..2].iter()), Sight { stride: 4, extent: 11 });
        assert_eq!((size_after(all[..2].iter(), 29), size_after(all[..1].iter(), 6)), (Some(6), None));
    }

    #[test]
    fn values_are_those_of_all_planes() {
        let all = steps(LossNetworkKind::Vgg19);
        // conv1_1, conv1_2, the pool, conv2_1.
        assert_eq!(values(all[..4].iter(), 6, 9), 64 * (54 + 54 + 12) + 128 * 12);
        let all = steps(LossNetworkKind::SqueezeNet);
        // conv1 of 29 is 12, the pool behind it 6; fire2 squeezes to 16 and expands to 128, as fire3 does.
        assert_eq!(values(all[..4].iter(), 29, 29), 96 * (144 + 36) + 2 * (16 + 128) * 36);
        assert_eq!(values(all.iter(), 29, 6), 0);
    }

    #[test]
    fn smallest_sizes() {
        let all = steps(LossNetworkKind::Vgg19);
        assert_eq!(smallest_size(all[..2].iter()), 1);
        assert_eq!(smallest_size(all.iter()), 16);
        // conv1's kernel wants 7. Backwards from fire9: 3 into its pool are 6, then 12 into the ones before
        // (⌈(n − 3)/2⌉ + 1), and 29 into conv1 (⌊(n − 7)/2⌋ + 1).
        let all = steps(LossNetworkKind::SqueezeNet);
        assert_eq!(smallest_size(all[..1].iter()), 7);
        assert_eq!(smallest_size(all.iter()), 29);
    }
}
