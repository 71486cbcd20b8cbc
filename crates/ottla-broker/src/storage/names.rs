//! How the files of groups and transactional ids are called, whose names may hold any characters, and may be longer than a
//! file's name can be.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The names of the files of one folder.
#[derive(Debug, Default)]
pub(super) struct FileNames {
    /// Of ids that are too long to be spelled out: each has a number instead, and its file says which id that is.
    long: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    by_id: HashMap<String, u64>,
    /// No file has this number or a larger one.
    next: u64,
}

impl FileNames {
    /// What the file of an id is called, without its ending.
    pub(super) fn of(&self, id: &str) -> String {
        if id.len() <= SPELLED_LEN_MAX {
            return id.bytes().map(|byte| format!("{byte:02x}")).collect();
        }
        let numbers = &mut *self.long.lock();
        let number = *numbers.by_id.entry(id.to_owned()).or_insert_with(|| {
            numbers.next += 1;
            numbers.next - 1
        });
        format!("{NUMBERED}{number}")
    }

    /// Takes note of a file that was found, which says that it is of `id`. Whether it can be.
    pub(super) fn note(&self, id: &str, name: &str) -> bool {
        let Some(number) = name.strip_prefix(NUMBERED) else {
            return id.len() <= SPELLED_LEN_MAX && self.of(id) == name;
        };
        let Ok(number) = number.parse::<u64>() else {
            return false;
        };
        let numbers = &mut *self.long.lock();
        let Some(behind) = number.checked_add(1) else {
            return false;
        };
        numbers.next = numbers.next.max(behind);
        let is_another = id.len() > SPELLED_LEN_MAX && !numbers.by_id.contains_key(id);
        if is_another {
            numbers.by_id.insert(id.to_owned(), number);
        }
        is_another
    }

    /// The file of an id is gone.
    pub(super) fn forget(&self, id: &str) {
        self.long.lock().by_id.remove(id);
    }
}

/// Twice as many hexadecimal digits and an ending fit into a file's name.
const SPELLED_LEN_MAX: usize = 120;

/// What the names begin with that are numbers.
const NUMBERED: &str = "long-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_have_a_number_for_as_long_as_their_file_is_there() {
        let names = FileNames::default();
        let (short, long, other) = ("g".repeat(120), "g".repeat(121), "h".repeat(30_000));
        assert_eq!(names.of(&short), "67".repeat(120));
        assert_eq!([names.of(&long), names.of(&other)], ["long-0", "long-1"]);
        assert_eq!(names.of(&long), "long-0");
        names.forget(&long);
        assert_eq!(
            names.of(&long),
            "long-2",
            "the file of number 0 may be there still"
        );
    }

    #[test]
    fn a_file_is_only_believed_under_its_name() {
        let names = FileNames::default();
        let (long, other) = ("g".repeat(121), "h".repeat(121));
        assert!(names.note("g", "67") && !names.note("g", "68") && !names.note("g", "long-1"));
        assert!(!names.note(&long, "67") && !names.note(&long, "long-x"));
        assert!(!names.note(&long, "long-18446744073709551615"));
        assert!(names.note(&long, "long-7"));
        assert!(!names.note(&long, "long-8"), "in two files");
        assert_eq!([names.of(&long), names.of(&other)], ["long-7", "long-9"]);
    }
}
