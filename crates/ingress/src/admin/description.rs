//! Parts of the API's description that several addresses share. Written once because what the
//! attributes of each address make of them is a kilobyte of the program apiece.

use std::collections::BTreeMap;

use mote_api::problem::MEDIA_TYPE;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

/// `…/functions/{name}`
pub(super) struct OfFunction;
/// `…/apps/{app}`
pub(super) struct InApp;
/// `…/apps/{app}/kv/{bucket}`
pub(super) struct InBucket;
/// `…/apps/{app}/kv/{bucket}/{key}`
pub(super) struct OfKey;
/// `…/apps/{app}/secrets/{name}`
pub(super) struct OfSecret;
/// `?after=…&max=…`
pub(super) struct PageOfList;
/// Every answer that is not a good one. One address has to name the type of its body, so that it is
/// in the description: that is `/readyz`.
pub(super) struct Refused;

const FUNCTION: (&str, &str) = ("name", "`function` or `function.app`");
const APP: (&str, &str) = ("app", "the app");
const BUCKET: (&str, &str) = ("bucket", "the bucket; `default` where functions name none");
const KEY: (&str, &str) = ("key", "the key, percent-encoded");
const NAME: (&str, &str) = (
    "name",
    "its name: capital letters, digits and underscores, not starting with a digit",
);

macro_rules! in_path {
    ($($place:ident = $($part:ident),*;)*) => {
        $(impl IntoParams for $place {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$(parameter(ParameterIn::Path, $part.0, $part.1, Type::String)),*]
            }
        })*
    };
}

in_path! {
    OfFunction = FUNCTION;
    InApp = APP;
    InBucket = APP, BUCKET;
    OfKey = APP, BUCKET, KEY;
    OfSecret = APP, NAME;
}

impl IntoParams for PageOfList {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let query =
            |name, description, kind| parameter(ParameterIn::Query, name, description, kind);
        vec![
            query("after", "the last one of the page before", Type::String),
            query("max", "at most this many, 1 to 1000", Type::Integer),
        ]
    }
}

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problem = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .build();
        let response = ResponseBuilder::new().content(MEDIA_TYPE, problem).build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

#[inline(never)]
fn parameter(
    place: ParameterIn,
    name: &'static str,
    description: &'static str,
    kind: Type,
) -> Parameter {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
