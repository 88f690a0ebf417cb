//! Writes commands as a client would, in both encodings: everything that the product reads of them, and nothing else. It shares no code with
//! the decoders that it checks.

use fanfare_wire::{FilterError, FilterNode, centrifuge::FilterText};

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

/// How many nodes, on how many levels.
fn size(node: &FilterNode<'_>) -> (usize, usize) {
    let (nodes, depth) = node
        .nodes
        .iter()
        .map(size)
        .fold((0, 0), |all, inner| (all.0 + inner.0, all.1.max(inner.1)));
    (nodes + 1, depth + 1)
}
