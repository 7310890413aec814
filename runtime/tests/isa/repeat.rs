//! The same input gives the same bits: in every run, on any number of threads, beside other engines, and after
//! frames of other sizes.

use impasto::Precision;
use impasto::checkpoints::StyleModel;
use impasto::engine::{Engine, Isa};

use super::support::{
    Photo, all_isas, engine, fast_isas, johnson, layers, paint, paint_bytes, tensorflow_style,
};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn models() -> [StyleModel; 3] {
    [johnson(4, 5), tensorflow_style(5, 6), layers("R3,c3s2-17,R17,u5,c5s1-3", 7)]
}

fn assert_same_bits(one: &[f32], other: &[f32], what: &str) {
    let same = one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "{what}: other bits");
}

#[test]
fn the_same_bits_on_any_number_of_threads_and_in_every_run() {
    for model in models() {
        for (width, height) in [(67, 43), (5, 90), (700, 5), (3, 400), (1, 1)] {
            let photo = Photo::noise(1, width, height);
            for (isa, precision) in every(&all_isas()) {
                let expected = paint(&engine(&model, precision, 1, isa), &photo);
                for threads in [1, 2, 3, 5] {
                    let engine = engine(&model, precision, threads, isa);
                    for run in 0..3 {
                        let what = format!(
                            "{} {width}×{height} {isa} {precision}, {threads} threads, run {run}",
                            model.architecture()
                        );
                        assert_same_bits(&paint(&engine, &photo), &expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn sizes_may_change_mid_stream() {
    let sizes = [(64, 48), (5, 90), (1, 1), (131, 17), (64, 48), (33, 2), (2, 700), (9, 9), (320, 4)];
    for model in models() {
        for (isa, precision) in every(&all_isas()) {
            let stream = engine(&model, precision, 2, isa);
            for (width, height) in sizes {
                let photo = Photo::noise(3, width, height);
                let fresh = engine(&model, precision, 2, isa);
                let what = format!("{} {width}×{height} {isa} {precision}", model.architecture());
                assert_same_bits(&paint(&stream, &photo), &paint(&fresh, &photo), &what);
                assert_eq!(paint_bytes(&stream, &photo), paint_bytes(&fresh, &photo), "{what}");
            }
        }
    }
}

#[test]
fn engines_side_by_side_and_shared_by_threads_do_not_disturb_each_other() {
    let [first, second, _] = models();
    for (isa, precision) in every(&fast_isas()) {
        let engines: [Engine; 2] = [engine(&first, precision, 2, isa), engine(&second, precision, 3, isa)];
        let photos = [Photo::noise(1, 40, 30), Photo::noise(2, 21, 60), Photo::noise(3, 1, 1)];
        let expected = engines.each_ref().map(|engine| photos.each_ref().map(|photo| paint(engine, photo)));
        std::thread::scope(|scope| {
            for start in 0..6 {
                let (engines, photos, expected) = (&engines, &photos, &expected);
                scope.spawn(move || {
                    for step in start..start + 12 {
                        let (e, p) = (step % 2, step % 3);
                        let what = format!("{isa} {precision}, engine {e}, photo {p}");
                        assert_same_bits(&paint(&engines[e], &photos[p]), &expected[e][p], &what);
                    }
                });
            }
        });
    }
}

/// Engines come and go with their threads.
#[test]
fn many_engines_one_after_the_other_paint_the_same() {
    let (model, photo) = (layers("c3s1-8,c3s1-3", 1), Photo::noise(1, 20, 20));
    for (isa, precision) in every(&fast_isas()) {
        let expected = paint(&engine(&model, precision, 1, isa), &photo);
        for _ in 0..40 {
            assert_same_bits(&paint(&engine(&model, precision, 4, isa), &photo), &expected, isa.name());
        }
    }
}

fn every(isas: &[Isa]) -> impl Iterator<Item = (Isa, Precision)> {
    isas.iter().flat_map(|&isa| PRECISIONS.map(|precision| (isa, precision)))
}
