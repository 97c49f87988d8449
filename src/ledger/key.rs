//! Keys of records.

use crate::data::batches::Batch;
use anyhow::Result;
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

/// The first half of a SHA-256 over the rows of a forward pass.
pub type Key = [u8; 16];

/// Key of some rows of a batch, in their order. It covers latents, noise, noise levels and every tensor of the
/// conditioning, with names and shapes: equal keys mean equal inputs of the reference, whatever they were made by.
///
/// # Errors
/// Errors of libtorch.
pub fn of_rows(batch: &Batch, rows: &[i64]) -> Result<Key> {
    let index = Tensor::from_slice(rows);
    let mut digest = Sha256::new();
    let mut add = |name: &str, tensor: &Tensor| -> Result<()> {
        let rows = tensor.f_index_select(0, &index.to_device(tensor.device()))?;
        let rows = rows.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0u8; rows.numel() * rows.kind().elt_size_in_bytes()];
        rows.f_copy_data_u8(&mut bytes, rows.numel())?;
        digest.update(format!("{name} {:?} {:?}\n", rows.kind(), rows.size()));
        digest.update(bytes);
        Ok(())
    };
    add("latents", &batch.latents)?;
    add("noise", &batch.noise)?;
    add("levels", batch.levels.tensor())?;
    for (name, tensor) in batch.conditioning.iter() {
        add(name, tensor)?;
    }
    let mut key = Key::default();
    key.copy_from_slice(&digest.finalize()[..16]);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::{Conditioning, Levels};

    fn batch(change: impl Fn(&mut Batch)) -> Batch {
        let values = |n: i64| Tensor::arange(n * 4, tch::kind::FLOAT_CPU);
        let mut batch = Batch {
            items: Vec::new(),
            latents: values(2).reshape([2, 1, 2, 2]),
            noise: values(2).reshape([2, 1, 2, 2]) + 1,
            levels: Levels::new(&[3.0, 4.0]),
            conditioning: Conditioning::of_prompt(values(2).reshape([2, 2, 2])),
        };
        change(&mut batch);
        batch
    }

    #[test]
    fn a_key_changes_with_every_input_and_with_the_rows() {
        let of = |change: &dyn Fn(&mut Batch), rows: &[i64]| of_rows(&batch(change), rows).unwrap();
        let plain = of(&|_| {}, &[0, 1]);
        assert_eq!(of(&|_| {}, &[0, 1]), plain);
        let changes: [&dyn Fn(&mut Batch); 5] = [
            &|b| drop(b.latents.get(1).g_add_scalar_(1e-6)),
            &|b| drop(b.noise.get(0).g_add_scalar_(1.0)),
            &|b| b.levels = Levels::new(&[3.0, 5.0]),
            &|b| b.conditioning = b.conditioning.map(|t| t + 1),
            &|b| {
                b.conditioning =
                    b.conditioning.shallow_clone().with("time_ids", Tensor::ones([2, 6], tch::kind::FLOAT_CPU))
            },
        ];
        for (i, change) in changes.iter().enumerate() {
            assert_ne!(of(change, &[0, 1]), plain, "change {i}");
        }
        assert_ne!(of(&|_| {}, &[1, 0]), plain);
        assert_ne!(of(&|_| {}, &[0]), plain);
    }

    #[test]
    fn rows_outside_the_key_do_not_count() {
        let other = batch(|b| drop(b.latents.get(1).g_add_scalar_(1.0)));
        assert_eq!(of_rows(&batch(|_| {}), &[0]).unwrap(), of_rows(&other, &[0]).unwrap());
    }
}
