//! How a run ended, or that it did not.

crate::choice! {
    /// Status of a run.
    pub enum Status {
        /// A process holds its lock.
        Running = "running",
        /// `final/` is there.
        Finished = "finished",
        /// Steps, and neither `final/` nor a process.
        Stopped = "stopped",
        /// The last process ended with an error.
        Failed = "failed",
    }
}
