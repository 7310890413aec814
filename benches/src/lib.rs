//! Speed: benchmarks of this project, and scripts that run the peers on the same work in the same run.
//!
//! Duty of this room: to measure, never to assert; a test does not depend on time. The benchmarks are in
//! `benches/benches` (`cargo bench -p impasto-benches`), the comparison with the peers in `benches/peers` (its README),
//! that of the iterative methods in `benches/reference`; the examples measure video's flicker (`flicker`, `smooth`) and
//! the server under load (`serve_load`), each with its usage at its head.
