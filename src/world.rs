//! The processes that train one run together. Today there is one: [`Alone`].
//!
//! Every rank takes the same decisions from the same numbers. An event on a single rank (a signal, a number that is
//! not finite, a full disk) is agreed on before any rank acts on it.

use crate::progress::{Halted, Signal, Stop, Stopped};
use anyhow::{Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Range;
use tch::Tensor;

/// Outcome of a piece of work on a rank, from the mildest to the worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Good,
    Stopped(Signal),
    /// The numbers diverged; the weights of the last finished step are valid.
    Halted(String),
    Failed(String),
    /// The numbers diverged; the weights may be damaged.
    Lost(String),
}

/// The ranks of a run, numbered from 0. Rank 0 writes the run folder.
pub trait World {
    fn rank(&self) -> usize;

    fn size(&self) -> usize;

    /// Replaces each tensor by its sum over ranks, added in the order of ranks.
    ///
    /// # Errors
    /// A rank that does not answer, as in every method below.
    fn sum(&self, tensors: &mut [Tensor]) -> Result<()>;

    /// The bytes of every rank, in the order of ranks.
    ///
    /// # Errors
    /// Those of [`sum`](Self::sum).
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// The worst fate of all ranks; among equal ones that of the lowest rank.
    ///
    /// # Errors
    /// Those of [`sum`](Self::sum).
    fn agree(&self, fate: Fate) -> Result<Fate>;

    /// Returns once every rank has called it.
    ///
    /// # Errors
    /// Those of [`sum`](Self::sum).
    fn barrier(&self) -> Result<()>;

    /// Whether this rank writes the run folder.
    fn writes(&self) -> bool {
        self.rank() == 0
    }

    /// The share of this rank in `n` pieces of work. Concatenated in the order of ranks, the shares are the pieces in
    /// their order.
    fn share(&self, n: u64) -> Range<u64> {
        let (rank, size) = (self.rank() as u64, self.size() as u64);
        rank * n / size..(rank + 1) * n / size
    }
}

/// A world of one process. It costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl World for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [Tensor]) -> Result<()> {
        Ok(())
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes])
    }

    fn agree(&self, fate: Fate) -> Result<Fate> {
        Ok(fate)
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}

impl Fate {
    fn of<T>(result: &Result<T>) -> Self {
        let Err(error) = result else { return Fate::Good };
        match (error.downcast_ref::<Stopped>(), error.downcast_ref::<Halted>()) {
            (Some(stopped), _) => Fate::Stopped(stopped.0),
            (_, Some(halted)) if halted.last_step_is_good => Fate::Halted(format!("{error:#}")),
            (_, Some(_)) => Fate::Lost(format!("{error:#}")),
            _ => Fate::Failed(format!("{error:#}")),
        }
    }

    fn into_error(self) -> Option<anyhow::Error> {
        match self {
            Fate::Good => None,
            Fate::Stopped(signal) => Some(Stopped(signal).into()),
            Fate::Halted(reason) => Some(Halted::before_update(reason).into()),
            Fate::Failed(reason) => Some(anyhow!("another process of the run failed: {reason}")),
            Fate::Lost(reason) => Some(Halted::too_late(reason).into()),
        }
    }
}

/// Result of work shared by all ranks: good if it is good on all of them.
///
/// # Errors
/// The rank's own error, or the agreed one if its own work is good.
pub fn settle<T>(world: &dyn World, result: Result<T>) -> Result<T> {
    let agreed = world.agree(Fate::of(&result))?;
    match (result, agreed.into_error()) {
        (Ok(_), Some(error)) => Err(error),
        (result, _) => result,
    }
}

/// Stops all ranks after a stop signal on one of them.
///
/// # Errors
/// [`Stopped`].
pub fn settle_stop(world: &dyn World, stop: &Stop) -> Result<()> {
    settle(world, stop.check().map_err(Into::into))
}

/// A value of every rank, in the order of ranks.
///
/// # Errors
/// A rank that does not answer, or with a wrong answer.
pub fn gathered<T: Serialize + DeserializeOwned>(world: &dyn World, value: T) -> Result<Vec<T>> {
    if world.size() == 1 {
        return Ok(vec![value]);
    }
    let all = world.gather(serde_json::to_vec(&value)?)?;
    all.iter().map(|bytes| Ok(serde_json::from_slice(bytes)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of three ranks, for shares.
    struct Third(usize);

    impl World for Third {
        fn rank(&self) -> usize {
            self.0
        }

        fn size(&self) -> usize {
            3
        }

        fn sum(&self, _: &mut [Tensor]) -> Result<()> {
            Ok(())
        }

        fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
            Ok(vec![bytes])
        }

        /// Another rank was stopped.
        fn agree(&self, _: Fate) -> Result<Fate> {
            Ok(Fate::Stopped(Signal::Terminate))
        }

        fn barrier(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn shares_follow_one_another() {
        let shares: Vec<u64> = (0..3).flat_map(|rank| Third(rank).share(7)).collect();
        assert_eq!(shares, (0..7).collect::<Vec<_>>());
        assert_eq!(Alone.share(7), 0..7);
    }

    #[test]
    fn good_work_ends_as_the_others_did() {
        let error = settle(&Third(0), Ok(3)).unwrap_err();
        assert!(error.is::<Stopped>());
        assert_eq!(settle(&Alone, Ok(3)).unwrap(), 3);
        let own = settle(&Third(1), Err::<(), _>(anyhow!("own"))).unwrap_err();
        assert_eq!(own.to_string(), "own");
    }
}
