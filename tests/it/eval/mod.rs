//! `diffpref eval`: pictures, judges, intervals.

mod intervals;
mod judge;
mod labellers;
mod measures;
mod negative;
mod run;
