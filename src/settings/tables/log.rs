//! [log]: what a run writes beside metrics.

use crate::keys::OnResume::Harmless;
use crate::keys::{at_least, switch};

crate::keys! {
    pub struct LogConfig {
        /// write event files
        tensorboard: bool = switch().or("true").on_resume(Harmless),
        /// steps between TensorBoard points and plain progress lines
        every: u64 = at_least(1).or("1").on_resume(Harmless),
    }
}
