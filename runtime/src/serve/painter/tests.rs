//! The painter's thread: which styles and buffers it keeps, and what becomes of jobs that panic, last or are left.

use super::*;
use crate::Frame;

fn painter(open_styles: usize) -> Painter {
    painter_with_log(open_styles, Arc::new(|_, _| {}))
}

fn painter_with_log(open_styles: usize, log: Log) -> Painter {
    let catalogue = Arc::new(Catalogue::of_names(&["a", "b", "c"]));
    let stylizer = StylizerOptions { threads: Some(1), ..StylizerOptions::default() };
    let options = PainterOptions { name: "painter", open_styles, background: true, stylizer };
    Painter::start(catalogue, options, log).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn no_more_styles_are_open_than_may_be() {
    let painter = painter(2);
    for (style, expected) in
        [(0, &[0][..]), (1, &[1, 0]), (2, &[2, 1]), (1, &[1, 2]), (0, &[0, 1]), (0, &[0, 1]), (2, &[2, 0])]
    {
        let open = painter.submit(1, style, 1.0, LONG, |easel, _| {
            easel.stylizer().unwrap();
            (easel.kept.clone(), easel.open_styles())
        });
        assert_eq!(open.await.unwrap().result, (expected.to_vec(), expected.len()));
    }
}

/// Whether a job finds the buffers of the one before, and closes the style when it is done.
#[tokio::test]
async fn buffers_are_kept_until_a_style_is_closed() {
    async fn paints(painter: &Painter, style: usize, close: bool) -> bool {
        let job = move |easel: &mut Easel<'_>, progress: &Progress<'_>| {
            let warm = easel.painters.contains_key(&style);
            let mut painted = Frame::black(1, 1);
            let painter = easel.painter(PaintOptions::default()).unwrap();
            painter.paint_into(&Frame::black(9, 9), &mut painted, progress).unwrap();
            if close {
                easel.close();
            }
            warm
        };
        painter.submit(1, style, 1.0, LONG, job).await.unwrap().result
    }
    let painter = painter(2);
    // Style, whether it is closed, whether the buffers were there.
    for (at, (style, close, warm)) in [
        (0, false, false),
        (0, false, true),
        // One more style is open; for a third, one is closed, and the buffers of all go.
        (1, false, false),
        (0, false, true),
        (2, false, false),
        (0, false, false),
        (0, true, true),
        (0, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(paints(&painter, style, close).await, warm, "job {at}");
    }
}

#[tokio::test]
async fn a_panic_is_one_callers_error_and_told_to_the_operator() {
    let (told, line) = std::sync::mpsc::channel();
    let painter = painter_with_log(1, Arc::new(move |level, line| drop(told.send((level, line.to_owned())))));
    let refusal = painter.submit(1, 0, 1.0, LONG, |_, _| panic!("on purpose")).await.map(|_: Done<()>| ());
    assert_eq!(refusal.unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(painter.submit(1, 0, 1.0, LONG, |_, _| 7).await.unwrap().result, 7);
    assert_eq!(line.recv().unwrap(), (Level::Trouble, "the painter panicked: on purpose".to_string()));
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_told_to_stop() {
    let painter = painter(1);
    let (saw, seen) = oneshot::channel();
    let refusal = painter.submit(1, 0, 1.0, Duration::from_millis(20), move |_, progress| {
        while !progress.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = saw.send(());
    });
    assert_eq!(refusal.await.unwrap_err().reason, "too_slow");
    seen.await.unwrap();
}

/// A painter whose thread is busy until the sender sends or is dropped.
async fn parked() -> (Arc<Painter>, std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let painter = Arc::new(painter(1));
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (began, begun) = oneshot::channel();
    let parked = Arc::clone(&painter);
    let caller = tokio::spawn(async move {
        let park = move |_: &mut Easel<'_>, _: &Progress<'_>| {
            let _ = began.send(());
            let _ = gate.recv();
        };
        let _ = parked.submit(1, 0, 1.0, LONG, park).await;
    });
    begun.await.unwrap();
    (painter, go, caller)
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_picture_along() {
    let (painter, go, _caller) = parked().await;
    let picture = Arc::new(vec![0u8; 1 << 20]);
    for lane in 2..10 {
        let (painter, picture) = (Arc::clone(&painter), Arc::clone(&picture));
        let before = painter.waiting();
        let waits = tokio::spawn({
            let painter = Arc::clone(&painter);
            async move { painter.submit(lane, 0, 1.0, LONG, move |_, _| picture.len()).await.is_ok() }
        });
        while painter.waiting() == before {
            tokio::task::yield_now().await;
        }
        waits.abort();
        assert!(waits.await.is_err());
        assert_eq!(painter.waiting(), before, "who has left does not wait");
    }
    assert_eq!(Arc::strong_count(&picture), 1);
    go.send(()).unwrap();
    assert_eq!(painter.submit(1, 0, 1.0, LONG, |_, _| 7).await.unwrap().result, 7);
}

#[tokio::test]
async fn ending_does_not_wait_for_ever_for_a_job() {
    let (painter, go, caller) = parked().await;
    caller.abort();
    assert!(caller.await.is_err());
    let begun = Instant::now();
    drop(Arc::try_unwrap(painter).ok().expect("the only hold on it"));
    assert!(begun.elapsed() < FAREWELL * 3, "{:?}", begun.elapsed());
    drop(go);
}

#[tokio::test]
async fn closing_refuses_what_waits_and_what_comes() {
    let painter = Arc::new(painter(1));
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (began, begun) = oneshot::channel();
    let first = tokio::spawn({
        let painter = Arc::clone(&painter);
        async move {
            painter
                .submit(1, 0, 1.0, LONG, move |_, _| {
                    let _ = began.send(());
                    let _ = gate.recv();
                })
                .await
                .is_ok()
        }
    });
    begun.await.unwrap();
    let second = tokio::spawn({
        let painter = Arc::clone(&painter);
        async move { painter.submit(2, 0, 1.0, LONG, |_, _| ()).await.map(|_| ()).unwrap_err().reason }
    });
    while painter.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    painter.close();
    assert_eq!(second.await.unwrap(), "busy");
    assert_eq!(painter.submit(3, 0, 1.0, LONG, |_, _| ()).await.map(|_| ()).unwrap_err().reason, "busy");
    go.send(()).unwrap();
    assert!(first.await.unwrap());
}
