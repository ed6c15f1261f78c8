//! `#[derive(Shape)]`: reads a structure from a request and writes it into an answer, by AWS's naming rules.
//!
//! A member has three names, all made from its field's name, each of which an attribute may replace:
//!
//! | field                | `name` (awsQuery, JSON) | `request` (EC2)   | `response` (EC2) |
//! |----------------------|-------------------------|-------------------|------------------|
//! | `subnet_id: String`  | `SubnetId`              | `SubnetId`        | `subnetId`       |
//! | `tags: Vec<Tag>`     | `Tags`                  | `Tag` (`Tag.1`)   | `tagSet`         |
//!
//! Field attributes: `#[shape(name = "..", request = "..", response = "..", default, required)]`; `default`: may be
//! left out of a request although it is neither `Option` nor `Vec`; `required`: a list that must not be empty.
//! Structure attribute: `#[shape(unsupported = "A, B")]`, the request names that AWS has and Nephos does not.
//!
//! The generated code is one table of names and one call per member; everything else is in `aws::shape`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, GenericArgument, LitStr, PathArguments, Type};

/// Implements `aws::shape::Shape` for a structure with named fields.
#[proc_macro_derive(Shape, attributes(shape))]
pub fn derive_shape(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// What the attributes of one member say.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    request: Option<String>,
    response: Option<String>,
    default: bool,
    required: bool,
}

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            input,
            "Shape is derived for structures; an enumeration is a String member",
        ));
    };
    let empty = syn::punctuated::Punctuated::new();
    let fields = match &data.fields {
        Fields::Named(fields) => &fields.named,
        Fields::Unit => &empty,
        Fields::Unnamed(_) => return Err(Error::new_spanned(input, "Shape needs named fields")),
    };
    let unsupported = unsupported_names(input)?;
    let (mut rows, mut reads, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for (index, field) in fields.iter().enumerate() {
        let attributes = field_attributes(field)?;
        let ident = field.ident.as_ref();
        rows.push(row(field, &attributes));
        let take = match (attributes.default, attributes.required) {
            (false, false) => quote!(take),
            (true, false) => quote!(take_or_default),
            (false, true) => quote!(take_filled),
            (true, true) => return Err(Error::new_spanned(field, "`default` and `required` contradict")),
        };
        reads.push(quote!(#ident: members.#take(&MEMBERS[#index])?));
        writes.push(quote!(writer.member(&MEMBERS[#index], &self.#ident);));
    }
    let structure = &input.ident;
    Ok(quote! {
        const _: () = {
            use ::aws::shape::{Member, Members, Node, Path, Shape, Writer};
            const MEMBERS: &[Member] = &[#(#rows),*];
            impl Shape for #structure {
                fn read(node: Node, path: &Path<'_>) -> ::std::result::Result<Self, ::aws::ApiError> {
                    #[allow(unused_mut, unused_variables)]
                    let mut members = Members::open(node, path, MEMBERS, &[#(#unsupported),*])?;
                    Ok(#structure { #(#reads),* })
                }
                fn write(&self, writer: &mut Writer) {
                    writer.structure_open();
                    #(#writes)*
                    writer.structure_close();
                }
            }
        };
    })
}

/// The member's row in the table of names.
fn row(field: &Field, attributes: &Attributes) -> Tokens {
    let ident = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
    let upper = upper_camel(ident.trim_start_matches("r#"));
    let name = attributes.name.clone().unwrap_or_else(|| upper.clone());
    let (request, response) = if is_list(&field.ty) {
        let one = singular(&upper);
        (one.clone(), lower_first(&one) + "Set")
    } else {
        (upper.clone(), lower_first(&upper))
    };
    let request = attributes.request.clone().unwrap_or(request);
    let response = attributes.response.clone().unwrap_or(response);
    quote!(Member { name: #name, request: #request, response: #response })
}

fn field_attributes(field: &Field) -> Result<Attributes, Error> {
    let mut attributes = Attributes::default();
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("shape")) {
        attribute.parse_nested_meta(|meta| {
            let text =
                || -> Result<Option<String>, Error> { Ok(Some(meta.value()?.parse::<LitStr>()?.value())) };
            if meta.path.is_ident("name") {
                attributes.name = text()?;
            } else if meta.path.is_ident("request") {
                attributes.request = text()?;
            } else if meta.path.is_ident("response") {
                attributes.response = text()?;
            } else if meta.path.is_ident("default") {
                attributes.default = true;
            } else if meta.path.is_ident("required") {
                attributes.required = true;
            } else {
                return Err(meta.error("expected name, request, response, default or required"));
            }
            Ok(())
        })?;
    }
    Ok(attributes)
}

fn unsupported_names(input: &DeriveInput) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("shape")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("unsupported") {
                return Err(meta.error("expected unsupported"));
            }
            let list = meta.value()?.parse::<LitStr>()?.value();
            names.extend(list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
            Ok(())
        })?;
    }
    Ok(names)
}

/// Whether the type is `Vec<_>` or `Option<Vec<_>>`.
fn is_list(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    match &last.arguments {
        _ if last.ident == "Vec" => true,
        PathArguments::AngleBracketed(arguments) if last.ident == "Option" => {
            matches!(arguments.args.first(), Some(GenericArgument::Type(inner)) if is_list(inner))
        }
        _ => false,
    }
}

/// `subnet_id` -> `SubnetId`.
fn upper_camel(field: &str) -> String {
    field.split('_').map(upper_first).collect()
}

fn upper_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn lower_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// `Tags` -> `Tag`, `Addresses` -> `Address`, `Statuses` -> `Status`, `Entries` -> `Entry`.
fn singular(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    let es = ["sses", "uses", "xes", "ches", "shes"].iter().any(|ending| plural.ends_with(ending));
    let cut = if es { 2 } else { usize::from(plural.ends_with('s') && !plural.ends_with("ss")) };
    plural[..plural.len() - cut].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_fields() {
        assert_eq!(upper_camel("availability_zone"), "AvailabilityZone");
        assert_eq!(upper_camel("v_cpu_info"), "VCpuInfo");
        for (plural, one) in [
            ("Tags", "Tag"),
            ("PrivateIpAddresses", "PrivateIpAddress"),
            ("InstanceStatuses", "InstanceStatus"),
            ("Ipv4Prefixes", "Ipv4Prefix"),
            ("Entries", "Entry"),
            ("Images", "Image"),
            ("ZoneNames", "ZoneName"),
            ("Address", "Address"),
        ] {
            assert_eq!(singular(plural), one);
        }
    }
}
