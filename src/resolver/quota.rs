//! Who may ask other servers next.
//!
//! Each container has so many questions on their way and no more, and they take turns: one that asks without end waits
//! for itself, not the others for it.

use std::collections::{HashMap, VecDeque};

/// Questions of one container that are on their way.
const MOST_OF_ONE: usize = 64;
/// Questions of all that are on their way; each has a socket.
const MOST_OF_ALL: usize = 1024;
/// Questions of one container that wait. Beyond, its sockets aren't read: the kernel keeps what comes.
const MOST_WAITING: usize = 1024;

/// Questions in the order of their turns.
#[derive(Debug)]
pub(super) struct Queue<T> {
    askers: HashMap<u32, Asker<T>>,
    /// Those with a question that waits.
    turns: VecDeque<u32>,
    on_their_way: usize,
}

#[derive(Debug)]
struct Asker<T> {
    waiting: VecDeque<T>,
    on_their_way: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { askers: HashMap::new(), turns: VecDeque::new(), on_their_way: 0 }
    }
}

impl<T> Queue<T> {
    /// Puts a question of `asker` at the end of its own.
    pub(super) fn push(&mut self, asker: u32, question: T) {
        let own =
            self.askers.entry(asker).or_insert_with(|| Asker { waiting: VecDeque::new(), on_their_way: 0 });
        if own.waiting.is_empty() {
            self.turns.push_back(asker);
        }
        own.waiting.push_back(question);
    }

    /// Takes the next question that may go, which is on its way then.
    pub(super) fn next(&mut self) -> Option<(u32, T)> {
        if self.on_their_way >= MOST_OF_ALL {
            return None;
        }
        for _ in 0..self.turns.len() {
            let asker = self.turns.pop_front()?;
            let Some(own) = self.askers.get_mut(&asker) else { continue };
            let may = own.on_their_way < MOST_OF_ONE;
            let question = if may { own.waiting.pop_front() } else { None };
            if !own.waiting.is_empty() {
                self.turns.push_back(asker);
            }
            if let Some(question) = question {
                own.on_their_way += 1;
                self.on_their_way += 1;
                return Some((asker, question));
            }
        }
        None
    }

    /// Notes that a question of `asker` is answered.
    pub(super) fn done(&mut self, asker: u32) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        if let Some(own) = self.askers.get_mut(&asker) {
            own.on_their_way = own.on_their_way.saturating_sub(1);
        }
    }

    /// Tells whether no more of `asker` should be read.
    pub(super) fn is_full(&self, asker: u32) -> bool {
        self.askers.get(&asker).is_some_and(|own| own.waiting.len() >= MOST_WAITING)
    }

    /// Forgets an asker that has gone; the questions that are on their way are still to be reported as done.
    pub(super) fn forget(&mut self, asker: u32) {
        self.askers.remove(&asker);
        self.turns.retain(|other| *other != asker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_leaves_the_others_their_turns() {
        let mut queue = Queue::default();
        for question in 0..5000 {
            queue.push(1, question);
        }
        assert!(queue.is_full(1));
        let own: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(own.len(), MOST_OF_ONE);
        queue.push(2, 7);
        assert_eq!(queue.next(), Some((2, 7)), "its turn comes at once");
        assert_eq!(queue.next(), None);
        queue.done(1);
        assert_eq!(queue.next(), Some((1, 64)), "in order");
    }

    #[test]
    fn those_who_wait_take_turns_when_all_ways_are_taken() {
        let mut queue = Queue::default();
        for asker in 0..20 {
            (0..200).for_each(|question| queue.push(asker, question));
        }
        let sent: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(sent.len(), MOST_OF_ALL);
        for asker in 0..20 {
            let own = sent.iter().filter(|(other, _)| *other == asker).count();
            assert!((51..=52).contains(&own), "{asker} has {own}");
        }
    }

    #[test]
    fn an_asker_that_went_frees_its_ways_when_they_end() {
        let mut queue = Queue::default();
        (0..100).for_each(|question| queue.push(1, question));
        while queue.next().is_some() {}
        queue.forget(1);
        assert_eq!(queue.next(), None);
        (0..MOST_OF_ONE).for_each(|_| queue.done(1));
        assert_eq!(queue.on_their_way, 0);
    }
}
