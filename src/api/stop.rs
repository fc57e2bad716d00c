//! The order to stop.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::SetOnce;

/// An order to stop: given once, seen by all clones.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<SetOnce<()>>);

impl Stop {
    /// Gives the order.
    pub fn give(&self) {
        // The second one says nothing new.
        let _ = self.0.set(());
    }

    /// Tells whether it was given.
    pub fn is_given(&self) -> bool {
        self.0.initialized()
    }

    /// Waits for it.
    pub async fn given(&self) {
        self.0.wait().await;
    }

    /// Waits for `work`; drops it and gives `None` when the order comes first.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.given() => None,
            value = work => Some(value),
        }
    }
}
