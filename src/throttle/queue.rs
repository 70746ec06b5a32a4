//! Who is next: by priority, then fair between identities and clients, then first come, first served.
//!
//! Pure bookkeeping. Whether an identity may send at all is the caller's knowledge and comes in as a closure.
//!
//! - **Priority** is strict but for a share that keeps the lower ones alive: of 32 grants, 8 begin their search
//!   with packages, one with refreshes and one with warm-up. Installs that only ever read documents would
//!   otherwise hold back the downloads of others until those clients give up.
//! - **Clients** take turns, one request each. A client that was not served for a while is *young* for its first
//!   [`HEAD_START`] requests, and young clients get seven turns of eight: a small install is over before it
//!   becomes like the others, a huge one hardly notices.
//! - **Lanes** (an identity and its kind of work on a class of host) take turns in the same way, and one that is
//!   paused is stepped over. Blob hosts share one turn: whose bytes lie on more of them gets no more than others, and
//!   of each client the oldest request goes whose host may be asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use tokio::time::Instant;

use super::{Class, Client, Identity, Priority, Work};

/// Requests for which a client goes before those that had theirs: more than a small install has.
pub const HEAD_START: u32 = 32;
/// After this long without a grant a client is young again.
const YOUNG_AGAIN: Duration = Duration::from_secs(10);
/// Of this many turns between young and old clients one is for the old.
const OLD_TURN: u32 = 8;
/// Of this many turns one begins with packages.
const PACKAGE_TURN: u32 = 4;
/// Of this many turns one begins with refreshes, and one with warm-up.
const BACKGROUND_TURN: u32 = 32;
/// Clients whose last grants are remembered; beyond, those that are young again are dropped.
const REMEMBERED: usize = 4096;

/// A place in the queue; later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What draws on the same budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Kind of host.
    pub class: Class,
    /// Whose budget.
    pub identity: Identity,
    /// Kind of work.
    pub work: Work,
}

/// Where a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its lane.
    pub lane: Lane,
    /// Its priority.
    pub priority: Priority,
    /// Who asked.
    pub client: Client,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub struct Queue {
    places: HashMap<Ticket, Place>,
    levels: BTreeMap<(Class, Priority), Level>,
    by_client: HashMap<Client, usize>,
    served: HashMap<Client, Served>,
    turns: HashMap<Class, u32>,
    next: u64,
}

/// The groups of lanes of one class and priority that have somebody, in turn.
#[derive(Debug, Default)]
struct Level {
    groups: HashMap<Group, Clients>,
    ring: VecDeque<Group>,
    length: usize,
    turn: u32,
}

/// Lanes that have one turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    One(Lane),
    BlobHosts,
}

/// The clients of a group that have somebody, in turn; each is in one of the rings.
#[derive(Debug, Default)]
struct Clients {
    tickets: HashMap<Client, BTreeMap<Lane, BTreeSet<Ticket>>>,
    young: VecDeque<Client>,
    old: VecDeque<Client>,
    turn: u32,
}

#[derive(Debug, Clone, Copy)]
struct Served {
    count: u32,
    last: Instant,
}

// === impl Queue ===

impl Queue {
    /// Adds somebody at the end.
    pub fn push(&mut self, place: Place, now: Instant) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.insert(ticket, place, now);
        ticket
    }

    /// Takes somebody out who need not wait any more.
    pub fn remove(&mut self, ticket: Ticket) -> Option<Place> {
        let place = self.places.remove(&ticket)?;
        if let Some(level) = self.levels.get_mut(&(place.lane.class, place.priority)) {
            level.remove(ticket, &place);
        }
        self.forget_one(place.client);
        Some(place)
    }

    /// Gives somebody another priority; the place among the client's own stays by age.
    pub fn move_to(&mut self, ticket: Ticket, priority: Priority, now: Instant) {
        if self.places.get(&ticket).is_some_and(|place| place.priority != priority)
            && let Some(place) = self.remove(ticket)
        {
            self.insert(ticket, Place { priority, ..place }, now);
        }
    }

    /// Takes out who is next on a class of hosts among those whose lane is `open` for their priority.
    pub fn pop(
        &mut self,
        class: Class,
        now: Instant,
        mut open: impl FnMut(Lane, Priority) -> bool,
    ) -> Option<(Ticket, Place)> {
        let turn = self.turns.entry(class).or_default();
        let order = order(*turn);
        let (level, lane, client) = order.into_iter().find_map(|priority| {
            let level = self.levels.get(&(class, priority))?;
            let mut known = HashMap::new();
            let (lane, client) =
                level.next(|lane| *known.entry(lane).or_insert_with(|| open(lane, priority)))?;
            Some(((class, priority), lane, client))
        })?;
        *turn = turn.wrapping_add(1);
        let served = &mut self.served;
        let ticket =
            self.levels.get_mut(&level)?.pop(lane, client, |client| is_young(served, client, now))?;
        self.serve(client, now);
        self.forget_one(client);
        self.places.remove(&ticket).map(|place| (ticket, place))
    }

    /// Everybody who waits on a class of hosts, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (Ticket, Place)> {
        self.places.iter().map(|(ticket, place)| (*ticket, *place))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many wait with a priority on a class of hosts.
    pub fn len_of(&self, class: Class, priority: Priority) -> usize {
        self.levels.get(&(class, priority)).map_or(0, |level| level.length)
    }

    /// How many of a client wait.
    pub fn len_of_client(&self, client: Client) -> usize {
        self.by_client.get(&client).copied().unwrap_or_default()
    }

    fn insert(&mut self, ticket: Ticket, place: Place, now: Instant) {
        let young = is_young(&mut self.served, place.client, now);
        self.levels.entry((place.lane.class, place.priority)).or_default().push(ticket, &place, young);
        *self.by_client.entry(place.client).or_default() += 1;
        self.places.insert(ticket, place);
    }

    fn forget_one(&mut self, client: Client) {
        if let Entry::Occupied(mut count) = self.by_client.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn serve(&mut self, client: Client, now: Instant) {
        if self.served.len() >= REMEMBERED && !self.served.contains_key(&client) {
            self.served.retain(|_, served| now.duration_since(served.last) < YOUNG_AGAIN);
        }
        let served = self.served.entry(client).or_insert(Served { count: 0, last: now });
        served.count = served.count.saturating_add(1);
        served.last = now;
    }
}

// === impl Lane ===

impl Lane {
    fn group(self) -> Group {
        match self.class {
            Class::Api => Group::One(self),
            Class::Blob => Group::BlobHosts,
        }
    }
}

// === impl Level ===

impl Level {
    fn push(&mut self, ticket: Ticket, place: &Place, young: bool) {
        let group = place.lane.group();
        if !self.groups.contains_key(&group) {
            self.ring.push_back(group);
        }
        self.groups.entry(group).or_default().push(ticket, place, young);
        self.length += 1;
    }

    /// The open lane whose turn it is, and its client: of a group with a young client, unless it is the turn of the
    /// others.
    fn next(&self, mut open: impl FnMut(Lane) -> bool) -> Option<(Lane, Client)> {
        let groups = self.ring.iter().filter_map(|group| Some((*group, self.groups.get(group)?)));
        let (young, old): (Vec<_>, Vec<_>) = groups.partition(|(_, clients)| !clients.young.is_empty());
        let (first, second) = if is_old_turn(self.turn) { (old, young) } else { (young, old) };
        first.into_iter().chain(second).find_map(|(group, clients)| match group {
            // Asked once, however many stand in it.
            Group::One(lane) if !open(lane) => None,
            Group::One(_) | Group::BlobHosts => clients.next(&mut open),
        })
    }

    fn pop(&mut self, lane: Lane, client: Client, is_young: impl FnMut(Client) -> bool) -> Option<Ticket> {
        let group = lane.group();
        let clients = self.groups.get_mut(&group)?;
        let ticket = clients.pop(lane, client, is_young)?;
        self.length -= 1;
        self.turn = self.turn.wrapping_add(1);
        self.ring.retain(|other| *other != group);
        if clients.tickets.is_empty() {
            self.groups.remove(&group);
        } else {
            self.ring.push_back(group);
        }
        Some(ticket)
    }

    fn remove(&mut self, ticket: Ticket, place: &Place) {
        let group = place.lane.group();
        let Some(clients) = self.groups.get_mut(&group) else { return };
        self.length -= usize::from(clients.remove(ticket, place));
        if clients.tickets.is_empty() {
            self.groups.remove(&group);
            self.ring.retain(|other| *other != group);
        }
    }
}

// === impl Clients ===

impl Clients {
    fn push(&mut self, ticket: Ticket, place: &Place, young: bool) {
        if !self.tickets.contains_key(&place.client) {
            self.ring(young).push_back(place.client);
        }
        self.tickets.entry(place.client).or_default().entry(place.lane).or_default().insert(ticket);
    }

    /// The client whose turn it is among those who have somebody in an open lane, and that lane.
    fn next(&self, open: &mut impl FnMut(Lane) -> bool) -> Option<(Lane, Client)> {
        let (first, second) =
            if is_old_turn(self.turn) { (&self.old, &self.young) } else { (&self.young, &self.old) };
        first.iter().chain(second).find_map(|client| {
            let own = self.tickets.get(client)?.iter().filter(|(lane, _)| open(**lane));
            let (lane, _) = own.min_by_key(|(_, tickets)| tickets.first())?;
            Some((*lane, *client))
        })
    }

    fn pop(
        &mut self,
        lane: Lane,
        client: Client,
        mut is_young: impl FnMut(Client) -> bool,
    ) -> Option<Ticket> {
        let Entry::Occupied(mut own) = self.tickets.entry(client) else { return None };
        let ticket = take(own.get_mut(), lane, BTreeSet::pop_first)?;
        let is_last = own.get().is_empty();
        if is_last {
            own.remove();
        }
        self.turn = self.turn.wrapping_add(1);
        let was_young = self.step_out(client);
        if !is_last {
            // The caller counts this grant afterwards: the head start is one longer than it would be.
            let young = was_young && is_young(client);
            self.ring(young).push_back(client);
        }
        Some(ticket)
    }

    /// Takes a client out of its ring, mostly from the front of it; whether that was the one of the young.
    fn step_out(&mut self, client: Client) -> bool {
        let young = self.old.front() != Some(&client) && self.young.contains(&client);
        let ring = self.ring(young);
        if let Some(index) = ring.iter().position(|other| *other == client) {
            ring.remove(index);
        }
        young
    }

    fn remove(&mut self, ticket: Ticket, place: &Place) -> bool {
        let Entry::Occupied(mut own) = self.tickets.entry(place.client) else { return false };
        let removed = take(own.get_mut(), place.lane, |tickets| tickets.take(&ticket));
        if own.get().is_empty() {
            own.remove();
            self.step_out(place.client);
        }
        removed.is_some()
    }

    fn ring(&mut self, young: bool) -> &mut VecDeque<Client> {
        if young { &mut self.young } else { &mut self.old }
    }
}

/// Takes somebody out of a lane, and the lane with its last.
fn take(
    own: &mut BTreeMap<Lane, BTreeSet<Ticket>>,
    lane: Lane,
    which: impl FnOnce(&mut BTreeSet<Ticket>) -> Option<Ticket>,
) -> Option<Ticket> {
    let tickets = own.get_mut(&lane)?;
    let taken = which(tickets);
    if tickets.is_empty() {
        own.remove(&lane);
    }
    taken
}

fn is_old_turn(turn: u32) -> bool {
    turn % OLD_TURN == OLD_TURN - 1
}

fn order(turn: u32) -> [Priority; 4] {
    use Priority::{Document, Package, Refresh, WarmUp};
    let first = match turn % BACKGROUND_TURN {
        14 => Refresh,
        30 => WarmUp,
        turn if turn % PACKAGE_TURN == PACKAGE_TURN - 1 => Package,
        _ => Document,
    };
    match first {
        Document => [Document, Package, Refresh, WarmUp],
        Package => [Package, Document, Refresh, WarmUp],
        Refresh => [Refresh, Document, Package, WarmUp],
        WarmUp => [WarmUp, Document, Package, Refresh],
    }
}

fn is_young(served: &mut HashMap<Client, Served>, client: Client, now: Instant) -> bool {
    let Entry::Occupied(entry) = served.entry(client) else { return true };
    if now.duration_since(entry.get().last) < YOUNG_AGAIN {
        return entry.get().count < HEAD_START;
    }
    entry.remove();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane(identity: u64) -> Lane {
        Lane { class: Class::Api, identity: Identity::new(identity), work: Work::Metadata }
    }

    fn place(identity: u64, client: u64, priority: Priority) -> Place {
        Place { lane: lane(identity), priority, client: Client::new(client) }
    }

    /// The clients in the order in which they are served.
    fn served(queue: &mut Queue, now: Instant) -> Vec<Place> {
        std::iter::from_fn(|| queue.pop(Class::Api, now, |_, _| true)).map(|(_, place)| place).collect()
    }

    #[test]
    fn a_client_is_served_in_order_and_one_that_leaves_is_skipped() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let tickets: Vec<_> = (0..4).map(|_| queue.push(place(1, 1, Priority::Package), now)).collect();
        assert!(queue.remove(tickets[1]).is_some());
        assert!(queue.remove(tickets[1]).is_none());
        let mut left = Vec::new();
        while let Some((ticket, _)) = queue.pop(Class::Api, now, |_, _| true) {
            left.push(ticket);
        }
        assert_eq!(left, [tickets[0], tickets[2], tickets[3]]);
        assert_eq!((queue.len(), queue.len_of_client(Client::new(1))), (0, 0));
    }

    #[test]
    fn clients_take_turns() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for client in [1, 1, 1, 2, 3, 3] {
            queue.push(place(1, client, Priority::Package), now);
        }
        let order: Vec<_> = served(&mut queue, now).iter().map(|place| place.client).collect();
        assert_eq!(order, [1, 2, 3, 1, 3, 1].map(Client::new));
    }

    #[test]
    fn a_small_restore_passes_a_huge_one_without_stopping_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for _ in 0..500 {
            queue.push(place(1, 1, Priority::Package), now);
        }
        for _ in 0..100 {
            queue.pop(Class::Api, now, |_, _| true);
        }
        for _ in 0..20 {
            queue.push(place(1, 2, Priority::Package), now);
        }
        let order: Vec<_> = served(&mut queue, now).iter().map(|place| place.client).collect();
        let last = order.iter().rposition(|client| *client == Client::new(2)).unwrap();
        assert!((20..28).contains(&last), "the last of 20 was served at place {last}");
    }

    #[test]
    fn higher_priorities_go_first_and_lower_ones_are_not_starved() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for priority in Priority::ALL.into_iter().rev() {
            for _ in 0..320 {
                queue.push(place(1, 1, priority), now);
            }
        }
        let first: Vec<_> =
            served(&mut queue, now).into_iter().take(320).map(|place| place.priority).collect();
        let count = |wanted| first.iter().filter(|priority| **priority == wanted).count();
        assert_eq!(Priority::ALL.map(count), [220, 80, 10, 10]);
    }

    #[test]
    fn a_lane_that_is_closed_is_stepped_over() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(place(1, 1, Priority::Document), now);
        queue.push(place(2, 2, Priority::WarmUp), now);
        let popped = queue.pop(Class::Api, now, |lane, _| lane.identity == Identity::new(2)).unwrap();
        assert_eq!(popped.1.priority, Priority::WarmUp);
        assert_eq!(queue.pop(Class::Api, now, |lane, _| lane.identity == Identity::new(2)), None);
        assert_eq!(queue.pop(Class::Blob, now, |_, _| true), None);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_client_gets_no_more_turns_by_asking_more_blob_hosts_and_a_closed_one_holds_up_nobody() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let lane = |host| Lane { class: Class::Blob, identity: Identity::new(host), work: Work::Download };
        let place = |host, client| Place {
            lane: lane(host),
            priority: Priority::Package,
            client: Client::new(client),
        };
        for host in 0..10 {
            for _ in 0..4 {
                queue.push(place(host, 1), now);
            }
        }
        for _ in 0..10 {
            queue.push(place(0, 2), now);
        }
        let open = |lane: Lane, _| lane.identity != Identity::new(0);
        let first: Vec<_> = (0..4).map(|_| queue.pop(Class::Blob, now, open).unwrap().1.lane).collect();
        assert_eq!(first, [lane(1); 4], "the oldest, and the closed host is stepped over");
        let next: Vec<_> = (0..12).map(|_| queue.pop(Class::Blob, now, |_, _| true).unwrap().1).collect();
        assert_eq!(next.iter().filter(|place| place.client == Client::new(2)).count(), 6);
    }

    #[test]
    fn a_ticket_that_is_moved_keeps_its_age() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let early = queue.push(place(1, 1, Priority::WarmUp), now);
        let late = queue.push(place(1, 1, Priority::Document), now);
        queue.move_to(early, Priority::Document, now);
        assert_eq!(queue.len_of(Class::Api, Priority::Document), 2);
        let order = [(); 2].map(|()| queue.pop(Class::Api, now, |_, _| true).unwrap().0);
        assert_eq!(order, [early, late]);
    }

    /// The longest time, in turns, that a client among `clients` waits in a lane: every eighth turn is for the old.
    fn longest(clients: usize) -> usize {
        8 * clients + 8
    }

    proptest! {
        #[test]
        fn a_client_is_served_in_its_order_and_waits_a_bounded_time(
            before in prop::collection::vec(0_u64..6, 0..200),
            clients in prop::collection::vec(0_u64..6, 1..200),
        ) {
            let (mut queue, now) = (Queue::default(), Instant::now());
            // Some had their head start.
            for client in before {
                queue.push(place(1, client, Priority::Package), now);
            }
            served(&mut queue, now);
            let mut waiting: BTreeMap<Client, VecDeque<(Ticket, usize)>> = BTreeMap::new();
            for client in clients {
                let place = place(1, client, Priority::Package);
                waiting.entry(place.client).or_default().push_back((queue.push(place, now), 0));
            }
            let bound = longest(waiting.len());
            for turn in 1.. {
                let Some((ticket, place)) = queue.pop(Class::Api, now, |_, _| true) else { break };
                let own = waiting.get_mut(&place.client).unwrap();
                let (first, since) = own.pop_front().unwrap();
                prop_assert_eq!(ticket, first);
                prop_assert!(turn - since <= bound, "{} turns of {}", turn - since, bound);
                own.iter_mut().take(1).for_each(|next| next.1 = turn);
            }
            prop_assert!(waiting.values().all(VecDeque::is_empty));
        }

        #[test]
        fn everyone_who_stays_is_served_once(
            steps in prop::collection::vec((0_u8..4, 0_u64..3, 0_u64..4, 0_usize..4, 0_usize..50), 1..200),
        ) {
            let (mut queue, mut now) = (Queue::default(), Instant::now());
            let mut waiting = BTreeSet::new();
            for (step, identity, client, priority, which) in steps {
                now += Duration::from_millis(700);
                let chosen = waiting.iter().nth(which).copied();
                match (step, chosen) {
                    (0, Some(ticket)) => {
                        prop_assert!(queue.remove(ticket).is_some());
                        waiting.remove(&ticket);
                    }
                    (1, Some(ticket)) => queue.move_to(ticket, Priority::ALL[priority], now),
                    (2, _) => {
                        let popped = queue.pop(Class::Api, now, |_, _| true);
                        prop_assert_eq!(popped.is_some(), !waiting.is_empty());
                        prop_assert!(popped.is_none_or(|(ticket, _)| waiting.remove(&ticket)));
                    }
                    _ => drop(waiting.insert(queue.push(place(identity, client, Priority::ALL[priority]), now))),
                }
                prop_assert_eq!(queue.len(), waiting.len());
            }
            prop_assert_eq!(served(&mut queue, now).len(), waiting.len());
            prop_assert!(queue.by_client.is_empty());
            prop_assert!(queue.levels.values().all(|level| level.length == 0 && level.groups.is_empty()));
        }
    }
}
