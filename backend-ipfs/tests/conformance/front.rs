//! A proxy in front of a node. What passes is encrypted, so it can let nothing through and let it through late; it can
//! neither refuse in the name of the node nor lie.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use talkbox_core::{
    Locator,
    testkit::{Fault, Faults},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// Bytes that are passed on at once.
const PORTION: usize = 16 << 10;

/// A proxy. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Front {
    address: SocketAddr,
    node: Arc<OnceLock<(SocketAddr, String)>>,
    fault: watch::Sender<Fault>,
    task: AbortHandle,
}

impl Front {
    /// One that serves nobody until it is [put before](Self::stand_before) a node.
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (node, fault) = (Arc::default(), watch::channel(Fault::default()).0);
        let task = tokio::spawn(serve(listener, Arc::clone(&node), fault.subscribe())).abort_handle();
        Self { address, node, fault, task }
    }

    /// Passes everything on to the node of this id.
    pub(crate) fn stand_before(&self, node: SocketAddr, id: String) {
        self.node.set((node, id)).expect("once");
    }

    /// As senders name the node.
    pub(crate) fn peer(&self) -> String {
        let (_, id) = self.node.get().expect("put before a node");
        format!("/ip4/{}/tcp/{}/p2p/{id}", self.address.ip(), self.address.port())
    }

    /// The node, as a holder is named.
    fn holder(&self) -> Locator {
        Locator::new("ipfs", &self.peer()).expect("a locator")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, node: Arc<OnceLock<(SocketAddr, String)>>, fault: watch::Receiver<Fault>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Some((node, _)) = node.get() else { continue };
        connections.spawn(pass(client, *node, fault.clone()));
    }
}

/// One connection. It ends when either side ends it.
async fn pass(client: TcpStream, node: SocketAddr, fault: watch::Receiver<Fault>) {
    // While the node is down, nobody answers.
    let Ok(node) = TcpStream::connect(node).await else { return };
    for stream in [&client, &node] {
        stream.set_nodelay(true).expect("an option");
    }
    let ((from_client, to_client), (from_node, to_node)) = (client.into_split(), node.into_split());
    tokio::select! {
        () = one_way(from_client, to_node, fault.clone()) => {}
        () = one_way(from_node, to_client, fault) => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut portion = vec![0; PORTION];
    while let Ok(count @ 1..) = from.read(&mut portion).await {
        let Ok(delay) = fault.wait_for(|fault| !fault.hang).await.map(|fault| fault.delay) else { return };
        sleep(delay.unwrap_or(Duration::ZERO)).await;
        if to.write_all(&portion[..count]).await.is_err() {
            return;
        }
    }
    // Of a node that hangs nobody learns that it has ended a connection, either.
    drop(fault.wait_for(|fault| !fault.hang).await);
}

/// The kit's faults, as far as they can be told on an encrypted wire.
#[derive(Debug)]
pub(crate) struct WireFaults(pub(crate) Vec<Front>);

impl Faults for WireFaults {
    fn set(&self, holder: &Locator, fault: Fault) -> bool {
        let Some(front) = self.0.iter().find(|front| front.holder() == *holder) else { return false };
        let alters = fault.drop > 0 || fault.duplicate > 0 || fault.reorder;
        let can_be_told = !alters && fault.refuse.is_none() && fault.lies.is_empty();
        if can_be_told {
            front.fault.send_replace(fault);
        }
        can_be_told
    }

    fn clear(&self) {
        for front in &self.0 {
            front.fault.send_replace(Fault::default());
        }
    }
}
