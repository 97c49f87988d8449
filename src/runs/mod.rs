//! The runs database: what was trained and evaluated, in one SQLite file beside the runs. The run folders stay the
//! truth: [`Store::rebuild`] reads everything from them again.

mod compare;
mod comparison;
mod filter;
mod filter_tokens;
mod folders;
mod note;
mod record;
mod remove;
mod status;
mod store;
mod table;

pub use compare::{html as compare, series};
pub use filter::{Filter, Known};
pub use folders::{FILE, is_run, runs_below};
pub use note::{begun, ended, evaluated};
pub use record::{Record, flat};
pub use remove::remove;
pub use status::Status;
pub use store::Store;
pub use table::{Form, Order, described, rows, shown};
