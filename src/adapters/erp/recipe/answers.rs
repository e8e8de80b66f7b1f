//! Answers to look-ups that are kept for other orders (`cache`): a few, for a short time.
//!
//! Only what satisfied an order is kept, and whoever uses it judges it again. An order that the ERP objects to
//! forgets what it used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::answer::Reply;

/// Most answers that are kept.
const MAX_ANSWERS: usize = 2_000;
/// Most bytes of them together, and of one.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_ANSWER: usize = MAX_BYTES / 16;

/// What was asked, as a digest of the request.
pub type Question = [u8; 32];
/// What one order asked.
pub type Used = Vec<Question>;

/// Answers of one ERP.
#[derive(Default)]
pub struct Answers(Mutex<HashMap<Question, Kept>>);

struct Kept {
    reply: Reply,
    since: Timestamp,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.reply.read.text().len()
    }
}

impl Answers {
    /// The answer, unless it is older than `lives`.
    pub fn get(&self, question: &Question, lives: Duration, now: Timestamp) -> Option<Reply> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = answers.get(question)?;
        // A clock that was set back makes no answer younger.
        let age = Duration::try_from(now.duration_since(kept.since)).ok()?;
        (age < lives).then(|| kept.reply.clone())
    }

    /// Keeps an answer; the oldest make room.
    pub fn keep(&self, question: Question, reply: Reply, since: Timestamp) {
        let kept = Kept { reply, since };
        if kept.bytes() > MAX_ANSWER {
            return;
        }
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(question, kept);
        while answers.len() > MAX_ANSWERS
            || answers.values().map(Kept::bytes).sum::<usize>() > MAX_BYTES
        {
            let oldest = answers.iter().min_by_key(|(_, kept)| kept.since);
            let Some(oldest) = oldest.map(|(question, _)| *question) else { break };
            answers.remove(&oldest);
        }
    }

    /// Drops the answers to these questions.
    pub fn forget(&self, used: &[Question]) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().for_each(|question| drop(answers.remove(question)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::model::Outcome;
    use super::super::reply::Read;
    use super::*;

    const LIVES: Duration = Duration::from_secs(60);

    fn reply(bytes: usize) -> Reply {
        let read = Arc::new(Read::new(200, &[], &"x".repeat(bytes)));
        Reply { read, outcome: Outcome::Ok, request: String::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn question(number: usize) -> Question {
        let mut question = [0; 32];
        question[..8].copy_from_slice(&number.to_be_bytes());
        question
    }

    #[test]
    fn an_answer_is_used_for_its_time_and_not_by_a_clock_that_was_set_back() {
        let answers = Answers::default();
        answers.keep(question(1), reply(1), at(100));
        let is_there = |second| answers.get(&question(1), LIVES, at(second)).is_some();
        assert_eq!([99, 100, 159, 160].map(is_there), [false, true, true, false]);
        answers.forget(&[question(1)]);
        assert!(!is_there(100));
    }

    #[test]
    fn answers_are_bounded_in_number_and_bytes_and_the_oldest_make_room() {
        let answers = Answers::default();
        for number in 0..MAX_ANSWERS + 2 {
            answers.keep(question(number), reply(1), at(i64::try_from(number).unwrap()));
        }
        let is_there = |number| answers.get(&question(number), LIVES * 1_000, at(10_000)).is_some();
        assert_eq!([0, 1, 2, MAX_ANSWERS + 1].map(is_there), [false, false, true, true]);
        let answers = Answers::default();
        for number in 0..20 {
            answers.keep(question(number), reply(MAX_ANSWER), at(i64::try_from(number).unwrap()));
        }
        answers.keep(question(20), reply(MAX_ANSWER + 1), at(20));
        let is_there = |number| answers.get(&question(number), LIVES, at(20)).is_some();
        assert_eq!([3, 4, 19, 20].map(is_there), [false, true, true, false]);
    }
}
