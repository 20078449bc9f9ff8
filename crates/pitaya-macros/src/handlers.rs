//! The expansion of `#[handlers]` and `#[remotes]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::{
    Attribute, FnArg, GenericParam, Ident, ImplItem, ImplItemFn, ItemImpl, Path, ReceiverKind, ReturnType, Signature,
    Type, ext::IdentExt as _, parse_quote, spanned::Spanned as _,
};

use crate::{
    block::Block,
    options::{BlockOptions, MethodOptions},
};

pub(crate) fn expand(block: Block, options: &BlockOptions, mut item: ItemImpl) -> syn::Result<TokenStream> {
    if let Some((path, _)) = &item.trait_ {
        let text = format!("`#[{}]` goes on an inherent impl block", block.attribute());
        return Err(syn::Error::new(path.span(), text));
    }
    let krate: Path = options.krate.clone().unwrap_or_else(|| parse_quote!(::pitaya));
    let mut calls = Vec::new();
    let mut problems: Option<syn::Error> = None;
    for method in &mut item.items {
        let ImplItem::Fn(method) = method else { continue };
        match expand_method(block, options, &krate, &item.self_ty, method) {
            Ok(call) => calls.extend(call),
            // All wrong methods are reported at once.
            Err(problem) => match &mut problems {
                Some(problems) => problems.combine(problem),
                None => problems = Some(problem),
            },
        }
    }
    if let Some(problems) = problems {
        return Err(problems);
    }
    if calls.is_empty() {
        let marks = block.marks().map(|mark| format!("`#[{mark}]`")).collect::<Vec<_>>().join(" or ");
        return Err(syn::Error::new(item.self_ty.span(), format!("no method is marked {marks}")));
    }
    let name = match &options.name {
        Some(name) => name.clone(),
        None => type_name(block, &item.self_ty)?,
    };
    let (self_ty, (generics, _, bounds)) = (&item.self_ty, item.generics.split_for_impl());
    let builder = {
        let krate = located(&krate, self_ty.span());
        quote_spanned! {self_ty.span()=> #krate::Component::builder }
    };
    let variable = builder_variable();
    let (trait_name, into_component) = block.conversion();
    Ok(quote! {
        #item

        impl #generics #krate::#trait_name for #self_ty #bounds {
            fn #into_component(self: #krate::__private::Arc<Self>) -> #krate::Component {
                let #variable = #builder(#name, self);
                #(#calls)*
                let #variable = {
                    use #krate::__private::{Living as _, Plain as _};
                    (&#krate::__private::Probe::<Self>::new()).live(#variable)
                };
                #variable.build()
            }
        }
    })
}

/// The statement that registers a method, if it is marked. A method that is compiled under a condition is registered under
/// the same one.
fn expand_method(
    block: Block,
    options_of_all: &BlockOptions,
    krate: &Path,
    self_ty: &Type,
    method: &mut ImplItemFn,
) -> syn::Result<Option<TokenStream>> {
    let is_mark = |attribute: &Attribute| block.marks().any(|mark| attribute.path().is_ident(mark));
    let Some(position) = method.attrs.iter().position(is_mark) else { return Ok(None) };
    let mark = method.attrs.remove(position);
    if let Some(second) = method.attrs.iter().find(|attribute| is_mark(attribute)) {
        let text = match block {
            Block::Handlers => "a handler is either a request or a notify",
            Block::Remotes => "it is marked already",
        };
        return Err(syn::Error::new_spanned(second, text));
    }
    let options = MethodOptions::of(block, &mark)?;
    let signature = &method.sig;
    check_signature(block, signature)?;

    let kind = if mark.path().is_ident("notify") { format_ident!("Notify") } else { format_ident!("Request") };
    let wire_name = options.rename.clone().unwrap_or_else(|| {
        let name = signature.ident.unraw().to_string();
        options_of_all.rename_all.map_or_else(|| name.clone(), |rule| rule.apply(&name))
    });
    let handler_options = handler_options(krate, options_of_all.ordered || options.ordered, options.spawn);
    let handler = Handler::of(krate, signature);
    let (needs, call) = (handler.needs(), handler.call());
    // A type that cannot be a component is reported at its name.
    let span = self_ty.span();
    let krate = located(krate, span);
    let builder = builder_variable();
    let conditions = method.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    Ok(Some(quote_spanned! {span=>
        #(#conditions)*
        let #builder = #builder
            .options(#handler_options)
            .raw(#krate::HandlerKind::#kind, #wire_name, #needs, #call);
    }))
}

/// The variable that the statements build on; no other code sees it.
fn builder_variable() -> Ident {
    Ident::new("builder", Span::mixed_site())
}

fn check_signature(block: Block, signature: &Signature) -> syn::Result<()> {
    let noun = block.noun();
    if signature.asyncness.is_none() {
        return Err(syn::Error::new(signature.fn_token.span(), format!("a {noun} is an `async fn`")));
    }
    let is_lifetime = |generic: &&GenericParam| matches!(generic, GenericParam::Lifetime(_));
    if let Some(generic) = signature.generics.params.iter().find(|generic| !is_lifetime(generic)) {
        return Err(syn::Error::new_spanned(generic, format!("a {noun} has no type parameters of its own")));
    }
    let Some(receiver) = signature.receiver() else { return Ok(()) };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, Some(_)) => Err(syn::Error::new_spanned(
            receiver,
            format!("{noun}s of one component run at the same time: take `&self`, and keep what changes in a mutex"),
        )),
        ReceiverKind::Reference(_, _, None) | ReceiverKind::Typed(..) => Ok(()),
        _ => Err(syn::Error::new_spanned(receiver, format!("a {noun} takes `&self` or `self: Arc<Self>`"))),
    }
}

fn handler_options(krate: &Path, ordered: bool, spawn: bool) -> TokenStream {
    let ordered = ordered.then(|| quote!(.ordered()));
    let spawn = spawn.then(|| quote!(.spawn()));
    quote! { <#krate::HandlerOptions as ::core::default::Default>::default() #ordered #spawn }
}

/// Where a type begins and where it ends. Code from the one to the other is reported as the whole type.
fn ends(ty: &Type) -> (Span, Span) {
    let mut spans = ty.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}

/// A path whose tokens all lie at `span`: code that does not begin and end in the same source is reported at the attribute.
fn located(path: &Path, span: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    tokens.collect()
}

/// A method that is to become a handler or a remote.
///
/// What is generated for a type has the type's span, so that a wrong type is reported there. The variables have names
/// that no other code sees, wherever the method's tokens come from.
struct Handler<'a> {
    krate: &'a Path,
    signature: &'a Signature,
    arguments: Vec<(Ident, &'a Type)>,
    this: Ident,
    request: Ident,
}

impl<'a> Handler<'a> {
    fn of(krate: &'a Path, signature: &'a Signature) -> Self {
        let types = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(&*argument.ty),
            FnArg::Receiver(_) => None,
        });
        let name = |index| format_ident!("argument_{index}", span = Span::mixed_site());
        let arguments = types.enumerate().map(|(index, ty)| (name(index), ty)).collect();
        let variable = |name| Ident::new(name, Span::mixed_site());
        Self { krate, signature, arguments, this: variable("this"), request: variable("request") }
    }

    /// The function that records what the arguments and the result need.
    fn needs(&self) -> TokenStream {
        let (this, needs) = (&self.this, Ident::new("needs", Span::mixed_site()));
        let last_index = self.arguments.len().saturating_sub(1);
        let arguments = self.arguments.iter().enumerate().map(|(index, (_, ty))| {
            let (first, last) = ends(ty);
            let krate = located(self.krate, first);
            let function = format_ident!("{}", if index == last_index { "last" } else { "part" }, span = first);
            let function = quote_spanned! {first=> #krate::__private::#function::<#ty, Self> };
            quote_spanned! {last=> #function(#needs, #this); }
        });
        let output = self.output().map(|ty| {
            let (first, last) = ends(ty);
            let krate = located(self.krate, first);
            let function = quote_spanned! {first=> #krate::__private::reply_needs::<#ty> };
            quote_spanned! {last=> #function(#needs); }
        });
        quote! { |#needs, #this| { let _ = (&#needs, #this); #(#arguments)* #output } }
    }

    /// The function that extracts the arguments and calls the method.
    fn call(&self) -> TokenStream {
        let (this, request) = (&self.this, &self.request);
        let extractions = self.arguments.iter().map(|(name, ty)| {
            let (first, last) = ends(ty);
            let krate = located(self.krate, first);
            let function = quote_spanned! {first=> <#ty as #krate::FromRequest<Self>>::from_request };
            let call = quote_spanned! {last=> #function(&mut #request, &#this) };
            quote_spanned! {first=> let #name = #call.await?; }
        });
        let (method, names) = (&self.signature.ident, self.arguments.iter().map(|(name, _)| name));
        let receiver = match self.signature.receiver().map(|receiver| &receiver.kind) {
            Some(ReceiverKind::Typed(_, ty)) => {
                // Another type than `Arc<Self>` is reported there.
                let this = Ident::new("this", Span::mixed_site().located_at(ty.span()));
                let krate = located(self.krate, ty.span());
                Some(quote_spanned! {ty.span()=> #krate::__private::Arc::clone(&#this), })
            }
            Some(_) => Some(quote! { &#this, }),
            None => None,
        };
        let span = self.signature.ident.span();
        let krate = located(self.krate, span);
        let returned = Ident::new("returned", Span::mixed_site().located_at(span));
        let reply = match self.output() {
            Some(ty) => {
                let (first, last) = ends(ty);
                let krate = located(self.krate, first);
                let function = quote_spanned! {first=> #krate::__private::reply::<#ty> };
                quote_spanned! {last=> #function(#returned) }
            }
            None => quote_spanned! {span=> #krate::__private::reply(#returned) },
        };
        quote_spanned! {span=>
            |#this, mut #request| #krate::__private::Box::pin(async move {
                let _ = (&mut #request, &#this);
                #(#extractions)*
                ::core::mem::drop(#request);
                let #returned = Self::#method(#receiver #(#names),*).await;
                #reply
            })
        }
    }

    /// The type of the result, where it has a name.
    fn output(&self) -> Option<&'a Type> {
        match &self.signature.output {
            ReturnType::Type(_, ty) if !matches!(**ty, Type::ImplTrait(_)) => Some(ty),
            ReturnType::Type(..) | ReturnType::Default => None,
        }
    }
}

/// The default name of a component: its type's, without generics and path.
fn type_name(block: Block, ty: &Type) -> syn::Result<String> {
    if let Type::Path(path) = ty
        && let Some(segment) = path.path.segments.last()
    {
        return Ok(segment.ident.to_string());
    }
    let text = format!("this type has no name: write `#[{}(name = \"..\")]`", block.attribute());
    Err(syn::Error::new(ty.span(), text))
}
