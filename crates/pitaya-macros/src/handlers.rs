//! The expansion of `#[handlers]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, FnArg, ImplItem, ImplItemFn, ItemImpl, Path, ReceiverKind, ReturnType, Signature, Type,
    ext::IdentExt as _, parse_quote, spanned::Spanned as _,
};

use crate::options::{BlockOptions, MethodOptions};

pub(crate) fn expand(options: &BlockOptions, mut item: ItemImpl) -> syn::Result<TokenStream> {
    if let Some((path, _)) = &item.trait_ {
        return Err(syn::Error::new(path.span(), "`#[handlers]` goes on an inherent impl block"));
    }
    let krate: Path = options.krate.clone().unwrap_or_else(|| parse_quote!(::pitaya));
    let mut calls = Vec::new();
    let mut problems: Option<syn::Error> = None;
    for method in &mut item.items {
        let ImplItem::Fn(method) = method else { continue };
        match expand_method(options, &krate, method) {
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
        return Err(syn::Error::new(item.self_ty.span(), "no method is marked `#[request]` or `#[notify]`"));
    }
    let name = match &options.name {
        Some(name) => name.clone(),
        None => type_name(&item.self_ty)?,
    };
    let (self_ty, (generics, _, bounds)) = (&item.self_ty, item.generics.split_for_impl());
    Ok(quote! {
        #item

        impl #generics #krate::Handlers for #self_ty #bounds {
            fn into_component(self: #krate::__private::Arc<Self>) -> #krate::Component {
                #krate::Component::builder(#name, self) #(#calls)* .build()
            }
        }
    })
}

/// The call that registers a method, if it is marked.
fn expand_method(block: &BlockOptions, krate: &Path, method: &mut ImplItemFn) -> syn::Result<Option<TokenStream>> {
    let is_mark = |attribute: &Attribute| attribute.path().is_ident("request") || attribute.path().is_ident("notify");
    let Some(position) = method.attrs.iter().position(is_mark) else { return Ok(None) };
    let mark = method.attrs.remove(position);
    if let Some(second) = method.attrs.iter().find(|attribute| is_mark(attribute)) {
        return Err(syn::Error::new(second.span(), "a handler is either a request or a notify"));
    }
    let options = MethodOptions::of(&mark)?;
    let signature = &method.sig;
    check_signature(signature)?;

    let span = signature.ident.span();
    let kind = if mark.path().is_ident("request") { format_ident!("Request") } else { format_ident!("Notify") };
    let wire_name = options.rename.clone().unwrap_or_else(|| {
        let name = signature.ident.unraw().to_string();
        block.rename_all.map_or_else(|| name.clone(), |rule| rule.apply(&name))
    });
    let handler_options = handler_options(krate, block.ordered || options.ordered, options.spawn);
    let arguments = Arguments::of(signature);
    let (needs, extractions, call) =
        (arguments.needs(krate, &signature.output), arguments.extractions(krate), arguments.call(signature));
    let reply_span = match &signature.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => span,
    };
    let reply = quote_spanned! {reply_span=> #krate::__private::reply(returned) };
    Ok(Some(quote_spanned! {span=>
        .options(#handler_options)
        .raw(
            #krate::HandlerKind::#kind,
            #wire_name,
            |needs, this| { let _ = (&needs, this); #needs },
            |this, mut request| #krate::__private::Box::pin(async move {
                let _ = (&mut request, &this);
                #extractions
                ::core::mem::drop(request);
                let returned = #call.await;
                #reply
            }),
        )
    }))
}

fn check_signature(signature: &Signature) -> syn::Result<()> {
    if signature.asyncness.is_none() {
        return Err(syn::Error::new(signature.fn_token.span(), "a handler is an `async fn`"));
    }
    if let Some(generic) = signature.generics.type_params().next() {
        return Err(syn::Error::new(generic.span(), "a handler has no type parameters of its own"));
    }
    let Some(receiver) = signature.receiver() else { return Ok(()) };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, Some(_)) => Err(syn::Error::new(
            receiver.span(),
            "handlers of one component run at the same time: take `&self`, and keep what changes in a mutex",
        )),
        ReceiverKind::Reference(_, _, None) | ReceiverKind::Typed(..) => Ok(()),
        _ => Err(syn::Error::new(receiver.span(), "a handler takes `&self` or `self: Arc<Self>`")),
    }
}

fn handler_options(krate: &Path, ordered: bool, spawn: bool) -> TokenStream {
    let ordered = ordered.then(|| quote!(.ordered()));
    let spawn = spawn.then(|| quote!(.spawn()));
    quote! { <#krate::HandlerOptions as ::core::default::Default>::default() #ordered #spawn }
}

/// The arguments of a handler but the receiver.
struct Arguments {
    types: Vec<Type>,
    names: Vec<syn::Ident>,
}

impl Arguments {
    fn of(signature: &Signature) -> Self {
        let typed = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some((*argument.ty).clone()),
            FnArg::Receiver(_) => None,
        });
        let types: Vec<_> = typed.collect();
        let names = (0..types.len()).map(|index| format_ident!("argument_{index}")).collect();
        Self { types, names }
    }

    /// Each extraction has the span of the argument's type, so that a type that is no extractor is reported there.
    fn extractions(&self, krate: &Path) -> TokenStream {
        let last = self.types.len().saturating_sub(1);
        let each = self.types.iter().zip(&self.names).enumerate().map(|(index, (ty, name))| {
            let function = format_ident!("{}", if index == last { "last" } else { "part" }, span = ty.span());
            quote_spanned! {ty.span()=>
                let #name = #krate::__private::#function::<#ty, _>(&mut request, &this).await?;
            }
        });
        each.collect()
    }

    fn needs(&self, krate: &Path, output: &ReturnType) -> TokenStream {
        let arguments = self.types.iter().map(|ty| {
            quote_spanned! {ty.span()=> #krate::__private::needs::<#ty, _>(needs, this); }
        });
        let output = match output {
            ReturnType::Type(_, ty) if !matches!(**ty, Type::ImplTrait(_)) => {
                Some(quote_spanned! {ty.span()=> #krate::__private::reply_needs::<#ty>(needs); })
            }
            _ => None,
        };
        quote! { #(#arguments)* #output }
    }

    fn call(&self, signature: &Signature) -> TokenStream {
        let (method, names) = (&signature.ident, &self.names);
        match signature.receiver().map(|receiver| &receiver.kind) {
            Some(ReceiverKind::Reference(..)) => quote! { Self::#method(&this, #(#names),*) },
            Some(_) => quote! { Self::#method(this, #(#names),*) },
            None => quote! { Self::#method(#(#names),*) },
        }
    }
}

/// The default name of a component: its type's, without generics and path.
fn type_name(ty: &Type) -> syn::Result<String> {
    if let Type::Path(path) = ty
        && let Some(segment) = path.path.segments.last()
    {
        return Ok(segment.ident.to_string());
    }
    Err(syn::Error::new(ty.span(), "this type has no name: write `#[handlers(name = \"..\")]`"))
}
