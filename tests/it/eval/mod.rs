//! `diffpref eval`: prompts, pictures, figures, intervals, and who labelled the data.

mod clip;
mod intervals;
mod labellers;
mod negative;
mod pairs;
mod prompts;
mod run;
