//! CLIP's own objective (arXiv 2103.00020, section 2.3): pictures find their captions among a batch, and captions their
//! pictures.
//!
//!     L = ( CE(s F_i F_c^T, own) + CE(s F_c F_i^T, own) ) / 2
//!
//! Pictures of one caption share it: the target is uniform over equal captions.

use super::shared::sum_last;
use tch::{Kind, Tensor};

crate::keys! {
    /// Keys of [method]: none.
    pub struct Contrastive {}
}

/// Loss, a scalar: unit features `[B, P]` of pictures and of their captions, exp(logit_scale), number of each caption
/// `[B]` int64, equal for equal captions.
pub fn loss(images: &Tensor, captions: &Tensor, scale: &Tensor, number: &Tensor) -> Tensor {
    let logits = images.matmul(&captions.transpose(0, 1)) * scale;
    let same = number.unsqueeze(0).eq_tensor(&number.unsqueeze(1)).to_kind(logits.kind());
    let target = &same / sum_last(&same).unsqueeze(1);
    let entropy = |logits: &Tensor| -sum_last(&(logits.log_softmax(1, None::<Kind>) * &target)).mean(None::<Kind>);
    (entropy(&logits) + entropy(&logits.transpose(0, 1))) / 2.0
}
