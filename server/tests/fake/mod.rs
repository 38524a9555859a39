//! A cluster in memory that speaks drey's protocol: nodes on real sockets over one shared map, with faults on request.
//!
//! It is a stand-in to test clients against, and keeps the contract of `drey.proto` as far as they can see it. Each node
//! has a thread and a runtime of its own, so that a test may block.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod node;
mod service;
mod world;

pub use node::{Fault, Node};
pub use world::World;

use std::sync::{Arc, Mutex};

/// Some nodes over one map.
pub struct Cluster {
    pub nodes: Vec<Node>,
    world: Arc<Mutex<World>>,
}

impl Cluster {
    /// So many nodes, all groups led by the first.
    pub fn of(count: usize) -> Cluster {
        let world = Arc::new(Mutex::new(World::default()));
        let nodes: Vec<Node> = (1..=count as u64).map(|id| Node::start(id, &world)).collect();
        let members = nodes.iter().map(|node| (node.id, node.address.clone())).collect();
        world.lock().expect("not poisoned").members = members;
        Cluster { nodes, world }
    }

    /// The addresses of all nodes, as `--server` takes them.
    pub fn servers(&self) -> String {
        self.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Looks at or changes what all nodes share.
    pub fn world<T>(&self, visit: impl FnOnce(&mut World) -> T) -> T {
        visit(&mut self.world.lock().expect("not poisoned"))
    }

    /// Kills a node and starts it again at its address.
    pub fn restart(&mut self, index: usize) {
        self.nodes[index].kill();
        self.nodes[index].start_again(&self.world);
    }
}
