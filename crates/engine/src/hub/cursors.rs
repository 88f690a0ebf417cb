//! The cursors of one channel in one shard: one dense list per wire form.

use fanfare_wire::{FormId, Seq};

/// Where one connection stands in one channel: everything up to `seq` is written, or on its way in the connection's
/// own output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) conn: u32,
    pub(crate) seq: Seq,
}

/// Names a cursor until the list changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) form: FormId,
    pub(crate) index: u32,
}

/// The cursors of a channel.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    lists: Vec<(FormId, Vec<Cursor>)>,
}

impl Cursors {
    /// Adds a cursor.
    pub(crate) fn add(&mut self, form: FormId, cursor: Cursor) -> Slot {
        let list = match self.lists.iter().position(|(id, _)| *id == form) {
            Some(list) => list,
            None => {
                self.lists.push((form, Vec::new()));
                self.lists.len() - 1
            }
        };
        let list = &mut self.lists[list].1;
        list.push(cursor);
        // A node has far fewer than 2^32 connections.
        Slot {
            form,
            index: u32::try_from(list.len() - 1).unwrap_or(u32::MAX),
        }
    }

    /// Removes a cursor. The last one of its list takes its place: returns that one's connection, whose slot changes.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<u32> {
        let list = self.list_mut(slot.form)?;
        let index = slot.index as usize;
        if index >= list.len() {
            return None;
        }
        list.swap_remove(index);
        list.get(index).map(|moved| moved.conn)
    }

    /// The cursor in a slot.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Cursor> {
        self.list_mut(slot.form)?.get_mut(slot.index as usize)
    }

    /// All lists.
    pub(crate) fn lists_mut(&mut self) -> impl Iterator<Item = (FormId, &mut Vec<Cursor>)> {
        self.lists.iter_mut().map(|(form, list)| (*form, list))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.iter().all(|(_, list)| list.is_empty())
    }

    fn list_mut(&mut self, form: FormId) -> Option<&mut Vec<Cursor>> {
        self.lists
            .iter_mut()
            .find(|(id, _)| *id == form)
            .map(|(_, list)| list)
    }
}
