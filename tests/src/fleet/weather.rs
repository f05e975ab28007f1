//! Bad weather between nodes: what one sends another comes late, or never.
//!
//! Each node is dialled by a relay of ours, which hands every datagram on after a while of its own
//! drawing. So both directions of every connection between nodes go through one relay, once each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Datagrams under way through one relay, at most; more are lost.
const UNDER_WAY: usize = 65_536;
/// Between two looks whether all is over.
const LOOK: Duration = Duration::from_millis(100);
/// The longest datagram.
const LONGEST: usize = 65_536;

/// What it is like between all nodes, and may become. Fair at first.
#[derive(Debug, Default, Clone)]
pub struct Weather(Arc<Sky>);

#[derive(Debug, Default)]
struct Sky {
    over: AtomicBool,
    delay_us: AtomicU64,
    spread_us: AtomicU64,
    lost_of_1000: AtomicU64,
    carried: AtomicU64,
    lost: AtomicU64,
    dice: AtomicU64,
}

impl Weather {
    /// From now on a datagram takes `delay`, give or take `spread`, and so many of 1000 are lost.
    pub fn becomes(&self, delay: Duration, spread: Duration, lost_of_1000: u64) {
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).expect("short");
        let sky = &self.0;
        sky.delay_us.store(microseconds(delay), Ordering::SeqCst);
        sky.spread_us.store(microseconds(spread), Ordering::SeqCst);
        sky.lost_of_1000.store(lost_of_1000, Ordering::SeqCst);
    }

    /// Nothing is late or lost any more.
    pub fn clears(&self) {
        self.becomes(Duration::ZERO, Duration::ZERO, 0);
    }

    /// Datagrams that were handed on, and those that were lost, so far.
    #[must_use]
    pub fn carried_and_lost(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        (count(&self.0.carried), count(&self.0.lost))
    }

    /// How long the next datagram takes; `None` is for ever.
    fn draw(&self) -> Option<Duration> {
        let sky = &self.0;
        if self.below(1000) < sky.lost_of_1000.load(Ordering::SeqCst) {
            sky.lost.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        sky.carried.fetch_add(1, Ordering::SeqCst);
        let spread = sky.spread_us.load(Ordering::SeqCst);
        let least = sky.delay_us.load(Ordering::SeqCst).saturating_sub(spread);
        Some(Duration::from_micros(least + self.below(2 * spread + 1)))
    }

    /// The same draws in every run (`SplitMix64`), though not for the same datagrams.
    fn below(&self, limit: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let before = self.0.dice.fetch_add(STEP, Ordering::SeqCst);
        let mut mixed = before.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn is_over(&self) -> bool {
        self.0.over.load(Ordering::SeqCst)
    }
}

/// Where a node is dialled instead of where it listens. Dropping it ends all relays of its weather.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    weather: Weather,
    workers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Relay {
    pub(super) fn to(node: SocketAddr, weather: &Weather) -> Self {
        let front = Arc::new(socket());
        let address = front.local_addr().expect("bound");
        let (sender, receiver) = sync_channel(UNDER_WAY);
        let workers = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let keep = Arc::clone(&workers);
        let own = weather.clone();
        let carrier = std::thread::spawn(move || carry(&receiver, &own));
        let own = weather.clone();
        let reader = std::thread::spawn(move || listen(&front, node, &sender, &own, &keep));
        workers.lock().expect("no panics").extend([carrier, reader]);
        Self {
            address,
            weather: weather.clone(),
            workers,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.weather.0.over.store(true, Ordering::SeqCst);
        loop {
            let worker = self.workers.lock().expect("no panics").pop();
            let Some(worker) = worker else { return };
            let _ = worker.join();
        }
    }
}

/// A datagram, and by which socket it goes on to whom.
struct UnderWay {
    due: Instant,
    by: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Hands each on when it is due.
fn carry(arriving: &Receiver<UnderWay>, weather: &Weather) {
    let mut waiting: BTreeMap<u64, UnderWay> = BTreeMap::new();
    let mut order = BinaryHeap::new();
    let mut number = 0;
    while !weather.is_over() {
        let now = Instant::now();
        while let Some(Reverse((due, first))) = order.peek().copied() {
            if due > now {
                break;
            }
            order.pop();
            if let Some(one) = waiting.remove(&first) {
                let _ = one.by.send_to(&one.bytes, one.to);
            }
        }
        let next = order
            .peek()
            .map_or(LOOK, |Reverse((due, _)): &Reverse<(Instant, u64)>| {
                due.saturating_duration_since(now).min(LOOK)
            });
        match arriving.recv_timeout(next) {
            Ok(one) => {
                number += 1;
                order.push(Reverse((one.due, number)));
                waiting.insert(number, one);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Takes what is sent to the node, from each sender by a socket of its own, which takes the answers.
fn listen(
    front: &Arc<UdpSocket>,
    node: SocketAddr,
    carrier: &SyncSender<UnderWay>,
    weather: &Weather,
    workers: &Mutex<Vec<JoinHandle<()>>>,
) {
    let mut backs: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    read(front, weather, |from, bytes| {
        let back = backs.entry(from).or_insert_with(|| {
            let back = Arc::new(socket());
            let (answers, front, own) = (Arc::clone(&back), Arc::clone(front), weather.clone());
            let carrier = carrier.clone();
            let reader = std::thread::spawn(move || {
                read(&answers, &own, |_, bytes| {
                    send(&carrier, &own, &front, from, bytes);
                });
            });
            workers.lock().expect("no panics").push(reader);
            back
        });
        send(carrier, weather, back, node, bytes);
    });
}

fn send(
    carrier: &SyncSender<UnderWay>,
    weather: &Weather,
    by: &Arc<UdpSocket>,
    to: SocketAddr,
    bytes: &[u8],
) {
    if let Some(delay) = weather.draw() {
        let _ = carrier.try_send(UnderWay {
            due: Instant::now() + delay,
            by: Arc::clone(by),
            to,
            bytes: bytes.to_vec(),
        });
    }
}

fn read(socket: &UdpSocket, weather: &Weather, mut each: impl FnMut(SocketAddr, &[u8])) {
    let mut buffer = vec![0; LONGEST];
    while !weather.is_over() {
        // A time-out, or the refusal of a node that is not there.
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            each(from, &buffer[..count]);
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_read_timeout(Some(LOOK)).expect("a time");
    socket
}
