//! One step's numbers, and burn-train's metrics that show them.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::ItemLazy;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

/// Name of the column that holds the step; the other columns are values at that step.
pub const STEP: &str = "step";
/// Name of the column of the whole loss.
pub const TOTAL: &str = "loss/total";
/// Name of the column of the learning rate.
pub const LEARNING_RATE: &str = "learning_rate";
/// Name of the column of the speed.
pub const IMAGES_PER_SECOND: &str = "images_per_s";

/// A step's losses, still on the device: the event thread fetches them, so that a GPU is not waited for.
#[derive(Debug, Clone)]
pub struct LazyRow<B: Backend> {
    /// The step, from 0.
    pub step: u64,
    /// Names of the losses.
    pub names: Arc<Vec<String>>,
    /// Their values, in this order.
    pub values: Tensor<B, 1>,
    /// What the host knows: learning rate, speed.
    pub host: Vec<(&'static str, f64)>,
}

impl<B: Backend> LazyRow<B> {
    /// The losses, fetched from the device.
    pub fn fetch(&self) -> Vec<f64> {
        self.values.to_data().iter::<f64>().collect()
    }
}

/// A step's numbers by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The step, from 0.
    pub step: u64,
    /// Names and values.
    pub values: Vec<(String, f64)>,
}

impl Row {
    /// A value by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl<B: Backend> ItemLazy for LazyRow<B> {
    type ItemSync = Arc<Row>;

    fn sync(self) -> Arc<Row> {
        let losses = self.fetch();
        let names = self.names.iter().cloned();
        let host = self.host.into_iter().map(|(name, value)| (name.to_owned(), value));
        Arc::new(Row { step: self.step, values: names.zip(losses).chain(host).collect() })
    }
}

/// What a metric is given: the whole row, of which it picks its column.
pub struct RowInput(Arc<Row>);

impl Adaptor<RowInput> for Arc<Row> {
    fn adapt(&self) -> RowInput {
        RowInput(Arc::clone(self))
    }
}

/// One column of the row as a burn-train metric.
#[derive(Clone)]
pub struct Column {
    name: MetricName,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl Column {
    /// The metric of a column.
    pub fn new(name: &str) -> Self {
        Column {
            name: Arc::new(name.to_owned()),
            higher_is_better: name == IMAGES_PER_SECOND,
            state: NumericMetricState::default(),
        }
    }
}

impl Metric for Column {
    type Input = RowInput;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }

    fn update(&mut self, RowInput(row): &RowInput, _metadata: &MetricMetadata) -> SerializedEntry {
        let value = match self.name.as_str() {
            STEP => row.step as f64,
            name => row.get(name).unwrap_or(f64::NAN),
        };
        self.state.update(value, 1, FormatOptions::new(self.name()).precision(3))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for Column {
    fn value(&self) -> NumericEntry {
        self.state.current_value()
    }

    fn running_value(&self) -> NumericEntry {
        self.state.running_value()
    }
}
