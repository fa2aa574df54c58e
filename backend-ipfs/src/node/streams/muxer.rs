//! Between libp2p and the connection: every stream that comes in is listened to until it has said what it is for.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    PeerId, Transport as _,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
        transport::Boxed,
    },
};

use super::{control::Control, names::Names, translated::Translated};

/// A transport over which streams can ask for the changing protocols too.
pub(crate) fn over(transport: Boxed<(PeerId, StreamMuxerBox)>, control: &Control) -> Boxed<(PeerId, StreamMuxerBox)> {
    let names = Arc::clone(control.names());
    transport.map(move |(peer, inner), _| (peer, StreamMuxerBox::new(Muxer { inner, names }))).boxed()
}

/// A connection whose streams are listened to.
struct Muxer {
    inner: StreamMuxerBox,
    names: Arc<Names>,
}

impl fmt::Debug for Muxer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Muxer").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl StreamMuxer for Muxer {
    type Substream = Translated<SubstreamBox>;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = Pin::new(&mut self.inner).poll_inbound(cx);
        stream.map_ok(|stream| Translated::inbound(stream, Arc::clone(&self.names)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.inner).poll_outbound(cx).map_ok(Translated::plain)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
