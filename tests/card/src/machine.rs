//! A block of threads at work: warps in lock step, diverging and coming together again, barriers, faults.
//!
//! The lanes of a warp that stand at the lowest instruction go first, so that those which skipped something wait for
//! the others behind it. Lanes that wait for a condition in a loop stand back until the rest has done what it can.

use crate::lanes::{ALL, LANES, Row, Value, lanes};
use crate::memory::{Memory, Ranges};

/// What a card would stop at, and what this one does not know.
pub type Fault = String;

/// What an instruction does to the lanes of a mask.
pub type Execute = fn(&mut Warp, &mut Block<'_>, &Op, u32) -> Result<(), Fault>;

#[derive(Clone, Copy)]
pub enum Run {
    Compute(Execute),
    /// Asks whether something has happened: the answer is the predicate in the first operand.
    Ask(Execute),
    /// Waits for the lanes of a mask, in this row, that have not ended.
    Meet(Execute, usize),
    Branch(usize),
    /// `bar.sync`: the barrier's number and the threads it waits for (0: all) in `imm` (number | threads << 8).
    Barrier,
    Exit,
}

/// An instruction made ready: operands are rows of registers.
pub struct Op {
    pub run: Run,
    pub guard: Option<(usize, bool)>,
    pub r: [usize; 5],
    pub imm: i64,
    pub list: Vec<usize>,
    pub line: usize,
}

/// A number that the hardware gives to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    LanesBelow,
    Warp,
}

/// A kernel made ready.
pub struct Program {
    pub name: String,
    pub code: Vec<Op>,
    pub rows: usize,
    pub constants: Vec<(usize, u32)>,
    pub specials: Vec<(usize, Special)>,
    /// Offset and size of each parameter.
    pub params: Vec<(usize, usize)>,
    pub shared: usize,
    pub local: usize,
    /// Whether it reads global memory only where it does not write (`ld.global.nc`, copies), so that a second run on
    /// the same memory changes nothing.
    pub repeatable: bool,
}

/// What one launch says.
pub struct Launch<'a> {
    pub program: &'a Program,
    pub grid: [u32; 3],
    pub threads: [u32; 3],
    pub dynamic_shared: usize,
    pub params: Vec<u8>,
    pub ranges: &'a Ranges,
}

/// 32 threads.
pub struct Warp {
    pub rows: Vec<Row>,
    pub memory: Memory,
    /// Lanes that are threads of the block.
    threads: u32,
    live: u32,
    at_barrier: u32,
    asking: u32,
    meeting: u32,
    /// Lanes that met others at other instructions and have not gone on yet; who they all are; what each gives.
    met: u32,
    pub party: u32,
    pub given: Row,
    pcs: [usize; LANES],
    instructions: u64,
}

/// A block of threads and its barriers.
pub struct Block<'a> {
    pub launch: &'a Launch<'a>,
    pub shared: Vec<u128>,
    /// Threads that have come to each barrier.
    arrived: [u32; 16],
    live: u32,
}

#[derive(PartialEq)]
enum Rest {
    /// All live lanes wait, or have ended.
    Waiting,
    /// Lanes ask for what has not happened.
    Asking,
}

impl Warp {
    /// With everything in its registers that does not change from block to block.
    fn new(launch: &Launch<'_>, first: usize) -> Self {
        let program = launch.program;
        let count = launch.threads.iter().product::<u32>() as usize;
        let threads = count.saturating_sub(first).min(LANES);
        let mut rows = vec![[u32::MAX; LANES]; program.rows];
        for &(row, value) in &program.constants {
            rows[row] = [value; LANES];
        }
        let [x, y, _] = launch.threads.map(|n| n as usize);
        for &(row, special) in &program.specials {
            rows[row] = std::array::from_fn(|lane| {
                let thread = first + lane;
                match special {
                    Special::Thread(0) => (thread % x) as u32,
                    Special::Thread(1) => (thread / x % y) as u32,
                    Special::Thread(_) => (thread / x / y) as u32,
                    Special::Threads(axis) => launch.threads[axis],
                    Special::Block(_) => 0,
                    Special::Blocks(axis) => launch.grid[axis],
                    Special::Lane => lane as u32,
                    Special::LanesBelow => (1 << lane) - 1,
                    Special::Warp => (first / LANES) as u32,
                }
            });
        }
        Self {
            rows,
            memory: Memory::new(program.local),
            threads: if threads == LANES { ALL } else { (1 << threads) - 1 },
            live: 0,
            at_barrier: 0,
            asking: 0,
            meeting: 0,
            met: 0,
            party: 0,
            given: [0; LANES],
            pcs: [0; LANES],
            instructions: 0,
        }
    }

    /// All threads to the start of the kernel, in the block at `place` of the grid.
    fn begin(&mut self, program: &Program, place: [u32; 3]) {
        for &(row, special) in &program.specials {
            if let Special::Block(axis) = special {
                self.rows[row] = [place[axis]; LANES];
            }
        }
        (self.live, self.pcs) = (self.threads, [0; LANES]);
        (self.at_barrier, self.asking, self.meeting, self.met, self.party) = (0, 0, 0, 0, 0);
    }

    pub fn get<T: Value>(&self, row: usize) -> [T; LANES] {
        T::get(&self.rows, row)
    }

    pub fn put<T: Value>(&mut self, row: usize, values: [T; LANES], mask: u32) {
        T::put(&mut self.rows, row, values, mask);
    }

    pub fn predicate(&self, row: usize) -> u32 {
        self.rows[row][0]
    }

    pub fn set_predicate(&mut self, row: usize, values: u32, mask: u32) {
        let old = self.rows[row][0];
        self.rows[row][0] = old & !mask | values & mask;
    }

    /// Lets go on those that wait for each other and are all there.
    fn meet(&mut self, program: &Program) {
        let mut rest = self.meeting;
        while rest != 0 {
            let pc = self.pcs[rest.trailing_zeros() as usize];
            let group =
                lanes(rest).filter(|&lane| self.pcs[lane] == pc).fold(0, |mask, lane| mask | 1 << lane);
            rest &= !group;
            if let Run::Meet(_, row) = program.code[pc].run
                && self.rows[row][group.trailing_zeros() as usize] & self.live & !group == 0
            {
                self.meeting &= !group;
            }
        }
        // All there, but at different instructions, which PTX allows: one elected lane shuffles in a loop of its own, and
        // the others on their way out.
        if self.meeting != 0
            && self.met == 0
            && let Run::Meet(_, row) = program.code[self.pcs[self.meeting.trailing_zeros() as usize]].run
        {
            let wanted = self.rows[row][self.meeting.trailing_zeros() as usize] & self.live;
            if wanted & !self.meeting == 0 {
                for lane in lanes(wanted) {
                    self.given[lane] = self.rows[program.code[self.pcs[lane]].r[1]][lane];
                }
                (self.met, self.party) = (wanted, wanted);
                self.meeting &= !wanted;
            }
        }
    }

    /// Goes on until no lane can.
    fn run(&mut self, block: &mut Block<'_>) -> Result<Rest, Fault> {
        let program = block.launch.program;
        loop {
            self.meet(program);
            let ready = self.live & !self.at_barrier & !self.asking & !self.meeting;
            if ready == 0 {
                let rest = if self.asking == 0 { Rest::Waiting } else { Rest::Asking };
                self.asking = 0;
                return Ok(rest);
            }
            let mut pc = lanes(ready).map(|lane| self.pcs[lane]).min().unwrap_or(0);
            let mut mask = 0;
            let mut next = usize::MAX;
            for lane in lanes(ready) {
                if self.pcs[lane] == pc {
                    mask |= 1 << lane;
                } else {
                    next = next.min(self.pcs[lane]);
                }
            }
            // These lanes go on alone until they reach others that are ready.
            while mask != 0 && pc < next {
                let op = program.code.get(pc).ok_or("the code ends without an exit")?;
                let active = match op.guard {
                    None => mask,
                    Some((row, false)) => mask & self.predicate(row),
                    Some((row, true)) => mask & !self.predicate(row),
                };
                let at = |fault: Fault| format!("{}, line {}: {fault}", program.name, op.line);
                pc += 1;
                self.instructions += 1;
                match op.run {
                    Run::Compute(execute) => {
                        if active != 0 {
                            execute(self, block, op, active).map_err(at)?;
                        }
                    }
                    Run::Ask(execute) => {
                        execute(self, block, op, active).map_err(at)?;
                        let not_yet = active & !self.predicate(op.r[0]);
                        if not_yet != 0 {
                            lanes(mask).for_each(|lane| self.pcs[lane] = pc);
                            self.asking |= not_yet;
                            mask = 0;
                        }
                    }
                    Run::Meet(execute, row) => {
                        let first = active.trailing_zeros() as usize % LANES;
                        if active != 0 && active & !self.met == 0 {
                            execute(self, block, op, active).map_err(at)?;
                            self.met &= !active;
                            if self.met == 0 {
                                self.party = 0;
                            }
                        } else if active != 0 && self.rows[row][first] & self.live & !active != 0 {
                            lanes(mask).for_each(|lane| self.pcs[lane] = pc);
                            lanes(active).for_each(|lane| self.pcs[lane] = pc - 1);
                            self.meeting |= active;
                            mask = 0;
                        } else if active != 0 {
                            // All here: what others still have to meet about is no business of these.
                            let party = std::mem::take(&mut self.party);
                            execute(self, block, op, active).map_err(at)?;
                            self.party = party;
                        }
                    }
                    Run::Branch(target) => {
                        if active == mask {
                            pc = target;
                        } else if active != 0 {
                            lanes(mask & !active).for_each(|lane| self.pcs[lane] = pc);
                            lanes(active).for_each(|lane| self.pcs[lane] = target);
                            mask = 0;
                        }
                    }
                    Run::Barrier => {
                        lanes(mask).for_each(|lane| self.pcs[lane] = pc);
                        self.at_barrier |= active;
                        let number = (op.imm & 0xFF) as usize;
                        let wanted = (op.imm >> 8) as u32;
                        block.arrive(number, active.count_ones(), wanted).map_err(at)?;
                        mask = 0;
                    }
                    Run::Exit => {
                        lanes(mask).for_each(|lane| self.pcs[lane] = pc);
                        self.live &= !active;
                        block.live -= active.count_ones();
                        mask = 0;
                    }
                }
            }
            lanes(mask).for_each(|lane| self.pcs[lane] = pc);
        }
    }
}

impl Block<'_> {
    fn arrive(&mut self, number: usize, threads: u32, wanted: u32) -> Result<(), Fault> {
        if wanted != 0 && wanted != self.launch.threads.iter().product::<u32>() {
            return Err(format!("a barrier of {wanted} threads is not known"));
        }
        *self.arrived.get_mut(number).ok_or("there are 16 barriers")? += threads;
        Ok(())
    }
}

/// Blocks of one launch, run one after another in the same memory: a thread's registers hold what the last block left.
pub struct Processor<'a> {
    block: Block<'a>,
    warps: Vec<Warp>,
}

impl<'a> Processor<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Self {
        let threads = launch.threads.iter().product::<u32>() as usize;
        let bytes = launch.program.shared + launch.dynamic_shared;
        let block = Block { launch, shared: vec![0; bytes.div_ceil(16)], arrived: [0; 16], live: 0 };
        Self { block, warps: (0..threads).step_by(LANES).map(|first| Warp::new(launch, first)).collect() }
    }

    /// Instructions that warps have run, and bytes of global memory that lanes have asked for.
    pub fn work(&self) -> [u64; 2] {
        let warps = self.warps.iter();
        warps.fold([0; 2], |sum, warp| [sum[0] + warp.instructions, sum[1] + warp.memory.global_bytes])
    }

    /// Runs one block to its end.
    pub fn run(&mut self, place: [u32; 3]) -> Result<(), Fault> {
        let Self { block, warps } = self;
        let launch = block.launch;
        // What nobody wrote is no number.
        block.shared.fill(u128::MAX);
        block.arrived = [0; 16];
        block.live = launch.threads.iter().product();
        for warp in &mut *warps {
            warp.begin(launch.program, place);
        }
        // Every other block takes its warps backwards: what lacks a barrier is not right by luck.
        let backwards = place[0] % 2 == 1;
        let mut idle = 0;
        loop {
            let mut asking = false;
            for at in 0..warps.len() {
                let at = if backwards { warps.len() - 1 - at } else { at };
                let warp = &mut warps[at];
                if warp.live != 0 {
                    asking |= warp.run(block)? == Rest::Asking;
                }
            }
            if block.live == 0 {
                return Ok(());
            }
            // All live threads stand at one barrier: it opens.
            if block.arrived.contains(&block.live) {
                block.arrived = [0; 16];
                warps.iter_mut().for_each(|warp| warp.at_barrier = 0);
                idle = 0;
            } else if asking && idle < 1_000_000 {
                idle += 1;
            } else {
                let arrived: u32 = block.arrived.iter().sum();
                return Err(format!(
                    "{}: no thread can go on: {arrived} of {} at a barrier",
                    launch.program.name, block.live
                ));
            }
        }
    }
}
