//! Mailboxes in a folder, such as one that several machines mount: the example of `docs/writing-a-backend.md`.
//!
//! ```toml
//! backend = "folder"
//!
//! [backends.folder]
//! folder = "/mnt/shared/talkbox"
//! ```

mod files;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use talkbox_core::{
    Ack, AuditOptions, Backend, BackendConfig, BackendDef, BoxStream, Capabilities, Clock, DeleteOptions,
    DeleteRequest, Deletion, DeletionState, Descriptor, Envelope, EnvelopeId, Error, ErrorKind, Holding, HoldingState,
    Level, ListOptions, Locator, Mailbox, MailboxId, OpenContext, Page, PutOptions, Receipt, Reconcile, Refusal,
    Result, WatchEvent, WatchOptions, async_trait,
};

use self::files::Files;

/// What a program registers: `Registry::new().with(talkbox_backend_folder::backend())`.
pub fn backend() -> BackendDef {
    BackendDef {
        name: "folder",
        about: "a folder, such as one that several machines mount",
        schemes: &["folder"],
        uri_key: None,
        keys: &["folder"],
        list_keys: &[],
        open: |config, context| Box::pin(async { open(config, context) }),
    }
}

fn open(config: BackendConfig, context: OpenContext) -> Result<Backend> {
    let invalid = |why: &'static str| Error::new(ErrorKind::ConfigInvalid, why).with("backend", "folder");
    let folder = config.table().get("folder").and_then(|folder| folder.as_str());
    let folder = folder.ok_or_else(|| invalid("`folder` names the folder"))?;
    let holder = Locator::new("folder", folder).map_err(|error| invalid("`folder` is no path").source(error))?;
    Ok(Backend::of_mailbox(Arc::new(Folder {
        descriptor: Descriptor::new("folder", context.name, &["folder"]),
        files: Files::open(PathBuf::from(folder))?,
        holder,
        clock: context.clock,
        closed: AtomicBool::new(false),
    })))
}

/// A mailbox half, and no transport: records and hints are for another backend to carry.
#[derive(Debug)]
struct Folder {
    descriptor: Descriptor,
    files: Files,
    /// The only holder: the folder itself.
    holder: Locator,
    clock: Arc<dyn Clock>,
    closed: AtomicBool,
}

impl Folder {
    /// Whether a call may go on: the backend is open, and the holder is this folder. A locator may come from a
    /// stranger's record, and must not lead to other folders of this machine.
    fn check(&self, holder: &Locator) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the backend was closed"));
        }
        if *holder != self.holder {
            return Err(Error::new(ErrorKind::NotFound, "not a configured folder").with("holder", holder));
        }
        Ok(())
    }

    fn at(&self, at: Vec<Locator>) -> Vec<Locator> {
        if at.is_empty() { vec![self.holder.clone()] } else { at }
    }

    fn put_at(&self, envelope: &Envelope, holder: &Locator) -> Result<Level> {
        self.check(holder)?;
        if envelope.is_expired(self.clock.now()) {
            return Err(Error::new(ErrorKind::Refused, "expired"));
        }
        self.files.put(envelope)
    }
}

#[async_trait]
impl Mailbox for Folder {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::FULL;
        capabilities.watch = false;
        capabilities
    }

    fn holders(&self) -> Vec<Locator> {
        vec![self.holder.clone()]
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let holders = self.at(options.at);
        let one = |envelope| {
            let mut receipt = Receipt::default();
            for holder in &holders {
                match self.put_at(envelope, holder) {
                    Ok(level) => receipt.acks.push(Ack { holder: holder.clone(), level, until: None }),
                    Err(error) => receipt.refused.push(Refusal::of(holder.clone(), &error)),
                }
            }
            receipt.settle().map_err(|error| error.op("put"))
        };
        envelopes.iter().map(one).collect()
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        self.check(holder)?;
        self.files.list(owner, &options, self.clock.now())
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        _options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        self.check(holder)?;
        let held = self.files.held(owner)?;
        let state = |id| if held.contains(id) { HoldingState::Held { until: None } } else { HoldingState::Absent };
        Ok(ids.iter().map(|id| Holding { id: *id, state: state(id) }).collect())
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let holders = self.at(options.at);
        let one = |request| {
            let mut deletion = Deletion::default();
            for holder in &holders {
                match self.check(holder).and_then(|()| self.files.delete(request)) {
                    Ok(true) => deletion.holders.push((holder.clone(), DeletionState::Confirmed)),
                    Ok(false) => deletion.holders.push((holder.clone(), DeletionState::Requested)),
                    Err(error) => deletion.refused.push(Refusal::of(holder.clone(), &error)),
                }
            }
            if deletion.holders.is_empty() {
                // Nobody took it: the same error as for a `put` that nobody took.
                let nobody = Receipt { refused: deletion.refused.clone(), ..Receipt::default() };
                nobody.settle().map_err(|error| error.op("delete"))?;
            }
            Ok(deletion)
        };
        requests.iter().map(one).collect()
    }

    fn watch(&self, _owner: MailboxId, _options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        None
    }

    fn reconciler(&self, _holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        None
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}
