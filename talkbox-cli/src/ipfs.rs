//! What commands that are about IPFS alone stand on: the settings of that backend, whichever is in use.

use std::time::Duration;

use talkbox_core::{BackendConfig, ErrorKind, OpenContext};

use crate::{
    exit::{Failure, Outcome},
    session::Session,
};

/// How long the network may take: a large log may have to be fetched before it can be spoken of.
const PATIENCE: Duration = Duration::from_secs(120);

/// The settings of the instance that opens places on IPFS, and what it is opened with.
///
/// # Errors
/// Where this program has no such backend, or the configuration is wrong.
pub(crate) fn backend(session: &Session) -> Outcome<(BackendConfig, OpenContext)> {
    let kind = talkbox_backend_ipfs::backend().name;
    let plan = session.config.plan_for_scheme(kind, &session.registry)?;
    let member = plan.as_ref().and_then(|plan| plan.members().iter().find(|member| member.def.name == kind));
    let Some(member) = member else {
        return Err(Failure::input("this program comes without a backend for IPFS"));
    };
    Ok((member.config.clone(), session.context(&member.name)))
}

/// Waits for what the network has to say, as long as `--timeout` allows.
///
/// # Errors
/// Those of the work; `Timeout`.
pub(crate) async fn wait<T>(session: &Session, work: impl Future<Output = talkbox_core::Result<T>>) -> Outcome<T> {
    match tokio::time::timeout(session.budget(PATIENCE), work).await {
        Ok(done) => done.map_err(|error| match (error.kind(), error.context("key")) {
            (ErrorKind::ConfigInvalid, Some("pins")) => Failure::from(error).hint(
                "add `pins = [{ name = \"…\", endpoint = \"https://…\", token_file = \"/…\" }]` to [backends.ipfs]",
            ),
            _ => error.into(),
        }),
        Err(_) => Err(Failure::timeout("the network did not answer in time").hint("allow more with `--timeout`")),
    }
}
