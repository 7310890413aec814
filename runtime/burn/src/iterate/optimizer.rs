//! The optimizers of a picture: Burn's L-BFGS with strong Wolfe line search, and Adam, one evaluation at a time.

use burn::backend::Autodiff;
use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams, LBFGSConfig, LineSearchFn, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor};

use crate::error::BurnError;

/// Evaluations of one line search, as in PyTorch.
const LINE_SEARCH: usize = 25;

/// How a picture goes down its gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// L-BFGS with strong Wolfe line search, as Gatys et al. 2016 used it.
    Lbfgs {
        /// Steps remembered; each costs two pictures of memory.
        history: usize,
    },
    /// Adam (Kingma & Ba 2014) with PyTorch's constants (0.9, 0.999, 1e-8).
    Adam {
        /// In grey levels: about what a value changes by in one of the first steps.
        learning_rate: f64,
    },
}

/// PyTorch's 100 for pictures up to 256 × 256 × 1.7, fewer for larger ones, so that the memory for it stays within
/// 256 MiB, but not below 10.
pub fn default_history(width: usize, height: usize) -> usize {
    let step_bytes = (2 * 4 * 3 * width * height).max(1);
    ((256 << 20) / step_bytes).clamp(10, 100)
}

/// One value and gradient of what is minimized.
pub(super) struct Evaluation<B: Backend> {
    pub(super) value: f64,
    /// `[1, 3, height, width]`, by grey level.
    pub(super) gradient: Tensor<B, 4>,
}

/// The picture as Burn's optimizers want it: a module with one parameter.
#[derive(Module, Debug)]
struct Canvas<B: Backend> {
    values: Param<Tensor<B, 4>>,
}

impl<B: Backend> Canvas<Autodiff<B>> {
    fn new(values: Tensor<B, 4>) -> Self {
        Canvas { values: Param::from_tensor(Tensor::from_inner(values)) }
    }

    fn inner(&self) -> Tensor<B, 4> {
        self.values.val().inner()
    }

    fn gradient(&self, gradient: Tensor<B, 4>) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        gradients.register(self.values.id, gradient);
        gradients
    }
}

/// Minimizes `objective` from `start` (RGB 0..255, `[1, 3, height, width]`) in at most `steps` evaluations, one
/// step being one evaluation of value and gradient. The objective is told every picture evaluated and keeps
/// what it wants of it; `None` from it ends the work, as does an optimizer that finds no way further down.
///
/// # Errors
/// The objective's.
pub(super) fn minimize<B: Backend>(
    method: Method,
    start: Tensor<B, 4>,
    steps: usize,
    objective: &mut dyn FnMut(Tensor<B, 4>) -> Result<Option<Evaluation<B>>, BurnError>,
) -> Result<(), BurnError> {
    match method {
        Method::Lbfgs { history } => lbfgs(history.max(1), start, steps, objective),
        Method::Adam { learning_rate } => {
            let mut canvas = Canvas::<Autodiff<B>>::new(start);
            let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
            for _ in 0..steps {
                let Some(found) = objective(canvas.inner())? else { break };
                let gradients = canvas.gradient(found.gradient);
                canvas = adam.step(learning_rate, canvas, gradients);
            }
            Ok(())
        }
    }
}

/// Burn's L-BFGS, an iteration a call, so that an evaluation can end it.
///
/// An iteration begins with an evaluation at the point that the last line search ended at, and ends with the
/// next line search; what has been evaluated is remembered, so that this costs nothing twice. Burn (like
/// PyTorch) goes `1 / ‖g‖₁` along the gradient first; the unit of the variables is chosen such that this is
/// one grey level in the mean, where with plain RGB 0..255 the first line searches would go into getting away from the
/// start. Its tolerances are 0: they are made for objectives near 1 with a handful of variables.
fn lbfgs<B: Backend>(
    history: usize,
    start: Tensor<B, 4>,
    steps: usize,
    objective: &mut dyn FnMut(Tensor<B, 4>) -> Result<Option<Evaluation<B>>, BurnError>,
) -> Result<(), BurnError> {
    let unit = 1.0 / start.shape().num_elements() as f64;
    let mut optimizer = LBFGSConfig::new()
        .with_max_iter(1)
        .with_max_eval(Some(1 + LINE_SEARCH))
        .with_history_size(history)
        .with_tolerance_grad(0.0)
        .with_tolerance_change(0.0)
        .with_line_search_fn(LineSearchFn::StrongWolfe)
        .init::<Autodiff<B>>();
    let mut canvas = Canvas::new(start * unit);
    // Points of the last line search, with value and gradient (by the unit).
    let mut known: Vec<(Tensor<B, 4>, f64, Tensor<B, 4>)> = Vec::new();
    let (mut done, mut over, mut failure) = (0, false, None);
    while !over {
        let before = done;
        let mut first = true;
        (canvas, _) = optimizer.step(1.0, canvas, |canvas: Canvas<Autodiff<B>>| {
            let point = canvas.inner();
            if std::mem::take(&mut first) {
                let same = |(other, ..): &(Tensor<B, 4>, f64, Tensor<B, 4>)| {
                    let difference = (other.clone() - point.clone()).abs().max();
                    difference.into_scalar().elem::<f64>() == 0.0
                };
                let found = known.iter().position(same).map(|at| known.swap_remove(at));
                known.clear();
                if let Some((point, value, gradient)) = found {
                    known.push((point, value, gradient.clone()));
                    return (value, canvas.gradient(gradient));
                }
            }
            over |= done >= steps;
            if !over {
                match objective(point.clone() / unit) {
                    Ok(Some(found)) => {
                        done += 1;
                        let gradient = found.gradient / unit;
                        known.push((point, found.value, gradient.clone()));
                        return (found.value, canvas.gradient(gradient));
                    }
                    Ok(None) => over = true,
                    Err(error) => (over, failure) = (true, Some(error)),
                }
            }
            // A point lower than any and without a slope: every line search takes it at once.
            (f64::NEG_INFINITY, canvas.gradient(point.zeros_like()))
        });
        // Nothing was evaluated: no way further down.
        over |= done == before;
    }
    failure.map_or(Ok(()), Err)
}
