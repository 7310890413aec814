//! Shares of the painter: between clients, and between live frames and large pictures.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::support::{Running, jpeg, photo};

/// One client sends as fast as it can, the other keeps no more than one frame waiting: both get the same.
#[test]
fn a_greedy_client_gets_no_more_than_a_polite_one() {
    let server = Running::new();
    let bytes = jpeg(&photo(700, 500));
    let (done, greedy) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut live = server.live();
            live.socket.get_mut().set_nonblocking(true).expect("not blocking");
            let frame = Message::binary([&1u32.to_le_bytes()[..], &bytes].concat());
            while !done.load(Ordering::Relaxed) {
                // Full buffers are no reason to stop.
                let _ = live.socket.send(frame.clone());
                while let Ok(message) = live.socket.read() {
                    greedy.fetch_add(usize::from(message.is_binary()), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut live = server.live();
        live.send(0, &bytes);
        let mut paint = |number| {
            live.send(number, &bytes);
            assert!(live.next().expect("a painting").is_binary());
        };
        // Both under way.
        (1..4).for_each(&mut paint);
        let before = greedy.load(Ordering::Relaxed);
        (4..44).for_each(&mut paint);
        let greedy = greedy.load(Ordering::Relaxed) - before;
        done.store(true, Ordering::Relaxed);
        assert!((20..=60).contains(&greedy), "polite 40, greedy {greedy}");
    });
}

/// A picture that takes long does not keep live frames waiting until it is done.
#[test]
fn live_frames_go_on_while_a_large_picture_is_painted() {
    let server = Running::new();
    let large = jpeg(&photo(3000, 2500));
    let frame = jpeg(&photo(64, 64));
    let mut live = server.live();
    std::thread::scope(|scope| {
        let picture = scope.spawn(|| server.post("/api/stylize", &large).status);
        let mut painted = 0;
        let mut slowest = Duration::ZERO;
        let begun = Instant::now();
        while !picture.is_finished() {
            let sent = Instant::now();
            live.paint(painted, &frame);
            slowest = slowest.max(sent.elapsed());
            painted += 1;
        }
        assert_eq!(picture.join().expect("an answer"), 200);
        assert!(painted >= 3, "{painted} frames in {:?}, the slowest {slowest:?}", begun.elapsed());
    });
}
