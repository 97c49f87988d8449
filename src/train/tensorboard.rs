//! TensorBoard event files: scalars and pictures.
//!
//! A record is its length (u64 LE), the masked CRC-32C of those 8 bytes, the protobuf `Event`, and its masked CRC-32C.

use crate::machine::clock::unix_seconds;
use anyhow::{Context, Result};
use prost::Message;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// `tensorflow.Event`, reduced to the fields written here.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    pub session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// A value under a tag: a number or a picture.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    pub image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 3 is RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

/// Marks events of earlier files from this step on as replaced.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// 1 is START.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// Writes one event file.
pub struct EventWriter {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventWriter {
    /// Opens a new event file in `dir`. `start_step` is the last step kept from earlier files: 0 for a new run, the
    /// step of the checkpoint for a resumed one, whose steps replace later ones.
    ///
    /// # Errors
    /// An unwritable file.
    pub fn create(dir: &Path, start_step: u64) -> Result<Self> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let seconds = unix_seconds() as u64;
        // Ten digits sort the files by time, the order of readers.
        let name = format!("events.out.tfevents.{seconds:010}.{host}.{}.{number}", std::process::id());
        let path = dir.join(name);
        let file = File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut writer = Self { path, out: BufWriter::new(file) };
        let version =
            Event { wall_time: unix_seconds(), file_version: Some("brain.Event:2".into()), ..Event::default() };
        writer.write(&version)?;
        if start_step > 0 {
            let session_log = Some(SessionLog { status: 1 });
            let step = start_step as i64 + 1;
            writer.write(&Event { wall_time: unix_seconds(), step, session_log, ..Event::default() })?;
        }
        writer.flush()?;
        Ok(writer)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One number under `tag`.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.value(step, Value { tag: tag.into(), simple_value: Some(value as f32), image: None })
    }

    /// One picture under `tag`, as the bytes of an RGB PNG file.
    ///
    /// # Errors
    /// Bytes that are no PNG.
    pub fn image(&mut self, tag: &str, step: u64, png: &[u8]) -> Result<()> {
        // A PNG starts with 8 bytes of signature, then the IHDR chunk: length, name, width, height (big-endian).
        let side = |at: usize| -> Option<i32> {
            let bytes: [u8; 4] = png.get(at..at + 4)?.try_into().ok()?;
            i32::try_from(u32::from_be_bytes(bytes)).ok()
        };
        let (Some(width), Some(height), true) = (side(16), side(20), png.starts_with(b"\x89PNG\r\n\x1a\n")) else {
            anyhow::bail!("TensorBoard picture {tag} at step {step}: expected the bytes of a PNG file");
        };
        let image = Image { height, width, colorspace: 3, encoded_image_string: png.to_vec() };
        self.value(step, Value { tag: tag.into(), simple_value: None, image: Some(image) })
    }

    /// Flushes to the operating system, so that readers get the data.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn value(&mut self, step: u64, value: Value) -> Result<()> {
        let summary = Some(Summary { value: vec![value] });
        self.write(&Event { wall_time: unix_seconds(), step: step as i64, summary, ..Event::default() })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let record = record(&event.encode_to_vec());
        self.out.write_all(&record).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted, so that a checksum over data with checksums stays strong.
pub fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}
