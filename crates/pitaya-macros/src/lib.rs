//! The attribute macro of Pitaya: `#[handlers]`.
//!
//! It expands to calls of the public `ComponentBuilder`, which could be written by hand, and takes care that each mistake
//! is reported at the token that is wrong. Use it through the `pitaya` crate, which documents it.

mod handlers;
mod options;
mod rename;

use proc_macro::TokenStream;
use syn::{ItemImpl, parse_macro_input};

/// Makes the methods of an impl block handlers.
///
/// Methods marked `#[request]` answer, methods marked `#[notify]` do not; others stay ordinary methods. Their arguments
/// are extractors: any that only look, and as the last one at most one that takes the payload.
///
/// On the impl block: `name = "room"` (the service part of the route; default: the name of the type),
/// `rename_all = ".."` for the methods (`lowercase`, `UPPERCASE`, `camelCase`, `PascalCase`, `snake_case`,
/// `SCREAMING_SNAKE_CASE`, `kebab-case`), `ordered` (see below) for all of them, and `crate = path` where the `pitaya`
/// crate has another name.
///
/// On a method: `rename = ".."`, `ordered` (the session's next message waits for the end of this one, not only until it
/// suspends), `spawn` (run as a task of its own, for work that keeps a processor busy).
#[proc_macro_attribute]
pub fn handlers(attr: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(attr with options::BlockOptions::parse);
    let item = parse_macro_input!(item as ItemImpl);
    handlers::expand(&options, item).unwrap_or_else(syn::Error::into_compile_error).into()
}
