//! How a stage's plane is cut into tasks: vertical strips whose prepared rows stay in the cache, and bands of a few
//! rows. The cut depends on the plane's size alone, never on the threads, because moments are merged along it.

/// A stage's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    height: usize,
    width: usize,
    strips: usize,
    /// Strips begin at a multiple of this.
    unit: usize,
    /// Rows of a band: a multiple of the unit.
    band: usize,
}

/// Rows of the window in which [`Grid::across`] goes from strip to strip.
const WINDOW: usize = 128;

/// One task: rows `y0..y1` of columns `x0..x1`, in bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) strip: usize,
    pub(super) y0: usize,
    pub(super) y1: usize,
    pub(super) x0: usize,
    pub(super) x1: usize,
}

impl Grid {
    /// `unit`: rows and columns that are computed together; `widest`: columns of the widest strip allowed; `band`:
    /// rows of a band (rounded up to whole units, of at least 4), unless they are chosen here.
    pub(super) fn new(height: usize, width: usize, unit: usize, widest: usize, band: Option<usize>) -> Self {
        let units = width.div_ceil(unit);
        let strips = units.div_ceil((widest / unit).max(1));
        // Small enough to share well, and a bounded number of them.
        let rows = band.map_or(height / 256, |rows| rows.min(height)).max(4);
        let band = rows.next_multiple_of(unit.max(4));
        Grid { height, width, strips, unit, band }
    }

    fn bands(&self) -> usize {
        self.height.div_ceil(self.band)
    }

    pub(super) fn tasks(&self) -> usize {
        self.strips * self.bands()
    }

    /// Columns of the widest strip.
    pub(super) fn widest(&self) -> usize {
        (0..self.strips).map(|strip| self.edge(strip + 1) - self.edge(strip)).max().unwrap_or(0)
    }

    fn edge(&self, strip: usize) -> usize {
        let units = self.width.div_ceil(self.unit);
        (units * strip / self.strips * self.unit).min(self.width)
    }

    /// The tasks in another order: [`WINDOW`] rows of all strips, then the next rows. So the parts of a scratch
    /// file that are read and written at a time lie close together, and few rows are prepared twice.
    pub(super) fn across(&self, position: usize) -> usize {
        let bands = self.bands();
        let together = (WINDOW / self.band).clamp(1, bands);
        let first = position / (together * self.strips) * together;
        let together = together.min(bands - first);
        let rest = position - first * self.strips;
        rest / together * bands + first + rest % together
    }

    /// Tasks follow each other down a strip.
    pub(super) fn task(&self, index: usize) -> Task {
        let (strip, band) = (index / self.bands(), index % self.bands());
        let y0 = band * self.band;
        Task {
            strip,
            y0,
            y1: (y0 + self.band).min(self.height),
            x0: self.edge(strip),
            x1: self.edge(strip + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_base_once() {
        for (height, width, unit, widest) in
            [(1, 1, 1, 64), (480, 640, 1, 640), (7, 13, 4, 8), (2250, 3000, 4, 80), (9000, 12000, 1, 500)]
        {
            let grid = Grid::new(height, width, unit, widest, None);
            let mut area = 0;
            let mut last: Option<Task> = None;
            for task in (0..grid.tasks()).map(|index| grid.task(index)) {
                assert!(task.x0 < task.x1 && task.y0 < task.y1, "{task:?}");
                assert!(task.x0 % unit == 0 && task.y0 % unit == 0 && task.x1 - task.x0 <= grid.widest());
                if let Some(last) = last.filter(|last| last.strip == task.strip) {
                    assert_eq!((last.y1, last.x0, last.x1), (task.y0, task.x0, task.x1));
                }
                area += (task.x1 - task.x0) * (task.y1 - task.y0);
                last = Some(task);
            }
            assert_eq!(area, height * width);
            assert!(grid.widest() <= widest.max(unit) && grid.tasks() <= 512 * width.div_ceil(widest));
        }
    }

    #[test]
    fn bands_can_be_chosen() {
        for (height, wanted, rows) in [(480, 1, 4), (480, 4, 4), (480, 5, 8), (480, 64, 64), (7, 100, 7)] {
            let task = Grid::new(height, 640, 4, 80, Some(wanted)).task(0);
            assert_eq!((task.y0, task.y1), (0, rows), "{wanted} of {height}");
        }
        assert_eq!(Grid::new(480, 640, 4, 80, Some(4)), Grid::new(480, 640, 4, 80, None));
    }

    #[test]
    fn across_the_strips_every_task_comes_once_and_rows_stay_together() {
        for (height, width, band) in
            [(1, 1, None), (700, 640, None), (9000, 12000, None), (333, 401, Some(200))]
        {
            let grid = Grid::new(height, width, 4, 80, band);
            let order: Vec<_> = (0..grid.tasks()).map(|position| grid.across(position)).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().enumerate().all(|(i, &task)| i == task), "{height}×{width}");
            let mut highest = 0;
            for task in order.into_iter().map(|index| grid.task(index)) {
                assert!(task.y0 + WINDOW.max(grid.band) >= highest, "{task:?} after row {highest}");
                highest = highest.max(task.y1);
            }
        }
    }
}
