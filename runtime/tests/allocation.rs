//! A counting allocator proves that a frame of the same size as the one before allocates nothing, painted or smoothed,
//! whichever thread asks for it. A test binary of its own, with one test: every allocation of the process counts.
//!
//! The portable path is left out: it starts its threads anew for every pass, and they allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use impasto::Precision;
use impasto::checkpoints::{Activation, Architecture, Output, Padding, StyleModel, Upsampling};
use impasto::engine::{Engine, Isa, PaintedMut};
use impasto::smooth::Smoother;
use impasto::{Frame, Stylizer, StylizerOptions};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn models() -> [StyleModel; 2] {
    let johnson = Architecture::johnson(4).expect("a width");
    let mut normed = Architecture::johnson(5).expect("a width");
    (normed.padding, normed.upsampling) = (Padding::ZeroSame, Upsampling::Transposed);
    (normed.output_norm, normed.output) =
        (true, Output { activation: Activation::Tanh, scale: 150.0, offset: 127.5 });
    [johnson, normed].map(|architecture| StyleModel::random(architecture, 1).expect("a model"))
}

fn frame(width: usize, height: usize) -> Frame {
    let bytes = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
    Frame::new(width, height, bytes).expect("a frame")
}

/// Allocations while `work` runs, on all threads together.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    work();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

#[test]
fn a_warm_engine_allocates_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8; 100]))) > 0, "the counter counts");
    let isas: Vec<_> =
        Isa::ALL.into_iter().filter(|&isa| isa != Isa::Portable && isa.is_available()).collect();
    for model in models() {
        for &isa in &isas {
            for precision in [Precision::F32, Precision::Bf16] {
                for threads in [1, 2, 3] {
                    let engine = Engine::with_isa(&model, precision, threads, isa).expect("an engine");
                    // The last is below the smallest size, and is enlarged.
                    for (width, height) in [(64, 48), (131, 17), (2, 1)] {
                        stays_put(&engine, width, height);
                    }
                }
            }
        }
    }
    if !isas.is_empty() {
        from_any_thread(&models()[0]);
    }
    for threads in [1, 2, 3] {
        smoothing_stays_put(threads);
    }
}

/// The first two frames of a size make room, the others find it; so does a cut.
fn smoothing_stays_put(threads: usize) {
    let mut smoother = Smoother::with_threads(Smoother::DEFAULT_STRENGTH, threads);
    for (width, height) in [(131, 57), (64, 48), (2, 1)] {
        let sources = [frame(width, height), Frame::black(width, height)];
        let mut painted = frame(width, height);
        let mut video = |frames: [usize; 4]| {
            for index in frames {
                smoother.apply(&sources[index], &mut painted);
            }
        };
        video([0, 0, 0, 0]);
        let count = allocations(|| video([0, 1, 1, 0]));
        assert_eq!(count, 0, "smoothing, {threads} threads, {width}×{height}");
    }
}

/// The first frame of a size makes room, the others find it.
fn stays_put(engine: &Engine, width: usize, height: usize) {
    let photo = frame(width, height);
    let (mut bytes, mut values) = (vec![0; width * height * 3], vec![0.0; width * height * 3]);
    engine.run(photo.rgb(), width, height, PaintedMut::Bytes(&mut bytes)).expect("a painted frame");
    let count = allocations(|| {
        for _ in 0..3 {
            engine.run(photo.rgb(), width, height, PaintedMut::Bytes(&mut bytes)).expect("a painted frame");
            engine.run(photo.rgb(), width, height, PaintedMut::Values(&mut values)).expect("a painted frame");
        }
    });
    let (isa, precision, threads) = (engine.isa(), engine.precision(), engine.threads());
    assert_eq!(count, 0, "{isa} {precision}, {threads} threads, {width}×{height}");
}

/// One stylizer, several threads in turn, each with a frame of its own to paint into.
fn from_any_thread(model: &StyleModel) {
    let options = StylizerOptions { threads: Some(2), ..StylizerOptions::default() };
    let stylizer = Stylizer::new(model, options).expect("a stylizer");
    if stylizer.isa() == Isa::Portable.name() {
        return;
    }
    let photo = frame(48, 36);
    stylizer.stylize(&photo).expect("a painted frame");
    let (barrier, turn) = (Barrier::new(3), Mutex::new(()));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (stylizer, photo, barrier, turn) = (&stylizer, &photo, &barrier, &turn);
            scope.spawn(move || {
                let mut painted = Frame::black(photo.width(), photo.height());
                // Threads allocate when they begin and when they end: never while one counts.
                barrier.wait();
                let count = {
                    let _turn = turn.lock().expect("a turn");
                    allocations(|| {
                        for _ in 0..3 {
                            stylizer.stylize_into(photo, &mut painted).expect("a painted frame");
                        }
                    })
                };
                barrier.wait();
                assert_eq!(count, 0, "thread {thread}");
            });
        }
    });
}
