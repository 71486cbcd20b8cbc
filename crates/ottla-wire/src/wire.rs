//! How every type of the protocol is written and read; what the definitions in [`messages`](crate::messages) expand to.
//!
//! The derive macro turns a definition into an impl of [`Struct`], which only says which field exists at which version; all
//! else is here, once.

use std::fmt;

use bytes::Bytes;

pub use crate::tagged::KnownTags;
use crate::{
    DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, ErrorCode, Reader, Str, Uuid,
    Writer,
};

/// A message's version, and whether that version is flexible (compact lengths and tagged fields).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    number: i16,
    flexible: bool,
}

impl Version {
    /// A version of some message.
    pub const fn new(number: i16, flexible: bool) -> Self {
        Self { number, flexible }
    }

    /// The number.
    #[inline]
    pub const fn number(self) -> i16 {
        self.number
    }

    /// Whether lengths are compact and tagged fields exist.
    #[inline]
    pub const fn is_flexible(self) -> bool {
        self.flexible
    }

    /// Whether it lies in `min..=max`.
    #[inline]
    pub const fn within(self, min: i16, max: i16) -> bool {
        self.number >= min && self.number <= max
    }
}

/// A type that fields can have.
pub trait Wire: Default {
    /// Appends the value.
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError>;

    /// Replaces the value by one read.
    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError>;

    /// Fewest bytes any value takes; bounds what an array's count can make us allocate.
    fn min_size(v: Version) -> usize;
}

/// A structure of fields; implemented by the derive macro.
pub trait Struct: Default {
    /// Appends every field this version has. `at` follows the field being written, to name it in an error.
    fn write_fields(
        &self,
        w: &mut Writer,
        v: Version,
        at: &mut &'static str,
    ) -> Result<(), EncodeError>;

    /// Reads every field this version has; the others keep their default.
    fn read_fields(
        &mut self,
        r: &mut Reader,
        v: Version,
        at: &mut &'static str,
    ) -> Result<(), DecodeError>;

    /// See [`Wire::min_size`].
    fn min_size(v: Version) -> usize;
}

impl<T: Struct> Wire for T {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        let mut at = "";
        self.write_fields(w, v, &mut at)
            .map_err(|error| error.in_field(at))
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        let mut at = "";
        self.read_fields(r, v, &mut at)
            .map_err(|error| error.in_field(at))
    }

    fn min_size(v: Version) -> usize {
        <T as Struct>::min_size(v)
    }
}

/// A structure that may be null: one byte, -1 or 1, before it.
impl<T: Struct> Wire for Option<T> {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        match self {
            None => {
                w.i8(-1);
                Ok(())
            }
            Some(value) => {
                w.i8(1);
                value.write(w, v)
            }
        }
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        let position = r.position();
        match r.i8()? {
            -1 => *self = None,
            1 => self.insert(T::default()).read(r, v)?,
            other => {
                return Err(DecodeError::new(
                    DecodeErrorKind::NullMarker(other),
                    position,
                ));
            }
        }
        Ok(())
    }

    fn min_size(_: Version) -> usize {
        1
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        w.count(Some(self.len()), v.flexible)?;
        write_elements(self, w, v)
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        let count = not_null(r, |r| r.count(v.flexible))?;
        *self = read_elements(count, r, v)?;
        Ok(())
    }

    fn min_size(v: Version) -> usize {
        length_size(v, 4)
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        w.count(self.as_ref().map(Vec::len), v.flexible)?;
        write_elements(self.as_deref().unwrap_or_default(), w, v)
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        *self = match r.count(v.flexible)? {
            Some(count) => Some(read_elements(count, r, v)?),
            None => None,
        };
        Ok(())
    }

    fn min_size(v: Version) -> usize {
        length_size(v, 4)
    }
}

fn write_elements<T: Wire>(elements: &[T], w: &mut Writer, v: Version) -> Result<(), EncodeError> {
    for (i, element) in elements.iter().enumerate() {
        element.write(w, v).map_err(|error| error.in_element(i))?;
    }
    Ok(())
}

fn read_elements<T: Wire>(count: usize, r: &mut Reader, v: Version) -> Result<Vec<T>, DecodeError> {
    r.check_count(count, T::min_size(v))?;
    let mut elements = Vec::with_capacity(count);
    for i in 0..count {
        let mut element = T::default();
        element.read(r, v).map_err(|error| error.in_element(i))?;
        elements.push(element);
    }
    Ok(elements)
}

impl Wire for Str {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        w.string(Some(self), v.flexible)
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        *self = not_null(r, |r| r.string(v.flexible))?;
        Ok(())
    }

    fn min_size(v: Version) -> usize {
        length_size(v, 2)
    }
}

impl Wire for Option<Str> {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        w.string(self.as_deref(), v.flexible)
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        *self = r.string(v.flexible)?;
        Ok(())
    }

    fn min_size(v: Version) -> usize {
        length_size(v, 2)
    }
}

impl Wire for Bytes {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        w.bytes(Some(self), v.flexible)
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        *self = not_null(r, |r| r.bytes(v.flexible))?;
        Ok(())
    }

    fn min_size(v: Version) -> usize {
        length_size(v, 4)
    }
}

impl Wire for Option<Bytes> {
    fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        w.bytes(self.as_ref(), v.flexible)
    }

    fn read(&mut self, r: &mut Reader, v: Version) -> Result<(), DecodeError> {
        *self = r.bytes(v.flexible)?;
        Ok(())
    }

    fn min_size(v: Version) -> usize {
        length_size(v, 4)
    }
}

macro_rules! fixed_size {
    ($($ty:ty = $method:ident),* $(,)?) => {$(
        impl Wire for $ty {
            #[inline]
            fn write(&self, w: &mut Writer, _: Version) -> Result<(), EncodeError> {
                w.$method(*self);
                Ok(())
            }

            #[inline]
            fn read(&mut self, r: &mut Reader, _: Version) -> Result<(), DecodeError> {
                *self = r.$method()?;
                Ok(())
            }

            #[inline]
            fn min_size(_: Version) -> usize {
                size_of::<$ty>()
            }
        }
    )*};
}

fixed_size! {
    bool = bool,
    i8 = i8,
    i16 = i16,
    u16 = u16,
    i32 = i32,
    u32 = u32,
    i64 = i64,
    f64 = f64,
    Uuid = uuid,
}

impl Wire for ErrorCode {
    #[inline]
    fn write(&self, w: &mut Writer, _: Version) -> Result<(), EncodeError> {
        w.i16(self.0);
        Ok(())
    }

    #[inline]
    fn read(&mut self, r: &mut Reader, _: Version) -> Result<(), DecodeError> {
        self.0 = r.i16()?;
        Ok(())
    }

    #[inline]
    fn min_size(_: Version) -> usize {
        2
    }
}

/// The error of a field that holds something its version cannot carry.
#[cold]
pub fn unsupported_field() -> EncodeError {
    EncodeError::new(EncodeErrorKind::FieldNotSupported)
}

/// The error of a field that is `None` at a version without null.
#[cold]
pub fn null_field() -> EncodeError {
    EncodeError::new(EncodeErrorKind::NullNotAllowed)
}

/// The error of a null read at a version without null.
#[cold]
pub fn unexpected_null(r: &Reader) -> DecodeError {
    r.error(DecodeErrorKind::UnexpectedNull)
}

fn not_null<T>(
    r: &mut Reader,
    read: impl FnOnce(&mut Reader) -> Result<Option<T>, DecodeError>,
) -> Result<T, DecodeError> {
    let position = r.position();
    read(r)?.ok_or_else(|| DecodeError::new(DecodeErrorKind::UnexpectedNull, position))
}

fn length_size(v: Version, classic: usize) -> usize {
    if v.flexible { 1 } else { classic }
}

/// Shown by `Debug` in place of a secret.
#[derive(Clone, Copy)]
pub struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Shown by `Debug` in place of a byte field, which may be a megabyte of records or a password.
#[derive(Clone, Copy)]
pub struct Length(usize);

impl Length {
    /// The length of `bytes`.
    pub fn of(bytes: &Bytes) -> Self {
        Self(bytes.len())
    }
}

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0)
    }
}
