//! A result that several wait for and one works for. The work runs in a task of its own, so that
//! it is finished for the others when the first to ask goes away.

use tokio::sync::watch;

/// The waiting side; clone one for each who waits.
#[derive(Clone, Debug)]
pub(super) struct Promise<V>(watch::Receiver<Option<V>>);

/// The working side.
#[derive(Debug)]
pub(super) struct Fulfil<V>(watch::Sender<Option<V>>);

/// Both sides of one promise.
pub(super) fn promise<V>() -> (Fulfil<V>, Promise<V>) {
    let (sender, receiver) = watch::channel(None);
    (Fulfil(sender), Promise(receiver))
}

impl<V: Clone> Promise<V> {
    /// The result; `None` if the work was dropped before it was done.
    pub(super) async fn wait(mut self) -> Option<V> {
        match self.0.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
    }

    /// Whether nobody works for it any more and it was never fulfilled.
    pub(super) fn is_broken(&self) -> bool {
        self.0.has_changed().is_err() && self.0.borrow().is_none()
    }
}

impl<V> Fulfil<V> {
    pub(super) fn with(self, value: V) {
        let _ = self.0.send(Some(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_get_it_and_a_dropped_one_is_noticed() {
        let (fulfil, first) = promise();
        let second = first.clone();
        assert!(!first.is_broken());
        fulfil.with(7);
        assert_eq!(
            (first.wait().await, second.wait().await),
            (Some(7), Some(7))
        );

        let (fulfil, waiting) = promise::<u8>();
        drop(fulfil);
        assert!(waiting.is_broken());
        assert_eq!(waiting.wait().await, None);
    }
}
