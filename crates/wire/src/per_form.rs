//! A cell for each wire form. Most runs are encoded in one or two of the first forms, so room for the others is made when
//! one of them is first asked for.

use std::{array, sync::OnceLock};

use crate::{FORMS_MAX, FormId};

/// Forms whose cells are always there.
const FIRST: usize = 8;

/// What has been made for some of the wire forms, each once.
pub struct PerForm<T> {
    first: [OnceLock<T>; FIRST],
    others: OnceLock<Box<[OnceLock<T>; FORMS_MAX - FIRST]>>,
}

impl<T> Default for PerForm<T> {
    fn default() -> Self {
        Self {
            first: cells(),
            others: OnceLock::new(),
        }
    }
}

impl<T> PerForm<T> {
    /// What there is for a form, made by the first who asks. The number of the form is less than [`FORMS_MAX`].
    pub fn get_or_init(&self, form: FormId, make: impl FnOnce() -> T) -> &T {
        let index = usize::from(form.0);
        let cell = match self.first.get(index) {
            Some(cell) => cell,
            None => &self.others.get_or_init(|| Box::new(cells()))[index - FIRST],
        };
        cell.get_or_init(make)
    }

    /// All that has been made.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let others = self.others.get().into_iter().flat_map(|it| it.iter());
        self.first.iter().chain(others).filter_map(OnceLock::get)
    }
}

fn cells<T, const N: usize>() -> [OnceLock<T>; N] {
    array::from_fn(|_| OnceLock::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_a_cell_of_its_own_that_is_filled_once() {
        let cells = PerForm::default();
        let forms = || (0..FORMS_MAX).map(|at| FormId(u8::try_from(at).unwrap()));
        assert_eq!(cells.iter().count(), 0);
        for form in forms() {
            assert_eq!(*cells.get_or_init(form, || form.0), form.0);
        }
        for form in forms() {
            assert_eq!(*cells.get_or_init(form, || 99), form.0);
        }
        let all: Vec<u8> = cells.iter().copied().collect();
        assert_eq!(all, forms().map(|form| form.0).collect::<Vec<_>>());
    }
}
