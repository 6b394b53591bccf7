//! What a transport tells of itself beyond [`Stats`](crate::Stats): figures with names, in order, for
//! whoever prints them. Nobody above has to know what they mean.

/// A figure's value, and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A number that goes up and down.
    Gauge(u64),
    /// A number that only grows.
    Counter(u64),
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name, as INFO shows it.
    pub name: &'static str,
    /// One sentence, if it belongs among the metrics.
    pub metric_help: Option<&'static str>,
    /// What it is now.
    pub value: Value,
}

/// What a transport tells.
pub type Report = Vec<Figure>;

impl Figure {
    /// A figure that INFO alone shows.
    #[must_use]
    pub fn new(name: &'static str, value: Value) -> Self {
        Figure { name, metric_help: None, value }
    }

    /// Puts it among the metrics.
    #[must_use]
    pub fn with_metric(mut self, help: &'static str) -> Self {
        self.metric_help = Some(help);
        self
    }
}
