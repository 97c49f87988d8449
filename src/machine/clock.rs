//! The time of day.

use jiff::{SignedDuration, Timestamp};

/// Current time as `2026-01-31T12:00:00Z`.
pub fn now_iso() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Seconds since 1970 in UTC.
pub fn unix_seconds() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// Hours and minutes in UTC, `seconds` from now: `14:05`.
pub fn utc_after(seconds: f64) -> String {
    let later = Timestamp::now().saturating_add(SignedDuration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    later.map_or_else(|_| String::new(), |at| at.strftime("%H:%M").to_string())
}
