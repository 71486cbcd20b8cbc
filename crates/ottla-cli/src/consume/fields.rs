//! One record as the formats see it: borrowed, and free of where it came from.

/// What can be printed of a record.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since 1970; -1 when the record has none.
    pub(crate) timestamp: i64,
    /// Whether the broker set the timestamp, rather than the producer.
    pub(crate) log_append_time: bool,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// In order, with repeated names; names are text by custom only.
    pub(crate) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}
