//! Traps: the moment at which a process dies or stops is not a time, but a place in its own work,
//! such as right after the ERP has answered a question.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::devtools::simulation::shared::Shared;

/// A place in the work of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A call to the ledger was made.
    Ledger,
    /// The steps before the request that enters an order have begun.
    Prepared,
    /// The ERP has got the request, and its answer is not there yet.
    Sent,
    /// The ERP has answered a request.
    Answered,
    /// The ERP has answered a question.
    Asked,
    /// The broker has a message, and its confirm is not there yet.
    Published,
}

/// Every point.
pub const POINTS: [Point; 6] =
    [Point::Ledger, Point::Prepared, Point::Sent, Point::Answered, Point::Asked, Point::Published];

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spring {
    Dies,
    Sleeps,
}

/// A trap that waits for a process.
#[derive(Debug, Clone, Copy)]
pub struct Trap {
    pub process: usize,
    pub point: Point,
    /// It springs when the process passes there for the time after so many.
    pub spared: u32,
    pub spring: Spring,
    pub lasts: Duration,
}

/// All traps of a run.
pub struct Traps {
    armed: Shared<Vec<Trap>>,
    sprung: UnboundedSender<Trap>,
}

impl Traps {
    /// No traps yet, and where those arrive that have sprung.
    pub fn new() -> (Self, UnboundedReceiver<Trap>) {
        let (sprung, receiver) = unbounded_channel();
        (Self { armed: Shared::default(), sprung }, receiver)
    }

    /// Sets one.
    pub fn arm(&self, trap: Trap) {
        self.armed.get().push(trap);
    }

    /// Takes all of them away.
    pub fn disarm(&self) {
        self.armed.get().clear();
    }

    /// A process passes a point. Whoever calls this waits for at least [`MOMENT`] if the answer is yes:
    /// what the trap does happens meanwhile.
    pub fn pass(&self, process: usize, point: Point) -> bool {
        let mut armed = self.armed.get();
        let here = armed.iter().position(|trap| trap.process == process && trap.point == point);
        let Some(index) = here else { return false };
        if armed[index].spared > 0 {
            armed[index].spared -= 1;
            return false;
        }
        let trap = armed.remove(index);
        // At the end of a run nobody listens any more.
        self.sprung.send(trap).is_ok()
    }

    /// The same for callers that can wait.
    pub async fn step_on(&self, process: usize, point: Point) {
        if self.pass(process, point) {
            tokio::time::sleep(MOMENT).await;
        }
    }
}

/// The shortest time.
pub const MOMENT: Duration = Duration::from_millis(1);
