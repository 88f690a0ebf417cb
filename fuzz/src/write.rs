//! Writes commands as a client would, in both encodings: everything that the product reads of them, and nothing else. It shares no code with
//! the decoders that it checks.

use std::collections::BTreeMap;

use fanfare_wire::{
    FilterError, FilterNode,
    centrifuge::{CommandError, FilterText, Subs, SubscribeRequest},
};

pub mod json;
pub mod protobuf;

/// The filter of a subscribe, if there is one.
///
/// # Errors
/// Not both encodings can say it within their limits; each writes something then that is no filter.
pub fn filter<'a>(text: &'a FilterText<'_>) -> Result<Option<FilterNode<'a>>, FilterError> {
    let Some(node) = text.read()? else {
        return Ok(None);
    };
    let (nodes, depth) = size(&node);
    if depth > FilterNode::DEPTH_MAX {
        return Err(FilterError::TooDeep);
    }
    if nodes > FilterNode::NODES_MAX {
        return Err(FilterError::TooManyNodes);
    }
    // Text that has to be escaped is longer in JSON; nothing is longer in Protobuf.
    if json::filter(&node).len() > FilterNode::BYTES_MAX {
        return Err(FilterError::TooLong);
    }
    Ok(Some(node))
}

/// What is made of the subscribe requests in a connect request, in whatever encoding they stood.
///
/// # Errors
/// They are none.
pub fn with_subs<'a, T>(
    subs: &Subs<'a>,
    make: impl FnOnce(&BTreeMap<String, SubscribeRequest<'a>>) -> T,
) -> Result<T, CommandError> {
    match subs {
        Subs::Json(subs) => Ok(make(subs)),
        Subs::Protobuf(request) => Subs::Protobuf(request)
            .read(usize::MAX)
            .map(|subs| make(&subs)),
    }
}

/// How many nodes, on how many levels.
fn size(node: &FilterNode<'_>) -> (usize, usize) {
    let (nodes, depth) = node
        .nodes
        .iter()
        .map(size)
        .fold((0, 0), |all, inner| (all.0 + inner.0, all.1.max(inner.1)));
    (nodes + 1, depth + 1)
}
