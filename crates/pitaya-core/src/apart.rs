//! Shared values whose handles are not counted in one place.
//!
//! Each message clones a few `Arc`s and drops them again: its app, its route, its component, the rest of its chain. With
//! one counter for each, processors that handle messages at the same time take the counter's cache line from each other,
//! which costs more than the rest of the dispatch. Here each thread counts in a place of its own.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// An `Arc` that is counted apart: clones of one `Apart` share a counter, which nothing else lies beside in memory.
pub struct Apart<T: ?Sized>(Arc<Padded<T>>);

/// As large as what a processor fetches at once: two cache lines.
#[repr(align(128))]
struct Padded<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Apart<T> {
    /// A counter of its own for a value.
    #[must_use]
    pub fn new(shared: Arc<T>) -> Self {
        Self(Arc::new(Padded(shared)))
    }
}

impl<T: ?Sized> Clone for Apart<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Apart<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Apart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

/// Copies of a value, of which each thread uses another as long as there are enough: twice as many as processors, at most
/// 128. More threads share them.
#[derive(Debug)]
pub struct PerThread<T>(Box<[T]>);

/// How many threads have asked for a copy; the number of the next one.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl<T> PerThread<T> {
    /// Makes the copies.
    #[must_use]
    pub fn new(make: impl FnMut() -> T) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let copies = (2 * processors).next_power_of_two().min(128);
        Self(std::iter::repeat_with(make).take(copies).collect())
    }

    /// All copies.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// The copy of this thread.
    #[must_use]
    pub fn get(&self) -> &T {
        // Their number is a power of two.
        &self.0[NUMBER.with(|number| *number) & (self.0.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_counted_apart_from_the_value() {
        let value = Arc::new(7);
        let apart = Apart::new(Arc::clone(&value));
        let clones = vec![apart.clone(); 10];
        assert_eq!((**apart, Arc::strong_count(&value)), (7, 2));
        drop((apart, clones));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_thread_always_gets_the_same_copy() {
        let mut next = 0;
        let copies = PerThread::new(|| {
            next += 1;
            next
        });
        let first = *copies.get();
        assert_eq!(*copies.get(), first);
        let processors = std::thread::available_parallelism().unwrap().get();
        assert!(next >= processors.min(64), "{next}");
    }
}
