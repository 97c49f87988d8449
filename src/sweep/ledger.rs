//! The sweep's database: which work is done, failed, or claimed by whom.
//!
//! A claim is a row with its owner and a count of heartbeats. Workers write into one SQLite file, also over a shared
//! folder: hence a rollback journal, since WAL needs shared memory. No clock of two machines is compared.

use super::owner::Owner;
use super::work::Work;
use anyhow::{Context, Result};
use rusqlite::{Connection, ErrorCode, Row, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the database in the sweep's folder.
pub const FILE: &str = "sweep.sqlite";
/// How long a worker waits for another one's writing.
const BUSY: Duration = Duration::from_secs(60);

const TABLES: &str = "CREATE TABLE IF NOT EXISTS work (
    trial INTEGER NOT NULL, stage TEXT NOT NULL, rung INTEGER NOT NULL, status TEXT NOT NULL DEFAULT 'free',
    owner TEXT NOT NULL DEFAULT '', boot TEXT NOT NULL DEFAULT '', beats INTEGER NOT NULL DEFAULT 0, reason TEXT,
    steps INTEGER NOT NULL DEFAULT 0, pairs INTEGER NOT NULL DEFAULT 0, evaluations INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0, PRIMARY KEY (trial, stage, rung)) STRICT;";

crate::choice! {
    /// Status of a unit of work.
    #[derive(Default)]
    pub enum Status {
        #[default]
        Free = "free",
        Claimed = "claimed",
        Finished = "finished",
        Failed = "failed",
    }
}

/// Cost of a unit of work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    pub steps: u64,
    pub pairs: u64,
    /// Network evaluations.
    pub evaluations: u64,
    pub seconds: f64,
}

/// A row of the database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    pub status: Status,
    pub owner: Owner,
    /// Heartbeats of the owner so far.
    pub beats: i64,
    /// Why it failed.
    pub reason: Option<String>,
    pub spent: Spent,
}

/// Rows by work.
pub type Entries = BTreeMap<Work, Entry>;

/// The open database.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
}

impl Ledger {
    /// Opens the database of a sweep's folder, or makes it. Returns whether it is new: a damaged one is moved aside, and
    /// finished work has to be found on the disk.
    ///
    /// # Errors
    /// An unwritable folder.
    pub fn open(folder: &Path, say: &mut dyn FnMut(String)) -> Result<(Self, bool)> {
        let path = folder.join(FILE);
        let is_new = !path.exists();
        match connect(&path) {
            Ok(connection) => Ok((Self { connection, path }, is_new)),
            Err(error)
                if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) =>
            {
                let aside = path.with_extension("damaged");
                std::fs::rename(&path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
                let _ = std::fs::remove_file(path.with_extension("sqlite-journal"));
                say(format!(
                    "{} is damaged ({error}); it is now {}. Finished work is found by its files.",
                    path.display(),
                    aside.display()
                ));
                let connection = connect(&path).map_err(|e| at(&path, e))?;
                Ok((Self { connection, path }, true))
            }
            Err(error) => Err(at(&path, error)),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.connection).map_err(|e| at(&self.path, e))
    }

    /// Runs `work` while no other process writes.
    ///
    /// # Errors
    /// Those of `work`, which then leaves no trace in the database.
    pub fn alone<T>(&mut self, work: impl FnOnce(&Rows) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(|e| at(&self.path, e))?;
        let done = work(&Rows { connection: &transaction, path: &self.path })?;
        transaction.commit().map_err(|e| at(&self.path, e))?;
        Ok(done)
    }

    /// Every row.
    ///
    /// # Errors
    /// An unreadable database.
    pub fn entries(&self) -> Result<Entries> {
        self.with(entries)
    }

    /// Counts a heartbeat. False: the claim is another worker's by now.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn beat(&self, work: &Work, owner: &Owner) -> Result<bool> {
        let sql = "UPDATE work SET beats = beats + 1 WHERE trial = ?1 AND stage = ?2 AND rung = ?3 AND owner = ?4 AND status = 'claimed'";
        self.with(|c| c.execute(sql, params![work.trial as i64, work.stage.name(), work.rung as i64, owner.name]))
            .map(|rows| rows == 1)
    }

    /// Ends a claim. Nothing happens if it is another worker's by now.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn settle(&self, work: &Work, owner: &Owner, status: Status, reason: Option<&str>, spent: Spent) -> Result<()> {
        let sql = "UPDATE work SET status = ?1, reason = ?2, steps = ?3, pairs = ?4, evaluations = ?5, seconds = seconds + ?6, owner = '' \
                   WHERE trial = ?7 AND stage = ?8 AND rung = ?9 AND owner = ?10";
        let Spent { steps, pairs, evaluations, seconds } = spent;
        self.with(|c| {
            c.execute(
                sql,
                params![
                    status.name(),
                    reason,
                    steps as i64,
                    pairs as i64,
                    evaluations as i64,
                    seconds,
                    work.trial as i64,
                    work.stage.name(),
                    work.rung as i64,
                    owner.name
                ],
            )
        })
        .map(drop)
    }

    /// Frees failed work. Returns how much there was.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn retry_failed(&self) -> Result<usize> {
        self.with(|c| c.execute("UPDATE work SET status = 'free', reason = NULL WHERE status = 'failed'", []))
    }
}

/// The rows within [`Ledger::alone`].
pub struct Rows<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

impl Rows<'_> {
    /// # Errors
    /// An unreadable database.
    pub fn entries(&self) -> Result<Entries> {
        entries(self.connection).map_err(|e| at(self.path, e))
    }

    /// Adds work that is not there yet.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn add(&self, work: &Work, status: Status) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO work (trial, stage, rung, status) VALUES (?1, ?2, ?3, ?4)";
        let values = params![work.trial as i64, work.stage.name(), work.rung as i64, status.name()];
        self.connection.execute(sql, values).map(drop).map_err(|e| at(self.path, e))
    }

    /// Makes the work this owner's.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn claim(&self, work: &Work, owner: &Owner) -> Result<()> {
        let sql = "UPDATE work SET status = 'claimed', owner = ?1, boot = ?2, beats = 0 WHERE trial = ?3 AND stage = ?4 AND rung = ?5";
        let values = params![owner.name, owner.boot, work.trial as i64, work.stage.name(), work.rung as i64];
        self.connection.execute(sql, values).map(drop).map_err(|e| at(self.path, e))
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(TABLES)?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match check.as_str() {
        "ok" => Ok(connection),
        other => Err(damage(other)),
    }
}

fn damage(text: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(text.into()))
}

fn at(path: &Path, error: rusqlite::Error) -> anyhow::Error {
    anyhow::Error::from(error).context(format!("cannot use the sweep's database {}", path.display()))
}

fn entries(connection: &Connection) -> rusqlite::Result<Entries> {
    let mut query = connection.prepare(
        "SELECT trial, stage, rung, status, owner, boot, beats, reason, steps, pairs, evaluations, seconds FROM work",
    )?;
    query.query_map([], entry)?.collect()
}

fn entry(row: &Row) -> rusqlite::Result<(Work, Entry)> {
    let (stage, status): (String, String) = (row.get(1)?, row.get(3)?);
    let whole = |column: usize| row.get::<_, i64>(column).map(|n| n.max(0) as u64);
    let work = Work {
        trial: whole(0)? as usize,
        stage: stage.parse().map_err(|e: String| damage(&e))?,
        rung: whole(2)? as usize,
    };
    let spent = Spent { steps: whole(8)?, pairs: whole(9)?, evaluations: whole(10)?, seconds: row.get(11)? };
    let owner = Owner { name: row.get(4)?, boot: row.get(5)? };
    let status = status.parse().map_err(|e: String| damage(&e))?;
    Ok((work, Entry { status, owner, beats: row.get(6)?, reason: row.get(7)?, spent }))
}
