//! Threads that serve sockets, each with a runtime of its own.
//!
//! A connection stays on one lane from its first byte to its last, and so does what its requests start: the exchange with
//! the service, the download. On one runtime for all threads each of these steps may wake another thread, and in a gate
//! with little to do a sleeping one: several for each miss, which is what its first byte waited for (`benches/README.md`).
//! A new connection goes to the lane with the fewest.
//!
//! What else a gate does runs at home, the runtime that its lanes belong to: the operators' listener, maintenance, the
//! accept loops; and calls that block, on the threads that are there for them, of which there is one pool for all lanes.
//! What computes for long on much has a pool of its own, whose threads give way to all others: while a packument of 40 MB
//! is made ready, nobody else's request is to wait.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    num::NonZero,
    pin::pin,
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
/// Bytes that are worked on where they come up: hashing them takes some 40 µs, parsing them a few hundred.
const AT_ONCE: usize = 64 << 10;
/// More bytes than this are worked on by threads that give way.
const MUCH: usize = 4 << 20;
/// How far those give way, as of nice(2).
const GIVES_WAY: i32 = 10;

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Where a thread belongs.
#[derive(Clone)]
struct Place {
    /// The lane that it serves, if it does.
    lane: Option<usize>,
    lanes: Arc<[Handle]>,
    home: Handle,
    patient: Handle,
}

/// The lanes of a gate; cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    lanes: Arc<[Lane]>,
    patient: Handle,
}

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
pub struct Threads {
    lanes: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    _patient: Patient,
}

/// Where a thread belongs that belongs elsewhere for a moment.
struct Moved(Option<Place>);

/// The threads that give way: those for blocking calls of a runtime that does nothing else.
struct Patient(Option<Runtime>);

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
        let (threads_that_wait, patient) = Patient::start(count)?;
        let mut threads = Threads { lanes: Vec::with_capacity(count), _patient: threads_that_wait };
        for (lane, runtime) in runtimes.into_iter().enumerate() {
            let (lanes, home, patient) = (Arc::clone(&lanes), home.clone(), patient.clone());
            let place = Place { lane: Some(lane), lanes, home, patient };
            let (stop, stopped) = oneshot::channel();
            let work = move || {
                hello();
                PLACE.set(Some(place));
                // An error says that nobody will ever say so, and that is what is waited for.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(end);
            };
            threads
                .lanes
                .push((stop, thread::Builder::new().name(format!("feedgate-io-{lane}")).spawn(work)?));
        }
        let lane = |runtime: &Handle| Lane { runtime: runtime.clone(), seats: AtomicUsize::new(0) };
        Ok((Self { lanes: lanes.iter().map(lane).collect(), patient }, threads))
    }

    /// A seat on the lane that has the fewest.
    pub fn seat(&self) -> Seat {
        let taken = |lane: &usize| self.lanes[*lane].seats.load(Ordering::Relaxed);
        let lane = (0..self.lanes.len()).min_by_key(taken).unwrap_or_default();
        self.lanes[lane].seats.fetch_add(1, Ordering::Relaxed);
        Seat { lanes: self.clone(), lane }
    }

    /// `work`, but that what blocks in it goes to the threads that give way: for what has time.
    pub async fn behind<T>(&self, work: impl Future<Output = T>) -> T {
        let patient = self.patient.clone();
        let place = Place { lane: None, lanes: Arc::new([]), home: patient.clone(), patient };
        let mut work = pin!(work);
        poll_fn(|context| {
            let _moved = Moved(PLACE.replace(Some(place.clone())));
            work.as_mut().poll(context)
        })
        .await
    }
}

// === impl Moved ===

impl Drop for Moved {
    fn drop(&mut self) {
        PLACE.set(self.0.take());
    }
}

// === impl Seat ===

impl Seat {
    /// The lane's runtime.
    pub fn runtime(&self) -> &Handle {
        &self.lanes.lanes[self.lane].runtime
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lanes.lanes[self.lane].seats.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Threads ===

impl Threads {
    /// Ends all lanes; their tasks get the time that was said at the start.
    pub fn end(self) {
        let (stops, threads): (Vec<_>, Vec<_>) = self.lanes.into_iter().unzip();
        // All of them at once.
        drop(stops);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread that served sockets panicked");
            }
        }
    }
}

// === impl Patient ===

impl Patient {
    fn start(count: usize) -> io::Result<(Self, Handle)> {
        let give_way = || {
            // Who may not do even that computes as others do.
            let _ = rustix::process::nice(GIVES_WAY);
        };
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(count)
            .thread_name("feedgate-patient")
            .on_thread_start(give_way)
            .build()?;
        let handle = runtime.handle().clone();
        Ok((Self(Some(runtime)), handle))
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        // What is still computed is of use to nobody.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// The lane that this thread serves; none elsewhere.
pub fn here() -> Option<usize> {
    PLACE.with_borrow(|place| place.as_ref().and_then(|place| place.lane))
}

/// The lanes that other threads serve, with their runtimes, the next one first; none elsewhere.
pub fn others() -> Vec<(usize, Handle)> {
    let numbered = |place: &Place| {
        let own = place.lane?;
        let numbers = (own + 1..place.lanes.len()).chain(0..own);
        Some(numbers.map(|lane| (lane, place.lanes[lane].clone())).collect())
    };
    PLACE.with_borrow(|place| place.as_ref().and_then(numbered)).unwrap_or_default()
}

/// The runtime whose threads may block: home on a lane, that of the threads that give way in [`Lanes::behind`], elsewhere
/// the current one, if there is one.
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

/// Runs `work`, which computes in proportion to `bytes`: here if that is soon done, else as [`aside`].
pub async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if bytes <= AT_ONCE { Some(work()) } else { aside(bytes, work).await }
}

/// Runs `work`, which computes in proportion to `bytes`, beside the threads that serve sockets. Nothing comes of work that
/// panics, or that the gate's end leaves undone.
pub async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let patient = PLACE.with_borrow(|place| place.as_ref().map(|place| place.patient.clone()));
    let running = match patient.filter(|_| bytes > MUCH) {
        Some(patient) => patient.spawn_blocking(work),
        None => spawn_blocking(work),
    };
    running.await.ok()
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::runtime::{Builder, Runtime};

    use super::{AT_ONCE, GIVES_WAY, Lanes, MUCH, Threads, compute, here, home, others, spawn_blocking};

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
    fn work_on_much_gives_way_and_work_on_little_is_done_at_once() {
        let (_home, lanes, threads) = home_with(1);
        let (told, tells) = mpsc::channel();
        lanes.seat().runtime().spawn(async move {
            for bytes in [AT_ONCE, MUCH, MUCH + 1] {
                // Adding nothing tells how far the thread gives way.
                let work = || (here().is_some(), rustix::process::nice(0).unwrap());
                told.send(compute(bytes, work).await.unwrap()).unwrap();
            }
        });
        let heard: Vec<_> = (0..3).map(|_| tells.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        let usual = rustix::process::nice(0).unwrap();
        // 19 is as far as any thread goes.
        assert_eq!(heard, [(true, usual), (false, usual), (false, (usual + GIVES_WAY).min(19))]);
        threads.end();
    }

    #[test]
    fn what_blocks_behind_all_else_gives_way() {
        let (outer, lanes, threads) = home_with(1);
        let nice = || spawn_blocking(|| rustix::process::nice(0).unwrap());
        let work =
            async { (nice().await.unwrap(), lanes.behind(async { nice().await.unwrap() }).await, here()) };
        let usual = rustix::process::nice(0).unwrap();
        assert_eq!(outer.block_on(work), (usual, (usual + GIVES_WAY).min(19), None));
        assert_eq!(outer.block_on(async { nice().await.unwrap() }), usual, "only inside");
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
