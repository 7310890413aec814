//! burn-train's renderer of this trainer: one progress line with the time left; its dashboard is the alternative.

use std::time::Duration;

use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log::row::TOTAL;
use crate::report::Reporter;

/// Draws `style [=====>   ] 120/600 steps  loss 3.21  6 min left`.
pub struct ProgressLine {
    bar: ProgressBar,
    reporter: Reporter,
    total_id: Option<burn::train::metric::MetricId>,
    steps_per_epoch: usize,
}

impl ProgressLine {
    /// The line of a run of `steps`, `done` of which were taken earlier. Hidden when stderr is no terminal.
    pub fn new(reporter: Reporter, done: u64, steps: u64, steps_per_epoch: u64) -> Self {
        let target = if reporter.shows_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let template = "learning [{bar:30}] {pos}/{len} steps  {msg}  {eta} left";
        bar.set_style(
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        reporter.attach(bar.clone());
        ProgressLine { bar, reporter, total_id: None, steps_per_epoch: steps_per_epoch as usize }
    }
}

impl MetricsRendererTraining for ProgressLine {
    fn update_train(&mut self, state: MetricState) {
        if let MetricState::Numeric(entry, value) = state
            && Some(&entry.metric_id) == self.total_id.as_ref()
        {
            self.bar.set_message(format!("loss {:.3}", value.current()));
        }
    }

    fn update_valid(&mut self, _state: MetricState) {}

    fn render_train(&mut self, item: TrainingProgress, _indicators: Vec<ProgressType>) {
        let epochs = item.global_progress.items_processed.saturating_sub(1);
        let in_epoch = item.progress.map_or(0, |progress| progress.items_processed);
        self.bar.set_position((epochs * self.steps_per_epoch + in_epoch) as u64);
    }

    fn render_valid(&mut self, _item: TrainingProgress, _indicators: Vec<ProgressType>) {}

    fn on_train_end(
        &mut self,
        _summary: Option<burn::train::LearnerSummary>,
    ) -> Result<(), Box<dyn core::error::Error>> {
        self.reporter.detach();
        Ok(())
    }
}

impl MetricsRendererEvaluation for ProgressLine {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}

    fn render_test(&mut self, _item: EvaluationProgress, _indicators: Vec<ProgressType>) {}
}

impl MetricsRenderer for ProgressLine {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        if definition.name == TOTAL {
            self.total_id = Some(definition.metric_id);
        }
    }
}
