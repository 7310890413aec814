//! Locks that are used on after a panic: what they guard is whole between any two statements, or thrown away.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The guard, whether or not somebody panicked while he held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
