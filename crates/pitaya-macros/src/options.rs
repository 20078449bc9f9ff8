//! What can be written in the attributes.

use syn::{
    Attribute, LitStr, Path,
    meta::ParseNestedMeta,
    parse::{ParseStream, Parser as _},
};

use crate::{block::Block, rename::RenameRule};

/// The options of `#[handlers(..)]` and `#[remotes(..)]`.
#[derive(Default)]
pub(crate) struct BlockOptions {
    pub(crate) name: Option<String>,
    pub(crate) rename_all: Option<RenameRule>,
    pub(crate) ordered: bool,
    pub(crate) krate: Option<Path>,
}

impl BlockOptions {
    pub(crate) fn parse(block: Block, input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        let parser = syn::meta::parser(|meta| options.take(block, &meta));
        parser.parse2(input.parse()?)?;
        Ok(options)
    }

    fn take(&mut self, block: Block, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        if meta.path.is_ident("name") {
            self.name = Some(not_empty(meta)?);
        } else if meta.path.is_ident("rename_all") {
            let rule: LitStr = meta.value()?.parse()?;
            self.rename_all = Some(RenameRule::parse(&rule)?);
        } else if block == Block::Handlers && meta.path.is_ident("ordered") {
            self.ordered = true;
        } else if meta.path.is_ident("crate") {
            self.krate = Some(meta.value()?.call(Path::parse_mod_style)?);
        } else {
            return Err(meta.error(match block {
                Block::Handlers => "expected `name`, `rename_all`, `ordered` or `crate`",
                Block::Remotes => "expected `name`, `rename_all` or `crate`",
            }));
        }
        Ok(())
    }
}

/// The options of `#[request(..)]`, `#[notify(..)]` and `#[remote(..)]`.
#[derive(Default)]
pub(crate) struct MethodOptions {
    pub(crate) rename: Option<String>,
    pub(crate) ordered: bool,
    pub(crate) spawn: bool,
}

impl MethodOptions {
    pub(crate) fn of(block: Block, attribute: &Attribute) -> syn::Result<Self> {
        let mut options = Self::default();
        if matches!(attribute.meta, syn::Meta::Path(_)) {
            return Ok(options);
        }
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                options.rename = Some(not_empty(&meta)?);
            } else if block == Block::Remotes {
                return Err(meta.error("expected `rename`"));
            } else if meta.path.is_ident("ordered") {
                options.ordered = true;
            } else if meta.path.is_ident("spawn") {
                options.spawn = true;
            } else {
                return Err(meta.error("expected `rename`, `ordered` or `spawn`"));
            }
            Ok(())
        })?;
        Ok(options)
    }
}

fn not_empty(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let text: LitStr = meta.value()?.parse()?;
    let value = text.value();
    if value.trim().is_empty() || value.contains('.') {
        return Err(syn::Error::new(text.span(), "a part of a route: not empty, and without dots"));
    }
    Ok(value)
}
