//! Closed choices of the tables.

crate::choice! {
    /// `[data] crop`
    #[derive(Default)]
    pub enum Crop {
        #[default]
        Center = "center",
        Random = "random",
    }
}

crate::choice! {
    /// `[timesteps] law`
    pub enum LawName {
        Uniform = "uniform",
        Discounted = "discounted",
        List = "list",
    }
}

crate::choice! {
    /// `[timesteps] weighting`
    pub enum TimestepWeighting {
        None = "none",
        TimestepAware = "timestep_aware",
    }
}

crate::choice! {
    /// `[safeguard] name`
    pub enum SafeguardName {
        None = "none",
        Sdpo = "sdpo",
    }
}

crate::choice! {
    /// `[weights] source`
    pub enum WeightsFrom {
        None = "none",
        Column = "column",
        VideoDpo = "videodpo",
    }
}

crate::choice! {
    /// `[reference] kind`
    pub enum ReferenceKind {
        Frozen = "frozen",
        /// The policy of some steps ago.
        Updated = "updated",
    }
}

crate::choice! {
    /// `[optim] lr_scale`
    pub enum LrScale {
        None = "none",
        GlobalBatch = "global_batch",
    }
}

crate::choice! {
    /// `[optim] schedule`
    pub enum Schedule {
        Constant = "constant",
        Cosine = "cosine",
        Linear = "linear",
    }
}

crate::choice! {
    /// `[train] on_spike`
    pub enum OnSpike {
        Warn = "warn",
        Skip = "skip",
        Stop = "stop",
    }
}

crate::choice! {
    /// `[rollout] buffer`
    #[derive(Default)]
    pub enum Buffer {
        #[default]
        Memory = "memory",
        Disk = "disk",
    }
}
