//! The attribute macros of Pitaya: `#[handlers]` and `#[remotes]`.
//!
//! They expand to calls of the public `ComponentBuilder`, which could be written by hand, and take care that each mistake
//! is reported at the token that is wrong. Use them through the `pitaya` crate, which documents them.

mod block;
mod handlers;
mod options;
mod rename;

use proc_macro::TokenStream;
use syn::{
    ItemImpl,
    parse::{ParseStream, Parser as _},
    parse_macro_input,
};

use block::Block;

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
    expand(Block::Handlers, attr, item)
}

/// Makes the methods of an impl block remotes: what other servers may call, and clients may not.
///
/// Methods marked `#[remote]` are remotes; others stay ordinary methods. Their arguments are extractors as those of
/// handlers, but there is no session, and the payload is `Protobuf<T>`, whatever the serializer of the app is; so is the
/// result, or it is nothing, or a `Result` of these. `build()` refuses other formats.
///
/// On the impl block: `name = "room"` (the service part of the route; default: the name of the type), `rename_all = ".."`
/// and `crate = path`, as for `#[handlers]`. On a method: `rename = ".."`.
///
/// A type may have both attributes, on two impl blocks. Registered as the same `Arc`, it starts and stops once.
#[proc_macro_attribute]
pub fn remotes(attr: TokenStream, item: TokenStream) -> TokenStream {
    expand(Block::Remotes, attr, item)
}

fn expand(block: Block, attr: TokenStream, item: TokenStream) -> TokenStream {
    let parser = |input: ParseStream<'_>| options::BlockOptions::parse(block, input);
    let options = match parser.parse(attr) {
        Ok(options) => options,
        Err(error) => return error.into_compile_error().into(),
    };
    let item = parse_macro_input!(item as ItemImpl);
    handlers::expand(block, &options, item).unwrap_or_else(syn::Error::into_compile_error).into()
}
