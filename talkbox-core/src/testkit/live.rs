//! A harness for a network that is in use: it can open backends, and do nothing else to it.

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{Harness, Role};
use crate::{Result, backend::Backend};

/// Opens backends by a function, such as one that reads a configuration.
pub struct LiveHarness {
    open: Box<dyn Fn(Role) -> BoxFuture<'static, Result<Backend>> + Send + Sync>,
}

impl LiveHarness {
    /// A harness that opens backends so.
    pub fn new(open: impl Fn(Role) -> BoxFuture<'static, Result<Backend>> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open) }
    }
}

impl fmt::Debug for LiveHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveHarness")
    }
}

#[async_trait]
impl Harness for LiveHarness {
    async fn open(&self, role: Role) -> Result<Backend> {
        (self.open)(role).await
    }
}
