//! What runs beside a node in its process, and is asked about together with it. The node knows nothing of it but this.

use std::{fmt, sync::Arc, time::Duration};

use talkbox_core::async_trait;
use tokio::time::timeout;

/// How long it may take to say how it does: those who ask for `/readyz` wait for seconds, and not for more.
const WITHIN: Duration = Duration::from_secs(3);

/// Something that runs beside a node and belongs to it, as whoever operates both sees it: the node is ready only while
/// this is, too, and its measures stand among those of the node.
#[async_trait]
pub trait Beside: fmt::Debug + Send + Sync + 'static {
    /// How it does at this moment. It is asked at each `GET /readyz` and `GET /metrics`, and has three seconds.
    async fn standing(&self) -> Standing;
}

/// How it does.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What keeps it from its work. Anybody may read it at `/readyz`.
    pub fault: Option<&'static str>,
    /// What it counts and measures. Their names do not repeat, and are none of the node's.
    pub samples: Vec<Sample>,
}

/// A number for Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name, behind `talkbox_node_`.
    pub name: &'static str,
    /// Whether it can become less.
    pub kind: SampleKind,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleKind {
    /// It only grows; its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl SampleKind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// Asks what runs beside the node, if anything does.
pub(crate) async fn standing(beside: Option<&Arc<dyn Beside>>) -> Standing {
    let Some(beside) = beside else { return Standing::default() };
    let late = Standing { fault: Some("what runs beside the node does not answer"), ..Standing::default() };
    timeout(WITHIN, beside.standing()).await.unwrap_or(late)
}
