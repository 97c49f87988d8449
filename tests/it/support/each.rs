//! One test per method or recipe in place of a loop: a failure names it, and they run side by side.

/// A module `$group` with one test per name, which calls `$check` with it, and the list `NAMES`. A name with hyphens
/// follows its identifier in parentheses.
macro_rules! one_test_each {
    ($group:ident: $check:path; $($name:ident $(($spelled:literal))?)+) => {
        mod $group {
            #[allow(dead_code)] // read where tests compare it with the registry
            pub const NAMES: &[&str] = &[$([$($spelled,)? stringify!($name)][0]),+];
            $(
                #[test]
                fn $name() {
                    $check([$($spelled,)? stringify!($name)][0]);
                }
            )+
        }
    };
}
pub(crate) use one_test_each;

/// As `one_test_each`, for all methods whose loss is one of errors at noised latents.
macro_rules! one_test_per_method_of_errors {
    ($group:ident: $check:path) => {
        crate::support::each::one_test_each! {
            $group: $check;
            apo_down apo_zero bco cdpo cream discopop dmpo dpo dpo_shift dspo_score dspo_sq focalpo hinge hypo inpo ipo kto
            lipo_lambda mapo mappo mpo nca npo odpo plackett_luce rankdpo rdpo rpo sft smpo sppo_hard todo wpo
            aot aot_unpaired relative_po pmpo uapo
        }
    };
}
pub(crate) use one_test_per_method_of_errors;

/// As `one_test_each`, for all methods that sample while they train.
macro_rules! one_test_per_sampling_method {
    ($group:ident: $check:path) => {
        crate::support::each::one_test_each! {
            $group: $check;
            d3po spo tailorpo ddpo dpok grpo dense_reward("dense-reward")
        }
    };
}
pub(crate) use one_test_per_sampling_method;

/// As `one_test_each`, for all recipes on pairs, lists or labels.
macro_rules! one_test_per_recipe {
    ($group:ident: $check:path) => {
        crate::support::each::one_test_each! {
            $group: $check;
            apo_down apo_zero balanced bco cdpo cream dense_timesteps("dense-timesteps") discopop dmpo dpo dpo_shift
            dspo_score dspo_sq focalpo hinge hypo inpo ipo kto lipo_lambda mapo mappo mpo nca npo odpo plackett_luce
            rankdpo rdpo rpo sft smpo sppo_hard timestep_aware("timestep-aware") todo videodpo wpo
            aot aot_unpaired relative_po pmpo uapo
        }
    };
}
pub(crate) use one_test_per_recipe;
