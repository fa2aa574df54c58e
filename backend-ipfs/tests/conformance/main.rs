//! The conformance kit, on real nodes over real sockets: each listens on a port of the loopback.

mod front;
mod hybrid;
mod nodes;

mod one_node {
    talkbox_core::conformance!(crate::nodes::Nodes::start(1).await.expect("the node starts"));
}

mod three_nodes {
    talkbox_core::conformance!(crate::nodes::Nodes::start(3).await.expect("the nodes start"));
}

/// Each is a peer of the others, so that what one takes all have.
mod mesh_of_three {
    talkbox_core::conformance!(crate::nodes::Nodes::mesh(3).await.expect("the nodes start"));
}

/// Mail on nodes, records and hints over a relay.
mod hybrid_of_nodes {
    talkbox_core::conformance!(crate::hybrid::Hybrid::start(3).await.expect("the nodes start"));
}
