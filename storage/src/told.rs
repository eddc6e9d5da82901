//! A value, and those who wait for it to become another.

use std::sync::{PoisonError, RwLock};

use tokio::sync::Notify;

/// A value that many wait for. Unlike those of a `tokio::sync::watch`, who are woken in an order left to chance, they are woken in the order
/// in which they came: one thread and one seed make the same schedule again.
#[derive(Debug, Default)]
pub struct Told<T> {
    value: RwLock<T>,
    changed: Notify,
}

impl<T> Told<T> {
    /// It begins as `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: RwLock::new(value), changed: Notify::new() }
    }

    /// What `look` sees in it. It is locked meanwhile.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes it, and wakes all who wait where `change` says that it has.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        if change(&mut self.value.write().unwrap_or_else(PoisonError::into_inner)) {
            self.changed.notify_waiters();
        }
    }

    /// Puts `value` in its place, and wakes all who wait.
    pub fn set(&self, value: T) {
        self.change(|place| {
            *place = value;
            true
        });
    }
}

impl<T: Clone> Told<T> {
    /// The value.
    pub fn get(&self) -> T {
        self.with(T::clone)
    }

    /// Waits until `wanted` holds of the value. A value that has become another again in the meantime may never have been seen.
    pub async fn until(&self, mut wanted: impl FnMut(&T) -> bool) -> T {
        loop {
            // Listening begins before the look, so that a change in between is heard.
            let changed = self.changed.notified();
            if let Some(value) = self.with(|value| wanted(value).then(|| value.clone())) {
                return value;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_in_the_order_of_arrival() {
        // More than are woken at a time, and more than chance would ever keep in order.
        const MANY: usize = 100;
        let (told, order) = (Arc::new(Told::new(0)), Arc::new(Mutex::new(Vec::new())));
        let arrived = Arc::new(Mutex::new(0));
        let waiting: Vec<_> = (0..MANY)
            .map(|number| {
                let (told, order, arrived) = (Arc::clone(&told), Arc::clone(&order), Arc::clone(&arrived));
                tokio::spawn(async move {
                    *arrived.lock().unwrap() += 1;
                    told.until(|value| *value == 1).await;
                    order.lock().unwrap().push(number);
                })
            })
            .collect();
        while *arrived.lock().unwrap() < MANY {
            tokio::task::yield_now().await;
        }
        told.set(1);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..MANY).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_that_is_none_wakes_nobody() {
        let told = Told::new(0);
        let looks = Mutex::new(0);
        let wait = told.until(|value| {
            *looks.lock().unwrap() += 1;
            *value == 1
        });
        let change = async {
            tokio::task::yield_now().await;
            told.change(|_| false);
            tokio::task::yield_now().await;
            assert_eq!(*looks.lock().unwrap(), 1);
            told.set(1);
        };
        assert_eq!(tokio::join!(wait, change).0, 1);
        assert_eq!(told.get(), 1);
    }
}
