//! Closed choices: enums whose values have names in files, options and help.

/// A value from a closed list, by name.
pub trait Choice: Copy + Sized + 'static {
    const ALL: &'static [Self];
    /// In the order of [`ALL`](Self::ALL).
    const NAMES: &'static [&'static str];
}

/// Declares an enum with a name per value: [`Choice`], `FromStr`, `Display` and serde follow from the names.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$doc:meta])* $value:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $name { $($(#[$doc])* #[serde(rename = $text)] $value),+ }

        impl $crate::keys::Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];
            const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl $name {
            /// The name in files, options and messages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$value),)+
                    _ => Err(format!("expected {}", [$($text),+].join(", "))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
