//! The write-ahead log against a disk that loses, tears and keeps what was not synced.

#[path = "log/chain.rs"]
mod chain;
#[path = "log/choices.rs"]
mod choices;
#[path = "log/disk.rs"]
mod disk;
#[path = "log/model.rs"]
mod model;
#[path = "log/node.rs"]
mod node;
#[path = "log/rot.rs"]
mod rot;

#[path = "log/crashes.rs"]
mod crashes;
#[path = "log/damage.rs"]
mod damage;
#[path = "log/tails.rs"]
mod tails;
#[path = "log/writing.rs"]
mod writing;
