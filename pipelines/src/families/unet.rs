//! The UNet on a discrete noise schedule, for families.

use super::declaration::NetworkPart;
use super::relatives;
use crate::models::UNetConfig;
use crate::process::Process;
use crate::schedulers::{NoiseSchedule, SchedulerConfig};
use std::sync::Arc;

pub(super) const UNET: NetworkPart = NetworkPart {
    component: "unet",
    class: "UNet2DConditionModel",
    refuse: relatives::refuse_unet,
    describe: |file| Ok(Arc::new(UNetConfig::from_file(file)?)),
    explain: relatives::name_distilled,
};

pub(super) fn discrete(config: &SchedulerConfig) -> Box<dyn Process> {
    Box::new(NoiseSchedule::new(config))
}
