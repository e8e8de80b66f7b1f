//! One name for several ports, for code that uses exactly these.

/// A trait that is there for whatever implements all of the named ones.
#[macro_export]
#[doc(hidden)]
macro_rules! combined_port {
    ($(#[$doc:meta])* pub trait $name:ident: $first:path $(, $more:path)* $(,)?) => {
        $(#[$doc])*
        pub trait $name: $first $(+ $more)* {}
        impl<T: $first $(+ $more)* + ?Sized> $name for T {}
    };
}
