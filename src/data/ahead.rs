//! Images decoded ahead of their use by several threads, delivered in order.

use super::decode;
use super::transforms::{Transformed, View, apply};
use super::unreadable::Unreadable;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// The pixels of a view, or the reason why there are none.
type Decoded = Result<Transformed, Unreadable>;

/// Decodes and transforms `views` on `workers` threads and calls `take(i, ..)` on this thread, in order, until it
/// returns false. At most about two images per worker wait.
pub(super) fn in_order(workers: usize, views: &[&View], resolution: u32, mut take: impl FnMut(usize, Decoded) -> bool) {
    let workers = workers.clamp(1, views.len().max(1));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Workers wait for a place in the channel; when the receiver is dropped, their next send ends them.
        let (send, receive) = sync_channel::<(usize, Decoded)>(workers);
        for _ in 0..workers {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some((i, view)) = claim(next, views) {
                    if send.send((i, decoded(view, resolution))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut wanted = 0;
        for (i, image) in receive {
            early.insert(i, image);
            while let Some(image) = early.remove(&wanted) {
                if !take(wanted, image) {
                    return;
                }
                wanted += 1;
            }
        }
    });
}

fn claim<'a>(next: &AtomicUsize, views: &[&'a View]) -> Option<(usize, &'a View)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    views.get(i).map(|view| (i, *view))
}

fn decoded(view: &View, resolution: u32) -> Decoded {
    let image = decode::read(&view.image).and_then(|bytes| decode::decode(&bytes))?;
    apply(&image, resolution, view)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(n: u8) -> (tempfile::TempDir, Vec<View>) {
        let dir = tempfile::tempdir().unwrap();
        let views = (0..n).map(|i| {
            let path = dir.path().join(format!("{i}.png"));
            image::RgbImage::from_pixel(8, 8, image::Rgb([i, 0, 0])).save(&path).unwrap();
            View::center(path)
        });
        let views = views.collect();
        (dir, views)
    }

    #[test]
    fn images_come_in_order_whatever_the_number_of_workers() {
        let (_dir, views) = pictures(40);
        let views: Vec<&View> = views.iter().collect();
        for workers in [1, 3, 64] {
            let mut reds = Vec::new();
            in_order(workers, &views, 8, |i, image| {
                let red = image.unwrap().pixels.double_value(&[0, 0, 0]);
                reds.push((i, ((red + 1.0) * 127.5).round() as usize));
                true
            });
            assert_eq!(reds, (0..40).map(|i| (i, i)).collect::<Vec<_>>(), "{workers} workers");
        }
    }

    #[test]
    fn taking_can_stop_early_and_bad_images_come_as_reasons() {
        let (dir, mut views) = pictures(30);
        views[1] = View::center(dir.path().join("missing.png"));
        let views: Vec<&View> = views.iter().collect();
        let mut taken = Vec::new();
        in_order(4, &views, 8, |i, image| {
            taken.push(image.err());
            i < 2
        });
        assert_eq!(taken, [None, Some(Unreadable::Missing), None]);
    }
}
