//! Filters: a tree of conditions, checked and compiled once, asked for each publication.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::Deserialize;
use thiserror::Error;

use super::{Tags, decimal::Decimal};

/// A filter as a client says it: a comparison, or a combination of others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FilterNode<'a> {
    /// `and`, `or`, `not`; empty for a comparison.
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    /// The tag that is compared.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// How it is compared.
    #[serde(borrow)]
    pub cmp: Cow<'a, str>,
    /// With what, if that is one value.
    #[serde(borrow)]
    pub val: Cow<'a, str>,
    /// With what, if these are several (`in`, `nin`).
    #[serde(borrow)]
    pub vals: Vec<Cow<'a, str>>,
    /// What is combined.
    #[serde(borrow)]
    pub nodes: Vec<FilterNode<'a>>,
}

impl FilterNode<'_> {
    /// Longest filter on a wire, in bytes, in whatever encoding.
    pub const BYTES_MAX: usize = 16 << 10;
    /// Most levels of a filter; a comparison alone has one.
    pub const DEPTH_MAX: usize = 16;
    /// Most nodes of a filter, on all levels together.
    pub const NODES_MAX: usize = 100;
    /// Most values of a filter (`vals`), in all nodes together.
    pub const VALUES_MAX: usize = 1_000;
}

/// Why something is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{}", self.message())]
pub enum FilterError {
    /// The namespace has no filters.
    NotAllowed,
    /// More than [`FilterNode::BYTES_MAX`] bytes.
    TooLong,
    /// More than [`FilterNode::DEPTH_MAX`] levels.
    TooDeep,
    /// More than [`FilterNode::NODES_MAX`] nodes.
    TooManyNodes,
    /// More than [`FilterNode::VALUES_MAX`] values.
    TooManyValues,
    /// Not made of the protocol's fields.
    Malformed,
    /// `op` is none of the protocol's.
    UnknownOp,
    /// `and` or `or` of nothing.
    NoNodes,
    /// `not` of nothing, or of several.
    NotOneNode,
    /// `cmp` is none of the protocol's.
    UnknownCmp,
    /// A comparison without `key`.
    NoKey,
    /// A comparison that needs `val`.
    NoVal,
    /// A comparison that needs `vals`.
    NoVals,
    /// `val` or `vals` beside a comparison that has no use for it.
    Superfluous,
    /// A comparison of numbers with something else.
    NotANumber,
}

impl FilterError {
    /// What is wrong, for the client's author.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::NotAllowed => "bad request: the namespace does not allow tags filters",
            Self::TooLong => "bad request: the tags filter is longer than 16 KiB",
            Self::TooDeep => "bad request: the tags filter has more than 16 levels",
            Self::TooManyNodes => "bad request: the tags filter has more than 100 nodes",
            Self::TooManyValues => "bad request: the tags filter has more than 1000 values",
            Self::Malformed => {
                "bad request: the tags filter has fields of other types than the protocol says"
            }
            Self::UnknownOp => "bad request: tags filter: op must be empty, and, or, not",
            Self::NoNodes => "bad request: tags filter: and, or need nodes",
            Self::NotOneNode => "bad request: tags filter: not needs exactly one node",
            Self::UnknownCmp => {
                "bad request: tags filter: cmp must be eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt, gte"
            }
            Self::NoKey => "bad request: tags filter: a comparison needs key",
            Self::NoVal => "bad request: tags filter: this cmp needs val",
            Self::NoVals => "bad request: tags filter: in, nin need vals",
            Self::Superfluous => "bad request: tags filter: this cmp has no use for val or vals",
            Self::NotANumber => "bad request: tags filter: lt, lte, gt, gte need a decimal number",
        }
    }
}

/// A filter that can be asked.
#[derive(Debug)]
pub struct TagsFilter {
    root: Node,
    hash: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Leaf { key: Box<str>, test: Test },
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Test {
    Exists,
    Equals(Box<str>),
    /// Sorted.
    In(Box<[Box<str>]>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Less(Box<str>),
    LessOrEqual(Box<str>),
    Greater(Box<str>),
    GreaterOrEqual(Box<str>),
}

impl TagsFilter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// What is wrong with it, or which of the bounds of [`FilterNode`] it exceeds.
    pub fn compile(node: &FilterNode<'_>) -> Result<Self, FilterError> {
        let mut compiler = Compiler::default();
        let root = compiler.node(node, 1)?;
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        let hash = hasher.finish();
        Ok(Self { root, hash })
    }

    /// Whether a publication with these tags is wanted.
    #[must_use]
    pub fn selects(&self, tags: &Tags) -> bool {
        self.root.holds(tags)
    }

    /// The same for equal filters.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for TagsFilter {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.root == other.root
    }
}

impl Eq for TagsFilter {}

#[derive(Default)]
struct Compiler {
    nodes: usize,
    values: usize,
}

impl Compiler {
    fn node(&mut self, node: &FilterNode<'_>, depth: usize) -> Result<Node, FilterError> {
        self.nodes += 1;
        if depth > FilterNode::DEPTH_MAX {
            return Err(FilterError::TooDeep);
        }
        if self.nodes > FilterNode::NODES_MAX {
            return Err(FilterError::TooManyNodes);
        }
        match &*node.op {
            "" => self.leaf(node),
            "and" => Ok(Node::All(self.some(&node.nodes, depth)?)),
            "or" => Ok(Node::Any(self.some(&node.nodes, depth)?)),
            "not" => match &node.nodes[..] {
                [inner] => Ok(Node::Not(Box::new(self.node(inner, depth + 1)?))),
                _ => Err(FilterError::NotOneNode),
            },
            _ => Err(FilterError::UnknownOp),
        }
    }

    fn some(&mut self, nodes: &[FilterNode<'_>], depth: usize) -> Result<Box<[Node]>, FilterError> {
        if nodes.is_empty() {
            return Err(FilterError::NoNodes);
        }
        let nodes = nodes.iter().map(|node| self.node(node, depth + 1));
        nodes.collect()
    }

    fn leaf(&mut self, node: &FilterNode<'_>) -> Result<Node, FilterError> {
        self.values += node.vals.len();
        if self.values > FilterNode::VALUES_MAX {
            return Err(FilterError::TooManyValues);
        }
        let (test, negated) = match &*node.cmp {
            "ex" => (nothing(node, Test::Exists)?, false),
            "nex" => (nothing(node, Test::Exists)?, true),
            "eq" => (one(node, Test::Equals)?, false),
            "neq" => (one(node, Test::Equals)?, true),
            "in" => (several(node)?, false),
            "nin" => (several(node)?, true),
            "sw" => (one(node, Test::StartsWith)?, false),
            "ew" => (one(node, Test::EndsWith)?, false),
            "ct" => (one(node, Test::Contains)?, false),
            "lt" => (number(node, Test::Less)?, false),
            "lte" => (number(node, Test::LessOrEqual)?, false),
            "gt" => (number(node, Test::Greater)?, false),
            "gte" => (number(node, Test::GreaterOrEqual)?, false),
            _ => return Err(FilterError::UnknownCmp),
        };
        if node.key.is_empty() {
            return Err(FilterError::NoKey);
        }
        let key = Box::from(&*node.key);
        let leaf = Node::Leaf { key, test };
        Ok(match negated {
            true => Node::Not(Box::new(leaf)),
            false => leaf,
        })
    }
}

fn nothing(node: &FilterNode<'_>, test: Test) -> Result<Test, FilterError> {
    match node.val.is_empty() && node.vals.is_empty() {
        true => Ok(test),
        false => Err(FilterError::Superfluous),
    }
}

fn one(node: &FilterNode<'_>, test: fn(Box<str>) -> Test) -> Result<Test, FilterError> {
    match (node.val.is_empty(), node.vals.is_empty()) {
        (true, _) => Err(FilterError::NoVal),
        (false, false) => Err(FilterError::Superfluous),
        (false, true) => Ok(test(Box::from(&*node.val))),
    }
}

fn several(node: &FilterNode<'_>) -> Result<Test, FilterError> {
    match (node.vals.is_empty(), node.val.is_empty()) {
        (true, _) => Err(FilterError::NoVals),
        (false, false) => Err(FilterError::Superfluous),
        (false, true) => {
            let mut values: Vec<Box<str>> = node.vals.iter().map(|it| Box::from(&**it)).collect();
            values.sort_unstable();
            values.dedup();
            Ok(Test::In(values.into()))
        }
    }
}

fn number(node: &FilterNode<'_>, test: fn(Box<str>) -> Test) -> Result<Test, FilterError> {
    let test = one(node, test)?;
    match Decimal::parse(&node.val) {
        Some(_) => Ok(test),
        None => Err(FilterError::NotANumber),
    }
}

impl Node {
    fn holds(&self, tags: &Tags) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(tags)),
            Self::Not(node) => !node.holds(tags),
            Self::Leaf { key, test } => tags.get(key).is_some_and(|value| test.holds(value)),
        }
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        let compared = |bound: &str| {
            let (value, bound) = (Decimal::parse(value)?, Decimal::parse(bound)?);
            Some(value.cmp(&bound))
        };
        match self {
            Self::Exists => true,
            Self::Equals(wanted) => value == &**wanted,
            Self::In(wanted) => wanted.binary_search_by(|it| (**it).cmp(value)).is_ok(),
            Self::StartsWith(start) => value.starts_with(&**start),
            Self::EndsWith(end) => value.ends_with(&**end),
            Self::Contains(part) => value.contains(&**part),
            Self::Less(bound) => compared(bound).is_some_and(|it| it.is_lt()),
            Self::LessOrEqual(bound) => compared(bound).is_some_and(|it| it.is_le()),
            Self::Greater(bound) => compared(bound).is_some_and(|it| it.is_gt()),
            Self::GreaterOrEqual(bound) => compared(bound).is_some_and(|it| it.is_ge()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

    fn compile(text: &str) -> Result<TagsFilter, FilterError> {
        TagsFilter::compile(&serde_json::from_str(text).unwrap())
    }

    fn selects(filter: &str, tags: &str) -> bool {
        let tags = Tags::of(Some(&Json::parse(tags.as_bytes()).unwrap()));
        compile(filter).unwrap().selects(&tags)
    }

    #[test]
    fn comparisons_say_what_the_protocol_says() {
        // A comparison; values that it holds for; values that it does not; whether it holds without the tag.
        let cases: [(&str, &[&str], &[&str], bool); 13] = [
            (r#""cmp":"eq","val":"b""#, &["b"], &["", "a", "bb"], false),
            (r#""cmp":"neq","val":"b""#, &["", "a", "bb"], &["b"], true),
            (
                r#""cmp":"in","vals":["c","a","b"]"#,
                &["a", "b", "c"],
                &["", "d", "ab"],
                false,
            ),
            (
                r#""cmp":"nin","vals":["c","a","b"]"#,
                &["", "d"],
                &["a", "b", "c"],
                true,
            ),
            (r#""cmp":"ex""#, &["", "a"], &[], false),
            (r#""cmp":"nex""#, &[], &["", "a"], true),
            (
                r#""cmp":"sw","val":"ab""#,
                &["ab", "abc"],
                &["a", "cab"],
                false,
            ),
            (
                r#""cmp":"ew","val":"ab""#,
                &["ab", "cab"],
                &["b", "abc"],
                false,
            ),
            (
                r#""cmp":"ct","val":"ab""#,
                &["ab", "cabc"],
                &["a b", ""],
                false,
            ),
            (
                r#""cmp":"lt","val":"9.5""#,
                &["9", "-10", "9.49"],
                &["9.5", "10", "x", ""],
                false,
            ),
            (
                r#""cmp":"lte","val":"9.5""#,
                &["9", "9.50"],
                &["9.51", "10", "1e0"],
                false,
            ),
            (
                r#""cmp":"gt","val":"9.5""#,
                &["10", "9.51"],
                &["9.5", "9", "nine"],
                false,
            ),
            (
                r#""cmp":"gte","val":"9.5""#,
                &["9.5", "100"],
                &["9.4", "-9.5", ""],
                false,
            ),
        ];
        for (comparison, those, not_those, without) in cases {
            let filter = format!("{{\"key\":\"k\",{comparison}}}");
            let holds = |value: &str| {
                let tags = serde_json::json!({ "k": value, "other": "b" });
                selects(&filter, &tags.to_string())
            };
            assert!(those.iter().all(|value| holds(value)), "{filter}");
            assert!(!not_those.iter().any(|value| holds(value)), "{filter}");
            assert_eq!(selects(&filter, r#"{"other":"b"}"#), without, "{filter}");
        }
    }

    #[test]
    fn combinations_have_their_logic() {
        let leaf = |key: &str| format!(r#"{{"key":"{key}","cmp":"ex"}}"#);
        let of = |op: &str, nodes: &[String]| {
            format!(r#"{{"op":"{op}","nodes":[{}]}}"#, nodes.join(","))
        };
        let (a, b) = (leaf("a"), leaf("b"));
        let both = of("and", &[a.clone(), b.clone()]);
        let either = of("or", &[a.clone(), b.clone()]);
        let one = of(
            "and",
            &[either.clone(), of("not", std::slice::from_ref(&both))],
        );
        for (tags, expected) in [
            ("{}", [false, false, false]),
            (r#"{"a":""}"#, [false, true, true]),
            (r#"{"b":""}"#, [false, true, true]),
            (r#"{"a":"","b":""}"#, [true, true, false]),
        ] {
            assert_eq!([&both, &either, &one].map(|it| selects(it, tags)), expected);
        }
    }

    #[test]
    fn what_is_no_filter_is_named() {
        for (filter, error) in [
            (r#"{"op":"xor","nodes":[]}"#, FilterError::UnknownOp),
            (r#"{"op":"and"}"#, FilterError::NoNodes),
            (r#"{"op":"or","nodes":[]}"#, FilterError::NoNodes),
            (r#"{"op":"not","nodes":[]}"#, FilterError::NotOneNode),
            (
                r#"{"op":"not","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"ex"}]}"#,
                FilterError::NotOneNode,
            ),
            ("{}", FilterError::UnknownCmp),
            (
                r#"{"key":"a","cmp":"EQ","val":"b"}"#,
                FilterError::UnknownCmp,
            ),
            (r#"{"cmp":"eq","val":"b"}"#, FilterError::NoKey),
            (r#"{"cmp":"ex"}"#, FilterError::NoKey),
            (r#"{"key":"a","cmp":"sw"}"#, FilterError::NoVal),
            (r#"{"key":"a","cmp":"eq","vals":["b"]}"#, FilterError::NoVal),
            (
                r#"{"key":"a","cmp":"eq","val":"b","vals":["b"]}"#,
                FilterError::Superfluous,
            ),
            (r#"{"key":"a","cmp":"in","val":"b"}"#, FilterError::NoVals),
            (
                r#"{"key":"a","cmp":"nin","val":"b","vals":["b"]}"#,
                FilterError::Superfluous,
            ),
            (
                r#"{"key":"a","cmp":"nex","val":"b"}"#,
                FilterError::Superfluous,
            ),
            (
                r#"{"key":"a","cmp":"gt","val":"b"}"#,
                FilterError::NotANumber,
            ),
            (
                r#"{"op":"and","nodes":[{"key":"a","cmp":"ex"},{"op":"or"}]}"#,
                FilterError::NoNodes,
            ),
        ] {
            assert_eq!(compile(filter).unwrap_err(), error, "{filter}");
            assert!(error.to_string().starts_with("bad request: "), "{error}");
        }
    }

    #[test]
    fn filters_have_bounds() {
        let leaf = r#"{"key":"a","cmp":"ex"}"#;
        let nested = |levels: usize| {
            let open = r#"{"op":"not","nodes":["#.repeat(levels - 1);
            format!("{open}{leaf}{}", "]}".repeat(levels - 1))
        };
        assert!(compile(&nested(FilterNode::DEPTH_MAX)).is_ok());
        let error = compile(&nested(FilterNode::DEPTH_MAX + 1)).unwrap_err();
        assert_eq!(error, FilterError::TooDeep);
        let wide = |nodes: usize| {
            let leaves = vec![leaf; nodes - 1].join(",");
            format!(r#"{{"op":"or","nodes":[{leaves}]}}"#)
        };
        assert!(compile(&wide(FilterNode::NODES_MAX)).is_ok());
        let error = compile(&wide(FilterNode::NODES_MAX + 1)).unwrap_err();
        assert_eq!(error, FilterError::TooManyNodes);
        let values = |count: usize| {
            let values = vec![r#""v""#; count].join(",");
            format!(r#"{{"key":"a","cmp":"in","vals":[{values}]}}"#)
        };
        assert!(compile(&values(FilterNode::VALUES_MAX)).is_ok());
        let error = compile(&values(FilterNode::VALUES_MAX + 1)).unwrap_err();
        assert_eq!(error, FilterError::TooManyValues);
        assert!(
            FilterError::TooDeep
                .message()
                .contains(&FilterNode::DEPTH_MAX.to_string())
        );
        assert!(
            FilterError::TooManyNodes
                .message()
                .contains(&FilterNode::NODES_MAX.to_string())
        );
        assert!(
            FilterError::TooManyValues
                .message()
                .contains(&FilterNode::VALUES_MAX.to_string())
        );
        assert!(
            FilterError::TooLong
                .message()
                .contains(&(FilterNode::BYTES_MAX >> 10).to_string())
        );
    }

    #[test]
    fn equal_filters_are_known_as_such() {
        let of =
            |vals: &str| compile(&format!(r#"{{"key":"a","cmp":"in","vals":{vals}}}"#)).unwrap();
        let (one, same, other) = (of(r#"["x","y"]"#), of(r#"["y","x","y"]"#), of(r#"["x"]"#));
        assert!(one == same && one.hash() == same.hash());
        assert!(one != other && one.hash() != other.hash());
    }
}
