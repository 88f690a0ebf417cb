//! The cursors of one channel in one shard: one dense list for all that are given the same bytes.

use std::sync::Arc;

use fanfare_wire::{FormId, Seq, TagsFilter};
use slab::Slab;

/// Where one connection stands in one channel: everything up to `seq` is written, or on its way in the connection's
/// own output; or it is not wanted there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) conn: u32,
    pub(crate) seq: Seq,
}

/// Names a cursor until its list changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    list: u32,
    index: u32,
}

/// What the cursors of a list are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diet {
    /// The wire form.
    pub(crate) form: FormId,
    /// Of a form that takes deltas: the next publication is given whole.
    pub(crate) whole: bool,
    /// Which publications; all if absent.
    pub(crate) filter: Option<Arc<TagsFilter>>,
    /// The newest is worth more than all before it, which are left out when there are several.
    pub(crate) newest: bool,
}

impl Diet {
    /// Behind which number those go on that stand at `seq`, the last one that there is being `last`.
    pub(crate) fn after(&self, seq: Seq, last: Seq) -> Seq {
        match self.newest {
            true => seq.max(Seq(last.0.saturating_sub(1))),
            false => seq,
        }
    }
}

/// Cursors that are given the same.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) diet: Diet,
    pub(crate) cursors: Vec<Cursor>,
}

/// The cursors of a channel.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    lists: Slab<List>,
}

impl Cursors {
    /// Adds a cursor.
    pub(crate) fn add(&mut self, diet: &Diet, cursor: Cursor) -> Slot {
        let mut lists = self.lists.iter();
        let known = lists.find(|(_, list)| list.diet == *diet);
        let list = match known.map(|(list, _)| list) {
            Some(list) => list,
            None => self.lists.insert(List {
                diet: diet.clone(),
                cursors: Vec::new(),
            }),
        };
        let cursors = &mut self.lists[list].cursors;
        cursors.push(cursor);
        // A node has far fewer than 2^32 connections.
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Slot {
            list: narrow(list),
            index: narrow(cursors.len() - 1),
        }
    }

    /// Removes a cursor. The last one of its list takes its place: returns that one's connection, whose slot changes.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<u32> {
        let key = slot.list as usize;
        let list = self.lists.get_mut(key)?;
        let index = slot.index as usize;
        if index >= list.cursors.len() {
            return None;
        }
        list.cursors.swap_remove(index);
        let moved = list.cursors.get(index).map(|moved| moved.conn);
        // There is no end of filters, while forms are few and come again.
        if list.cursors.is_empty() && list.diet.filter.is_some() {
            self.lists.remove(key);
        }
        moved
    }

    /// The cursor in a slot.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Cursor> {
        let list = self.lists.get_mut(slot.list as usize)?;
        list.cursors.get_mut(slot.index as usize)
    }

    /// What the cursor in a slot is given.
    pub(crate) fn diet(&self, slot: Slot) -> Option<&Diet> {
        self.lists.get(slot.list as usize).map(|list| &list.diet)
    }

    /// What the cursor in a slot is given, and the cursor.
    pub(crate) fn entry(&mut self, slot: Slot) -> Option<(&Diet, &mut Cursor)> {
        let list = self.lists.get_mut(slot.list as usize)?;
        let cursor = list.cursors.get_mut(slot.index as usize)?;
        Some((&list.diet, cursor))
    }

    /// All lists.
    pub(crate) fn lists_mut(&mut self) -> impl Iterator<Item = &mut List> {
        self.lists.iter_mut().map(|(_, list)| list)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lists.iter().map(|(_, list)| list.cursors.len()).sum()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.iter().all(|(_, list)| list.cursors.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::FilterNode;

    use super::*;

    fn diet(key: Option<&str>) -> Diet {
        let filter = key.map(|key| {
            let node = FilterNode {
                key: key.into(),
                cmp: "ex".into(),
                ..FilterNode::default()
            };
            Arc::new(TagsFilter::compile(&node).unwrap())
        });
        Diet {
            form: FormId(1),
            whole: false,
            filter,
            newest: false,
        }
    }

    #[test]
    fn equal_filters_share_a_list_that_goes_with_its_last_cursor() {
        let mut cursors = Cursors::default();
        let cursor = |conn| Cursor { conn, seq: Seq(1) };
        let [a, b, all] = [diet(Some("a")), diet(Some("b")), diet(None)];
        let slots = [&a, &b, &a, &all].map(|diet| cursors.add(diet, cursor(0)));
        assert_eq!(cursors.add(&diet(Some("a")), cursor(9)).list, slots[0].list);
        let lengths: Vec<_> = cursors.lists_mut().map(|list| list.cursors.len()).collect();
        assert_eq!(lengths, [3, 1, 1]);
        assert_eq!(cursors.remove(slots[0]), Some(9), "which has a new slot");
        assert_eq!(cursors.diet(slots[1]), Some(&b));
        assert_eq!(cursors.remove(slots[1]), None);
        assert_eq!(cursors.diet(slots[1]), None);
        assert_eq!(cursors.diet(slots[2]), Some(&a));
        assert_eq!(cursors.remove(slots[3]), None);
        assert_eq!(cursors.lists_mut().count(), 2, "the list of a form stays");
    }
}
