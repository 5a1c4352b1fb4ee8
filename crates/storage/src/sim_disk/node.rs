//! One file of a [`super::SimDisk`]: what is durable, what a reader sees, and the writes in between.

use super::Random;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Node {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Writes since the last sync, oldest first.
    pending: Vec<Write>,
}

#[derive(Clone)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl Node {
    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let write = Write { offset, bytes: bytes.to_vec() };
        write.apply(&mut self.current);
        self.pending.push(write);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if let Some(cut) = self.current.len().checked_sub(len).filter(|cut| *cut > 0) {
            self.pending.push(Write { offset: len, bytes: vec![0; cut] });
        }
        self.current.resize(len, 0);
    }

    pub(super) fn sync(&mut self) {
        for write in self.pending.drain(..) {
            write.apply(&mut self.durable);
        }
        self.durable.resize(self.current.len(), 0);
    }

    /// Some sectors get to the medium, the others are forgotten but still seen by readers.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.durable = self.survivors(random);
        self.pending.clear();
    }

    pub(super) fn power_cut(&mut self, random: &mut Random) {
        self.durable = self.survivors(random);
        self.current = self.durable.clone();
        self.pending.clear();
    }

    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.sync();
        change(&mut self.current);
        self.durable = self.current.clone();
    }

    /// What the medium holds if the pending writes reach it in part. A sector goes to the disk as the page cache
    /// holds it at some moment, so it shows all writes up to that moment and none after.
    fn survivors(&self, random: &mut Random) -> Vec<u8> {
        let style = random.below(4);
        let new_len = if random.below(2) == 0 { self.durable.len() } else { self.current.len() };
        let mut medium = self.durable.clone();
        let sectors = self.pending.iter().map(Write::end).max().unwrap_or(0).div_ceil(SECTOR);
        for sector in 0..sectors {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            let touching: Vec<&Write> = self.pending.iter().filter(|w| w.touches(&range)).collect();
            if touching.is_empty() {
                continue;
            }
            let all = touching.len() as u64;
            let seen = match style {
                0 => 0,
                1 => all,
                2 => random.below(all + 1),
                _ if random.below(8) == 0 => random.below(all),
                _ => all,
            };
            for write in &touching[..seen as usize] {
                write.apply_within(&mut medium, &range);
            }
        }
        medium.resize(new_len, 0);
        medium
    }
}

impl Write {
    fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }

    fn touches(&self, range: &std::ops::Range<usize>) -> bool {
        self.offset < range.end && range.start < self.end()
    }

    fn apply(&self, file: &mut Vec<u8>) {
        self.apply_within(file, &(0..usize::MAX));
    }

    fn apply_within(&self, file: &mut Vec<u8>, range: &std::ops::Range<usize>) {
        let (start, end) = (self.offset.max(range.start), self.end().min(range.end));
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(&self.bytes[start - self.offset..end - self.offset]);
    }
}
