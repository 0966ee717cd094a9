//! The orders for an agent in their turn, but for the answers to its beats: a lease does not wait behind content.
//!
//! # Invariants
//! All other orders keep their order. An answer that overtakes an assignment renews less than the controller counts: the agent
//! counts from when it sent the beat.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::dispatch::Order;

/// Orders that are looked through for an answer.
const LOOKED_THROUGH: usize = 4096;

#[derive(Debug)]
pub(super) struct Turns {
    orders: mpsc::Receiver<Order>,
    waiting: VecDeque<Order>,
}

impl Turns {
    pub(super) fn new(orders: mpsc::Receiver<Order>) -> Self {
        let waiting = VecDeque::new();
        Self { orders, waiting }
    }

    /// The next one; None at the end.
    pub(super) fn poll_order(&mut self, context: &mut Context<'_>) -> Poll<Option<Order>> {
        let mut end = Poll::Pending;
        while self.waiting.len() < LOOKED_THROUGH {
            match self.orders.poll_recv(context) {
                Poll::Ready(Some(answer @ Order::BeatAnswer { .. })) => {
                    return Poll::Ready(Some(answer));
                }
                Poll::Ready(Some(order)) => self.waiting.push_back(order),
                nothing => {
                    end = nothing;
                    break;
                }
            }
        }
        match self.waiting.pop_front() {
            Some(order) => Poll::Ready(Some(order)),
            None => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_to_a_beat_overtakes_what_waits_and_all_else_keeps_its_order() {
        let (sender, orders) = mpsc::channel(10);
        let site = |name: &str| Order::CloseSite(name.parse().unwrap());
        for order in [
            site("one"),
            site("two"),
            Order::BeatAnswer { number: 7 },
            site("three"),
        ] {
            sender.send(order).await.unwrap();
        }
        drop(sender);
        let mut turns = Turns::new(orders);
        let mut seen = Vec::new();
        while let Some(order) = std::future::poll_fn(|context| turns.poll_order(context)).await {
            seen.push(match order {
                Order::BeatAnswer { number } => number.to_string(),
                Order::CloseSite(site) => site.to_string(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen, ["7", "one", "two", "three"]);
    }
}
