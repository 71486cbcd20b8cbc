//! From one generation to the next: who is waited for, how long, and who leads.

use std::time::{Duration, Instant};

use ottla_wire::ErrorCode;

use super::{Action, ClassicGroup, InitialDelay, State, Synced, Waiter};

impl ClassicGroup {
    /// Lets time pass: lapsed members go, and a rebalance that waited long enough goes on without them.
    pub(crate) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let pending = self.pending.len();
        self.pending.retain(|_, lapses| *lapses > now);
        let lapsed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        let gone: Vec<String> = self
            .members
            .values()
            .filter(|member| lapsed(member.deadline()))
            .map(|member| member.id.clone())
            .collect();
        for id in &gone {
            tracing::debug!(member = id, "its session has lapsed");
            self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
        }
        if !gone.is_empty() {
            self.after_departure(now, actions);
        } else if pending != self.pending.len() {
            self.complete_if_all_joined(now, actions);
        }
        if lapsed(self.sync_deadline) {
            // They joined and never asked for their part, or the leader never brought one.
            for id in std::mem::take(&mut self.unsynced) {
                tracing::debug!(member = id, "it never asked for its assignment");
                self.remove(&id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
            }
            self.prepare_rebalance(now, actions);
        }
        if let State::PreparingRebalance { deadline, initial } = self.state
            && deadline <= now
        {
            self.joining_time_is_up(initial, now, actions);
        }
    }

    fn joining_time_is_up(
        &mut self,
        initial: Option<InitialDelay>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        match initial {
            Some(delay) if delay.extend && !delay.remaining.is_zero() => {
                let step = self.settings.initial_rebalance_delay.min(delay.remaining);
                let remaining = delay.remaining - step;
                self.state = State::PreparingRebalance {
                    deadline: now + step,
                    initial: Some(InitialDelay {
                        remaining,
                        extend: false,
                    }),
                };
            }
            _ => self.complete_join(now, actions),
        }
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let rebalance = match self.state {
            State::PreparingRebalance { deadline, .. } => Some(deadline),
            State::Empty | State::CompletingRebalance | State::Stable => None,
        };
        self.members
            .values()
            .filter_map(super::Member::deadline)
            .chain(self.pending.values().copied())
            .chain(rebalance)
            .chain(self.sync_deadline)
            .min()
    }

    /// Begins to gather members for the next generation, unless that has begun.
    pub(super) fn prepare_rebalance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::PreparingRebalance { .. } => {}
            State::Empty => {
                let delay = self.settings.initial_rebalance_delay;
                self.state = State::PreparingRebalance {
                    deadline: now + delay,
                    initial: Some(InitialDelay {
                        remaining: self.rebalance_timeout().saturating_sub(delay),
                        extend: false,
                    }),
                };
                if delay.is_zero() {
                    self.complete_join(now, actions);
                }
                return;
            }
            State::CompletingRebalance | State::Stable => {
                self.sync_deadline = None;
                self.unsynced.clear();
                for member in self.members.values_mut() {
                    if let Some(waiter) = member.syncing.take() {
                        member.touch(now);
                        let refused = Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS);
                        actions.push(Action::Synced(waiter, refused));
                    }
                }
                self.state = State::PreparingRebalance {
                    deadline: now + self.rebalance_timeout(),
                    initial: None,
                };
            }
        }
        self.complete_if_all_joined(now, actions);
    }

    /// Members went: the group gathers those who are left.
    pub(super) fn after_departure(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Empty => {}
            State::PreparingRebalance { .. } => self.complete_if_all_joined(now, actions),
            State::CompletingRebalance | State::Stable => self.prepare_rebalance(now, actions),
        }
    }

    /// Ends the joining phase early if there is nobody left to wait for; the first of a group always lasts.
    pub(super) fn complete_if_all_joined(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let State::PreparingRebalance { initial: None, .. } = self.state else {
            return;
        };
        if self.pending.is_empty() && self.members.values().all(|m| m.joining.is_some()) {
            self.complete_join(now, actions);
        }
    }

    /// Ends the joining phase: members that did not come are dropped (static ones keep their place), and
    /// everyone who waits learns the new generation.
    fn complete_join(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in &absent {
            tracing::debug!(member = id, "it did not join the next generation");
            self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, and none has come: their sessions decide, not this rebalance.
            self.state = State::PreparingRebalance {
                deadline: now + self.rebalance_timeout().max(WAIT_MIN),
                initial: None,
            };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = State::Empty;
            self.empty_since = now;
            self.protocol = None;
            self.leader = None;
            return;
        }
        self.protocol = self.select_protocol();
        self.state = State::CompletingRebalance;
        self.unsynced = self.members.keys().cloned().collect();
        self.sync_deadline = Some(now + self.rebalance_timeout());
        let mut waiting: Vec<(String, Waiter)> = Vec::new();
        for member in self.members.values_mut() {
            member.is_new = false;
            member.touch(now);
            waiting.extend(
                member
                    .joining
                    .take()
                    .map(|waiter| (member.id.clone(), waiter)),
            );
        }
        for (id, waiter) in waiting {
            actions.push(Action::Joined(waiter, self.joined(&id)));
        }
    }

    /// Makes sure that a member who joined leads; false if there is none.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.values().find(|m| m.joining.is_some());
        let Some(id) = joined.map(|member| member.id.clone()) else {
            return false;
        };
        self.leader = Some(id);
        true
    }

    /// Among the assignors that all support, the one that most members put first.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let candidates: Vec<&str> = first
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let votes = |candidate: &str| {
            self.members
                .values()
                .filter(|member| {
                    member
                        .protocols
                        .iter()
                        .find(|(name, _)| candidates.contains(&name.as_str()))
                        .is_some_and(|(name, _)| name == candidate)
                })
                .count()
        };
        // `max_by_key` takes the last of equals; reversed, the first member's order decides.
        candidates
            .iter()
            .rev()
            .max_by_key(|name| votes(name))
            .map(|name| (*name).to_owned())
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }
}

/// A rebalance timeout of 0 must not make the clock spin.
const WAIT_MIN: Duration = Duration::from_millis(100);
