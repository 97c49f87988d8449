//! Tables as structs: one declaration is both the type of the values and the list of keys.

use super::key::Key;

/// A struct whose fields are keys of a table.
pub trait Keys {
    const KEYS: &'static [Key];
}

/// All keys of several lists, in order. `N` is their number.
///
/// # Panics
/// At compile time for another `N`.
pub const fn join<const N: usize>(lists: &[&[Key]]) -> [Key; N] {
    let mut all = [super::key::switch(); N];
    let (mut n, mut list) = (0, 0);
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            all[n] = lists[list][i];
            (n, i) = (n + 1, i + 1);
        }
        list += 1;
    }
    assert!(n == N);
    all
}

/// Declares a struct of settings: `field: Type = key` per key, with its meaning as doc comment; after a `;` blocks of
/// keys declared by other structs. Serde and [`Keys`] follow. A key that older `resolved.toml` files lack has
/// `#[serde(default)]` behind its meaning.
#[macro_export]
macro_rules! keys {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[doc = $help:literal])* $(#[serde($serde:meta)])? $field:ident : $ty:ty = $key:expr),* $(,)?
        $(; $($block:ident : $of:ty),+ $(,)?)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize)]
        $vis struct $name {
            $($(#[doc = $help])* $(#[serde($serde)])? pub $field: $ty,)*
            $($(#[serde(flatten)] pub $block: $of,)+)?
        }

        impl $crate::keys::Keys for $name {
            const KEYS: &'static [$crate::keys::Key] = {
                const LISTS: &[&[$crate::keys::Key]] = &[
                    &[$($key.named(stringify!($field)).helped(concat!($($help),*))),*],
                    $($(<$of as $crate::keys::Keys>::KEYS),+)?
                ];
                const N: usize = $crate::keys::count(LISTS);
                const ALL: [$crate::keys::Key; N] = $crate::keys::join(LISTS);
                &ALL
            };
        }
    };
}

/// Number of keys of several lists.
pub const fn count(lists: &[&[Key]]) -> usize {
    let (mut n, mut list) = (0, 0);
    while list < lists.len() {
        n += lists[list].len();
        list += 1;
    }
    n
}
