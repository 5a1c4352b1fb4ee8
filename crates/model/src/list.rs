//! A short list inside a state: copied with it, compared and hashed by what it holds.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// At most `N` items, in order. A model's bounds say how many there can be; more is a mistake in the model.
#[derive(Clone, Copy)]
pub(crate) struct List<T, const N: usize> {
    length: u8,
    items: [T; N],
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        List { length: 0, items: [T::default(); N] }
    }
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// Appends an item.
    ///
    /// # Panics
    /// If the list is full.
    pub(crate) fn push(&mut self, item: T) {
        assert!(usize::from(self.length) < N, "a list of the model holds at most {N}");
        self.items[usize::from(self.length)] = item;
        self.length += 1;
    }

    /// Takes out the item at `at`; what follows moves up.
    ///
    /// # Panics
    /// If there is no such item.
    pub(crate) fn remove(&mut self, at: usize) -> T {
        let item = self[at];
        self.copy_within(at + 1.., at);
        self.length -= 1;
        item
    }

    /// Keeps the first `length` items.
    pub(crate) fn truncate(&mut self, length: usize) {
        while self.len() > length {
            self.length -= 1;
        }
    }

    /// Keeps the items that `keep` likes.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for at in (0..self.len()).rev() {
            if !keep(&self[at]) {
                self.remove(at);
            }
        }
    }

    /// Takes everything, leaving the list empty.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..usize::from(self.length)]
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items[..usize::from(self.length)]
    }
}

impl<T: Hash, const N: usize> Hash for List<T, N> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u8(self.length);
        for item in self.iter() {
            item.hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_neither_held_nor_hashed() {
        let mut list: List<u8, 4> = List::default();
        for item in 1..=4 {
            list.push(item);
        }
        assert_eq!(list.remove(1), 2);
        assert_eq!(*list, [1, 3, 4]);
        list.retain(|&item| item != 3);
        list.truncate(1);
        assert_eq!(*list, [1]);
        let mut fresh: List<u8, 4> = List::default();
        fresh.push(1);
        assert_eq!(crate::search::fingerprint(&list), crate::search::fingerprint(&fresh));
        fresh.push(0);
        assert_ne!(crate::search::fingerprint(&list), crate::search::fingerprint(&fresh));
    }
}
