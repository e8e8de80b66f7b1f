//! Tasks with names: the only place that starts any. A task that ends unexpectedly is a fault of
//! the whole process.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// A set of named tasks.
#[derive(Default)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// How a task ended.
#[derive(Debug)]
pub struct Ended {
    pub name: &'static str,
    /// Whether it panicked.
    pub panicked: bool,
}

impl Supervisor {
    /// Starts a task.
    pub fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// The next task that ends; never, when there is none.
    pub async fn next_end(&mut self) -> Ended {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => Ended { name: self.name(id), panicked: false },
            Some(Err(error)) => Ended { name: self.name(error.id()), panicked: error.is_panic() },
            None => std::future::pending().await,
        }
    }

    /// Waits until every task has ended.
    pub async fn all_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.names.remove(&id);
        }
    }

    /// The names of the tasks that still run once the others have ended.
    pub fn running(&self) -> Vec<&'static str> {
        self.names.values().copied().collect()
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("a task")
    }
}
