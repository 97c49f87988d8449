//! Images decoded ahead of their use by several threads, delivered in order.

use super::transforms::{Transformed, View, apply};
use super::unreadable::Unreadable;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// Does `work` for each of `items` on `workers` threads and calls `take(i, ..)` on this thread, in order, until it
/// returns false. At most about two results per worker wait.
pub(crate) fn in_order<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(usize, R) -> bool,
) {
    let workers = workers.clamp(1, items.len().max(1));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Workers wait for a place in the channel; when the receiver is dropped, their next send ends them.
        let (send, receive) = sync_channel::<(usize, R)>(workers);
        for _ in 0..workers {
            let (send, next, work) = (send.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((i, item)) = claim(next, items) {
                    if send.send((i, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut wanted = 0;
        for (i, result) in receive {
            early.insert(i, result);
            while let Some(result) = early.remove(&wanted) {
                if !take(wanted, result) {
                    return;
                }
                wanted += 1;
            }
        }
    });
}

fn claim<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    items.get(i).map(|item| (i, item))
}

/// The pixels of a view, or the reason why there are none.
pub(super) fn decoded(view: &View, resolution: u32) -> Result<Transformed, Unreadable> {
    let image = view.image.decoded()?;
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
            View::center(path.into())
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
            in_order(
                workers,
                &views,
                |view| decoded(view, 8),
                |i, image| {
                    let red = image.unwrap().pixels.double_value(&[0, 0, 0]);
                    reds.push((i, ((red + 1.0) * 127.5).round() as usize));
                    true
                },
            );
            assert_eq!(reds, (0..40).map(|i| (i, i)).collect::<Vec<_>>(), "{workers} workers");
        }
    }

    #[test]
    fn taking_can_stop_early_and_bad_images_come_as_reasons() {
        let (dir, mut views) = pictures(30);
        views[1] = View::center(dir.path().join("missing.png").into());
        let views: Vec<&View> = views.iter().collect();
        let mut taken = Vec::new();
        in_order(
            4,
            &views,
            |view| decoded(view, 8),
            |i, image| {
                taken.push(image.err());
                i < 2
            },
        );
        assert_eq!(taken, [None, Some(Unreadable::Missing), None]);
    }
}
