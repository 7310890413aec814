//! The loader: the same batches for every number of workers and every start, bounded, stoppable.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{open, put_bad, put_good};
use impasto_datasets::{Batch, DatasetError, DeadLeaves, Loader, LoaderConfig, Source};

fn config(workers: usize, start_step: u64) -> LoaderConfig {
    LoaderConfig { batch_size: 3, image_size: 16, seed: 42, start_step, workers, queue: 2 }
}

fn batches(source: Source, workers: usize, start: u64, count: usize) -> Vec<Batch> {
    Loader::new(source, config(workers, start)).unwrap().take(count).map(Result::unwrap).collect()
}

/// Opened anew for each loader, so that none profits from bad files that another one met.
fn mixed_folder() -> (tempfile::TempDir, impl Fn() -> Source) {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    put_bad(root.path());
    let path = root.path().to_owned();
    (root, move || Source::from(open(&path)))
}

fn assert_pure(source: &dyn Fn() -> Source) {
    let alone = source();
    let expected: Vec<_> = (0..20).map(|step| alone.batch(42, step, 3, 16).unwrap()).collect();
    assert!(expected.windows(2).all(|pair| pair[0].images != pair[1].images));
    for workers in [1, 2, 4] {
        assert!(batches(source(), workers, 0, 20) == expected, "{workers} workers differ");
        assert!(
            batches(source(), workers, 13, 7) == expected[13..],
            "{workers} workers differ after a resume"
        );
    }
    assert!(alone.batch(43, 0, 3, 16).unwrap().images != expected[0].images, "the seed has no effect");
}

#[test]
fn photo_batches_depend_on_seed_and_step_alone() {
    let (_root, source) = mixed_folder();
    assert_pure(&source);
}

#[test]
fn dead_leaves_batches_depend_on_seed_and_step_alone() {
    assert_pure(&|| Source::from(DeadLeaves::default()));
}

#[test]
fn an_epoch_shows_every_photo_once() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    let source = Source::from(open(root.path()));
    for epoch in 0..4 {
        // Red is the number of the photo times 20.
        let mut seen: Vec<_> = (0..2)
            .flat_map(|half| source.batch(9, epoch * 2 + half, 4, 16).unwrap().images)
            .collect::<Vec<_>>()
            .chunks_exact(16 * 16 * 3)
            .map(|square| (square.iter().step_by(3).map(|&red| u32::from(red)).sum::<u32>() / 256 + 5) / 20)
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7], "epoch {epoch}");
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_queue_is_bounded_while_nobody_takes() {
    let mut loader = Loader::new(DeadLeaves::default(), config(3, 5)).unwrap();
    // Two ready, and one from each of three workers.
    until("the queue is full", || loader.ready() == 5);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(loader.ready(), 5, "workers went on beyond the bound");
    assert_eq!(loader.next_step(), 5);
    assert_eq!(loader.next_batch().unwrap().step, 5);
    assert_eq!(loader.next_step(), 6);
    until("the gap is filled", || loader.ready() == 5);
}

/// Runs `work` on a thread; fails if it hangs.
fn ends(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("hangs or fails: {what}"));
}

#[test]
fn dropping_ends_at_once_whatever_the_workers_do() {
    ends("workers asleep before a full queue", || {
        let loader = Loader::new(DeadLeaves::default(), config(4, 0)).unwrap();
        until("the queue is full", || loader.ready() == 6);
    });
    ends("workers that have just started", || {
        for _ in 0..50 {
            drop(Loader::new(DeadLeaves::default(), config(4, 0)).unwrap());
        }
    });
    // An hour's work in each batch: dropping must not wait for its end.
    ends("workers within a large batch", || {
        let config = LoaderConfig { batch_size: 100_000, image_size: 64, workers: 2, ..config(2, 0) };
        let loader = Loader::new(DeadLeaves::default(), config).unwrap();
        thread::sleep(Duration::from_millis(50));
        drop(loader);
    });
}

#[test]
fn errors_arrive_in_place_of_batches_and_nothing_hangs() {
    let root = tempfile::tempdir().unwrap();
    put_bad(root.path());
    let path: PathBuf = root.path().to_owned();
    ends("a folder of bad files", move || {
        let mut loader = Loader::new(open(&path), config(2, 0)).unwrap();
        for _ in 0..8 {
            assert!(matches!(loader.next_batch(), Err(DatasetError::NothingDecodes { .. })));
        }
    });
}

#[test]
fn impossible_options_are_refused() {
    let refused = |config: LoaderConfig| match Loader::new(DeadLeaves::default(), config) {
        Err(DatasetError::Config { reason }) => reason,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("accepted"),
    };
    assert!(refused(LoaderConfig { batch_size: 0, ..config(1, 0) }).contains("batch of 0"));
    assert!(refused(LoaderConfig { image_size: 0, ..config(1, 0) }).contains("0²"));
    assert!(refused(LoaderConfig { image_size: u32::MAX, ..config(1, 0) }).contains("at most 2048 MiB"));
    assert!(refused(LoaderConfig { queue: 0, ..config(1, 0) }).contains("queue of 0"));
    assert!(refused(config(usize::MAX, 0)).contains("workers, expected at most 1024"));
}
