//! Event files, read back record by record.

use diffpref::train::tensorboard::{Event, EventWriter, masked_crc};
use prost::Message;

/// The events of a file; panics on a wrong checksum or a torn record.
fn events(bytes: &[u8]) -> Vec<Event> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut events = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(u32_at(at + 8), masked_crc(&bytes[at..at + 8]), "checksum of a length");
        let data = &bytes[at + 12..at + 12 + length];
        assert_eq!(u32_at(at + 12 + length), masked_crc(data), "checksum of a record");
        events.push(Event::decode(data).unwrap());
        at += 16 + length;
    }
    events
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn the_checksum_is_masked_crc32c() {
    assert_eq!(masked_crc(b"123456789"), 0xC78A_B0E5);
}

#[test]
fn scalars_and_pictures_come_back_from_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), 0).unwrap();
    writer.scalar("loss", 1, 0.5).unwrap();
    writer.image("samples/a cat", 2, &png(8, 6)).unwrap();
    writer.flush().unwrap();
    let events = events(&std::fs::read(writer.path()).unwrap());
    assert_eq!(events.len(), 3);
    assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
    assert!(events[0].summary.is_none());
    let value = &events[1].summary.as_ref().unwrap().value[0];
    assert_eq!((events[1].step, value.tag.as_str(), value.simple_value), (1, "loss", Some(0.5)));
    let image = events[2].summary.as_ref().unwrap().value[0].image.as_ref().unwrap();
    assert_eq!((image.width, image.height, image.colorspace), (8, 6, 3));
    assert_eq!(image.encoded_image_string, png(8, 6));
}

#[test]
fn a_resumed_run_opens_a_second_file_that_replaces_the_later_steps_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = EventWriter::create(dir.path(), 0).unwrap();
    let second = EventWriter::create(dir.path(), 40).unwrap();
    assert_ne!(first.path(), second.path());
    let events = events(&std::fs::read(second.path()).unwrap());
    assert_eq!((events[1].step, events[1].session_log.as_ref().map(|log| log.status)), (41, Some(1)));
}

#[test]
fn a_picture_that_is_no_png_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), 0).unwrap();
    let error = writer.image("samples", 3, b"GIF89a").unwrap_err().to_string();
    assert!(error.contains("samples") && error.contains("step 3") && error.contains("PNG"), "{error}");
}
