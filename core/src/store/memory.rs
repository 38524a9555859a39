//! The in-memory engine.

/// To come.
pub struct MemoryStore;
