//! Threads that serve sockets, each with a runtime of its own.
//!
//! A connection stays on one lane from its first byte to its last, and so does what its requests start: the exchange with
//! the service, the download. On one runtime for all threads each of these steps may wake another thread, and in a gate
//! with little to do a sleeping one: several for each miss, which is what its first byte waited for (`benches/README.md`).
//! A new connection goes to the lane with the fewest.
//!
//! What else a gate does runs at home, the runtime that its lanes belong to: the operators' listener, maintenance, the
//! accept loops; and calls that block, on the threads that are there for them, of which there is one pool for all lanes.

use std::{
    cell::RefCell,
    io,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    task,
};

/// Threads of a lane for what blocks in libraries, which know of no home: names that are looked up.
const OWN_BLOCKING_THREADS: usize = 8;

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Where a thread belongs.
struct Place {
    lane: usize,
    lanes: Arc<[Handle]>,
    home: Handle,
}

/// The lanes of a gate; cheap to clone.
#[derive(Clone)]
pub struct Lanes(Arc<[Lane]>);

struct Lane {
    runtime: Handle,
    seats: AtomicUsize,
}

/// A connection's place on a lane.
pub struct Seat {
    lanes: Lanes,
    lane: usize,
}

/// The threads of lanes. [`Threads::end`] waits for their end; dropped, they end on their own.
pub struct Threads(Vec<(oneshot::Sender<()>, JoinHandle<()>)>);

// === impl Lanes ===

impl Lanes {
    /// Starts `count` lanes, or one for each processor if that is 0, each of which says `hello` first and at its end gives
    /// its tasks the time `end`.
    ///
    /// # Errors
    /// When the system has no more threads or descriptors.
    pub fn start(count: usize, home: &Handle, end: Duration, hello: fn()) -> io::Result<(Self, Threads)> {
        let count = if count == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { count };
        let runtime =
            |_| Builder::new_current_thread().enable_all().max_blocking_threads(OWN_BLOCKING_THREADS).build();
        let runtimes: Vec<Runtime> = (0..count).map(runtime).collect::<io::Result<_>>()?;
        let lanes: Arc<[Handle]> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
        let mut threads = Threads(Vec::with_capacity(count));
        for (lane, runtime) in runtimes.into_iter().enumerate() {
            let place = Place { lane, lanes: Arc::clone(&lanes), home: home.clone() };
            let (stop, stopped) = oneshot::channel();
            let work = move || {
                hello();
                PLACE.set(Some(place));
                // An error says that nobody will ever say so, and that is what is waited for.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(end);
            };
            threads.0.push((stop, thread::Builder::new().name(format!("feedgate-io-{lane}")).spawn(work)?));
        }
        let lane = |runtime: &Handle| Lane { runtime: runtime.clone(), seats: AtomicUsize::new(0) };
        Ok((Self(lanes.iter().map(lane).collect()), threads))
    }

    /// A seat on the lane that has the fewest.
    pub fn seat(&self) -> Seat {
        let taken = |lane: &usize| self.0[*lane].seats.load(Ordering::Relaxed);
        let lane = (0..self.0.len()).min_by_key(taken).unwrap_or_default();
        self.0[lane].seats.fetch_add(1, Ordering::Relaxed);
        Seat { lanes: self.clone(), lane }
    }
}

// === impl Seat ===

impl Seat {
    /// The lane's runtime.
    pub fn runtime(&self) -> &Handle {
        &self.lanes.0[self.lane].runtime
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lanes.0[self.lane].seats.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Threads ===

impl Threads {
    /// Ends all lanes; their tasks get the time that was said at the start.
    pub fn end(self) {
        let (stops, threads): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        // All of them at once.
        drop(stops);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread that served sockets panicked");
            }
        }
    }
}

/// The lane that this thread serves; none elsewhere.
pub fn here() -> Option<usize> {
    PLACE.with_borrow(|place| place.as_ref().map(|place| place.lane))
}

/// The lanes that other threads serve, with their runtimes, the next one first; none elsewhere.
pub fn others() -> Vec<(usize, Handle)> {
    let numbered = |place: &Place| {
        let numbers = (place.lane + 1..place.lanes.len()).chain(0..place.lane);
        numbers.map(|lane| (lane, place.lanes[lane].clone())).collect()
    };
    PLACE.with_borrow(|place| place.as_ref().map(numbered)).unwrap_or_default()
}

/// The runtime whose threads may block: home on a lane, elsewhere the current one, if there is one.
pub fn home() -> Option<Handle> {
    let home = PLACE.with_borrow(|place| place.as_ref().map(|place| place.home.clone()));
    home.or_else(|| Handle::try_current().ok())
}

/// Runs `call` on a thread that may block, as `tokio::task::spawn_blocking` does.
pub fn spawn_blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> task::JoinHandle<T> {
    match home() {
        Some(home) => home.spawn_blocking(call),
        None => task::spawn_blocking(call),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::runtime::{Builder, Runtime};

    use super::{Lanes, Threads, here, home, others, spawn_blocking};

    fn home_with(count: usize) -> (Runtime, Lanes, Threads) {
        let home = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (lanes, threads) = Lanes::start(count, home.handle(), Duration::from_secs(1), || {}).unwrap();
        (home, lanes, threads)
    }

    #[test]
    fn a_connection_goes_to_the_lane_with_the_fewest() {
        let (_home, lanes, threads) = home_with(3);
        let mut seats: Vec<_> = (0..6).map(|_| lanes.seat()).collect();
        assert_eq!(seats.iter().map(|seat| seat.lane).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        seats.retain(|seat| seat.lane != 1);
        assert_eq!([lanes.seat().lane, lanes.seat().lane], [1, 1], "each is given back at once");
        threads.end();
    }

    #[test]
    fn a_task_stays_on_its_lane_and_what_blocks_goes_home() {
        let (outer, lanes, threads) = home_with(2);
        let (told, tells) = mpsc::channel();
        let seats = [lanes.seat(), lanes.seat()];
        for seat in &seats {
            let told = told.clone();
            let work = async move {
                let before = here();
                let inner = tokio::spawn(async { here() }).await.unwrap();
                let blocking = spawn_blocking(|| (here(), home().unwrap().id())).await.unwrap();
                told.send((before, inner, blocking)).unwrap();
            };
            seat.runtime().spawn(work);
        }
        let mut heard: Vec<_> =
            (0..2).map(|_| tells.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        heard.sort_unstable_by_key(|(before, ..)| *before);
        let elsewhere = (None, outer.handle().id());
        assert_eq!(heard, [0, 1].map(|lane| (Some(lane), Some(lane), elsewhere)));
        threads.end();
    }

    #[test]
    fn a_lane_reaches_the_others() {
        let (_home, lanes, threads) = home_with(3);
        assert_eq!((here(), others().len()), (None, 0));
        let seats = [lanes.seat(), lanes.seat()];
        let (told, tells) = mpsc::channel();
        seats[1].runtime().spawn(async move {
            for (lane, runtime) in others() {
                told.send((lane, runtime.spawn(async { here() }).await.unwrap())).unwrap();
            }
        });
        let heard: Vec<_> = (0..2).map(|_| tells.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert_eq!(heard, [(2, Some(2)), (0, Some(0))]);
        threads.end();
    }

    #[test]
    fn the_end_waits_no_longer_than_said_and_leaves_no_task() {
        let (_home, lanes, threads) = home_with(1);
        let (held, gone) = mpsc::channel::<()>();
        lanes.seat().runtime().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        threads.end();
        assert_eq!(gone.recv_timeout(Duration::from_secs(10)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
