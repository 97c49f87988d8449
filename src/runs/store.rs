//! The SQLite file. Several processes use it at once: WAL where the file system allows it, and a busy time-out.

use super::folders::{FILE, runs_below};
use super::record::{Record, Values, path_from};
use super::status::Status;
use anyhow::{Context, Result, bail};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of its tables.
const VERSION: i64 = 1;
/// How long a process waits for another one's writing.
const BUSY: Duration = Duration::from_secs(20);

const TABLES: &str = "CREATE TABLE IF NOT EXISTS runs (
    path TEXT PRIMARY KEY, status TEXT NOT NULL, reason TEXT, updated TEXT NOT NULL,
    settings TEXT NOT NULL, metrics TEXT NOT NULL, made TEXT NOT NULL) STRICT;";

/// The open database.
pub struct Store {
    /// Folder of the database.
    pub root: PathBuf,
    connection: Connection,
}

impl Store {
    /// Opens the database of a folder, or makes it. A damaged one is moved aside and rebuilt from the run folders; `say` is
    /// told so.
    ///
    /// # Errors
    /// A folder that cannot be written, and a database of a newer version.
    pub fn open(root: &Path, say: &mut dyn FnMut(String)) -> Result<Self> {
        let path = root.join(FILE);
        let is_new = !path.exists();
        let opened = connect(&path);
        match opened {
            Ok(connection) => {
                let store = Self { root: root.into(), connection };
                if is_new {
                    store.read_folders(say)?;
                }
                Ok(store)
            }
            Err(error) if is_damage(&error) => {
                let aside = set_aside(&path)?;
                let connection = connect(&path).map_err(|e| at(&path, e))?;
                let store = Self { root: root.into(), connection };
                let count = store.read_folders(say)?;
                say(format!(
                    "{} is damaged ({error}); it is now {}. A new one has the {count} runs that the folders hold.",
                    path.display(),
                    aside.display()
                ));
                Ok(store)
            }
            Err(error) => Err(at(&path, error)),
        }
    }

    /// Reads every run folder below the database's again. Returns their number.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn rebuild(&self, say: &mut dyn FnMut(String)) -> Result<usize> {
        self.connection.execute("DELETE FROM runs", []).map_err(|e| at(&self.path(), e))?;
        self.read_folders(say)
    }

    fn read_folders(&self, say: &mut dyn FnMut(String)) -> Result<usize> {
        let mut count = 0;
        for run in runs_below(&self.root)? {
            match Record::of_folder(&self.root, &run) {
                Ok(record) => {
                    self.put(&record)?;
                    count += 1;
                }
                Err(error) => say(format!("{} is left out: {error:#}", run.display())),
            }
        }
        Ok(count)
    }

    fn path(&self) -> PathBuf {
        self.root.join(FILE)
    }

    /// Adds a run, or replaces what is known of it.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn put(&self, record: &Record) -> Result<()> {
        let json = |values: &Values| serde_json::to_string(values);
        let written = self.connection.execute(
            "INSERT OR REPLACE INTO runs (path, status, reason, updated, settings, metrics, made) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                record.path,
                record.status.name(),
                record.reason,
                record.updated,
                json(&record.settings)?,
                json(&record.metrics)?,
                json(&record.made)?
            ],
        );
        written.map(drop).map_err(|e| at(&self.path(), e))
    }

    /// Every run, by path. One that was running and whose process is gone has stopped.
    ///
    /// # Errors
    /// An unreadable database.
    pub fn all(&self) -> Result<Vec<Record>> {
        let read = || -> rusqlite::Result<Vec<Record>> {
            let mut query = self
                .connection
                .prepare("SELECT path, status, reason, updated, settings, metrics, made FROM runs ORDER BY path")?;
            let rows = query.query_map([], record)?;
            rows.collect()
        };
        let mut records = read().map_err(|e| at(&self.path(), e))?;
        for record in records.iter_mut().filter(|record| record.status == Status::Running) {
            if let Ok(now) = Record::of_folder(&self.root, &self.root.join(&record.path)) {
                record.status = now.status;
            }
        }
        Ok(records)
    }

    /// The run of a folder, given as a path or by its path below the database's folder.
    ///
    /// # Errors
    /// No such run.
    pub fn find(&self, run: &Path) -> Result<Record> {
        let names = [run.display().to_string(), path_from(&self.root, run)];
        for name in names {
            let mut query = self
                .connection
                .prepare("SELECT path, status, reason, updated, settings, metrics, made FROM runs WHERE path = ?1")
                .map_err(|e| at(&self.path(), e))?;
            if let Some(record) = query.query_row([name], record).optional().map_err(|e| at(&self.path(), e))? {
                return Ok(record);
            }
        }
        bail!(
            "{}: no such run in {}; `diffpref runs list` shows them, `diffpref runs rebuild` reads the folders again",
            run.display(),
            self.path().display()
        )
    }

    /// Forgets a run. Its folder stays.
    ///
    /// # Errors
    /// An unwritable database.
    pub fn forget(&self, record: &Record) -> Result<()> {
        let removed = self.connection.execute("DELETE FROM runs WHERE path = ?1", [&record.path]);
        removed.map(drop).map_err(|e| at(&self.path(), e))
    }
}

fn at(path: &Path, error: rusqlite::Error) -> anyhow::Error {
    anyhow::Error::from(error).context(format!("cannot use the runs database {}", path.display()))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // On a network folder the answer is another mode, which works too, one writer at a time.
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(damage(&check));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > VERSION {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH);
        let text = format!("it is of a newer program (version {version} of its tables, this program knows {VERSION})");
        return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
    }
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.query_row("SELECT count(reason) + count(made) FROM runs", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

fn damage(text: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(text.into()))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown))
}

/// Renames a damaged database to a free name, with the files of its journal.
fn set_aside(path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    let aside = loop {
        let name = path.with_extension(format!("damaged-{number}"));
        if !name.exists() {
            break name;
        }
        number += 1;
    };
    std::fs::rename(path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
    for ending in ["sqlite-wal", "sqlite-shm"] {
        let _ = std::fs::remove_file(path.with_extension(ending));
    }
    Ok(aside)
}

fn record(row: &Row) -> rusqlite::Result<Record> {
    let values = |column: usize| -> rusqlite::Result<Values> {
        let text: String = row.get(column)?;
        serde_json::from_str(&text).map_err(|e| damage(&e.to_string()))
    };
    let status: String = row.get(1)?;
    Ok(Record {
        path: row.get(0)?,
        status: status.parse().map_err(|e: String| damage(&e))?,
        reason: row.get(2)?,
        updated: row.get(3)?,
        settings: values(4)?,
        metrics: values(5)?,
        made: values(6)?,
    })
}
