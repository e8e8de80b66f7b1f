//! The demo's story: which order meets what, and when something happens beside the orders.
//!
//! The story has 180 steps. At one order a second it takes three minutes; with fewer orders each stands for several
//! steps. After it the demo goes on with everyday orders.

/// Steps of the story.
pub const STEPS: u32 = 180;
/// The article that the ERP does not know.
pub const OLD_ARTICLE: &str = "LAMP-OLD";
/// The one that the shop should have sold instead.
pub const NEW_ARTICLE: &str = "LAMP-2";

/// What an order meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The ERP accepts it.
    Accepted,
    /// The ERP is busy once; the retry is accepted.
    BusyOnce,
    /// The ERP accepts it and the answer gets lost.
    AnswerLost,
    /// Its article is unknown to the ERP: rejected until a person fixes it.
    OldArticle,
    /// The ERP accepts it, the answer gets lost, and the ERP does not find it for a minute.
    Unclear,
}

/// What happens beside the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    OutageBegins,
    OutageEnds,
    /// Checkout sends something that is no order.
    DeadLetter,
    /// A colleague corrects one of the rejected orders and does not send it yet.
    Edit,
    /// The story is told.
    End,
}

const EVENTS: [(u32, Event); 5] = [
    (30, Event::OutageBegins),
    (50, Event::OutageEnds),
    (90, Event::DeadLetter),
    (100, Event::Edit),
    (STEPS, Event::End),
];
const FATES: [(u32, Fate); 7] = [
    (60, Fate::OldArticle),
    (63, Fate::OldArticle),
    (66, Fate::OldArticle),
    (69, Fate::OldArticle),
    (72, Fate::OldArticle),
    (75, Fate::OldArticle),
    (170, Fate::Unclear),
];

/// The part of the story that order `number` (from 0) of `orders` stands for.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    number: u32,
    from: u32,
    to: u32,
}

impl Part {
    pub fn of(number: u32, orders: u32) -> Self {
        let step = |number: u32| {
            let step = u64::from(number) * u64::from(STEPS) / u64::from(orders.max(1));
            u32::try_from(step).unwrap_or(u32::MAX)
        };
        Self { number, from: step(number), to: step(number + 1) }
    }

    fn has(self, step: u32) -> bool {
        (self.from + 1..=self.to).contains(&step)
    }

    pub fn fate(self) -> Fate {
        if let Some((_, fate)) = FATES.iter().find(|(step, _)| self.has(*step)) {
            return *fate;
        }
        match self.number % 15 {
            _ if self.is_after_the_end() && self.number % 40 == 39 => Fate::OldArticle,
            4 => Fate::BusyOnce,
            9 => Fate::AnswerLost,
            _ => Fate::Accepted,
        }
    }

    /// What happens after this order was placed.
    pub fn events(self) -> impl Iterator<Item = Event> {
        EVENTS.iter().filter(move |(step, _)| self.has(*step)).map(|(_, event)| *event)
    }

    /// Whether the story has been told before this order.
    pub fn is_after_the_end(self) -> bool {
        self.from >= STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_story_has_every_event_and_every_kind_of_trouble() {
        for orders in [20, 40, 180, 1_000] {
            let parts: Vec<Part> = (0..orders).map(|number| Part::of(number, orders)).collect();
            let events: Vec<Event> = parts.iter().flat_map(|part| part.events()).collect();
            assert_eq!(events, EVENTS.map(|(_, event)| event), "{orders}");
            let fates: Vec<Fate> = parts.iter().map(|part| part.fate()).collect();
            assert!(fates.contains(&Fate::OldArticle) && fates.contains(&Fate::AnswerLost));
            assert!(orders < 180 || fates.contains(&Fate::Unclear), "{orders}");
        }
    }

    #[test]
    fn afterwards_it_goes_on_with_everyday_orders_of_which_a_few_fail() {
        let fates: Vec<Fate> = (180..380).map(|number| Part::of(number, 180).fate()).collect();
        let of = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
        assert_eq!((of(Fate::OldArticle), of(Fate::Unclear)), (5, 0));
        assert!(of(Fate::Accepted) > 150);
        assert!((180..380).all(|number| Part::of(number, 180).events().next().is_none()));
    }
}
