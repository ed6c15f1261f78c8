//! Filters of Describe operations: several values of one filter are alternatives, several filters must all hold.
//!
//! In a value `*` stands for any characters and `?` for one or none; a backslash takes the next character as it is.
//! Values are compared with upper and lower case told apart. A resource says which filters it has by [`Filtered`].
//! Source: Amazon EC2 User Guide, "Filter the list of resources".

use super::errors;
use crate::tag::record::TagRecord;
use aws::ec2::Filter;
use aws::{ApiError, codes};

/// The most values of all filters of a request together. Source: as above.
const VALUES_MAX: usize = 200;
/// The most characters of one value: four times the longest that a tag's value can be.
const VALUE_CHARS_MAX: usize = 1024;

/// A resource as filters see it.
pub trait Filtered {
    /// The names of its filters, those of tags apart.
    const NAMES: &'static [&'static str];
    /// Whether it has tags: then `tag:KEY` and `tag-key` are filters too.
    const TAGGED: bool;

    /// Whether `is` holds for one of the values that the filter `name` looks at; `None`: no such filter.
    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool>;

    /// Its tags.
    fn tags(&self) -> &[TagRecord] {
        &[]
    }
}

/// The filters of a request. All hold for a resource, or it is not in the answer.
#[derive(Clone, Debug)]
pub struct Filters(Vec<(On, Vec<Pattern>)>);

#[derive(Clone, Debug)]
enum On {
    Field(&'static str),
    Tag(String),
    TagKey,
}

impl Filters {
    /// Reads a request's filters for resources of kind `T`.
    pub fn read<T: Filtered>(filters: &[Filter]) -> Result<Filters, ApiError> {
        let invalid = |message: String| ApiError::new(codes::INVALID_PARAMETER_VALUE, message);
        if filters.iter().map(|filter| filter.values.len()).sum::<usize>() > VALUES_MAX {
            let message =
                format!("The maximum number of filter values specified on a single call is {VALUES_MAX}");
            return Err(ApiError::client("FilterLimitExceeded", message));
        }
        let mut all = Vec::with_capacity(filters.len());
        for filter in filters {
            let name = errors::shown(&filter.name);
            let on = match filter.name.strip_prefix("tag:") {
                Some(key) if T::TAGGED => On::Tag(key.to_owned()),
                None if T::TAGGED && filter.name == "tag-key" => On::TagKey,
                _ => match T::NAMES.iter().find(|known| **known == filter.name) {
                    Some(known) => On::Field(known),
                    None => return Err(invalid(format!("The filter '{name}' is invalid"))),
                },
            };
            if filter.values.is_empty() {
                return Err(invalid(format!("The filter '{name}' has no values")));
            }
            if filter.values.iter().any(|value| value.chars().count() > VALUE_CHARS_MAX) {
                let message =
                    format!("A value of the filter '{name}' has more than {VALUE_CHARS_MAX} characters");
                return Err(invalid(message));
            }
            all.push((on, filter.values.iter().map(|value| Pattern::new(value)).collect()));
        }
        Ok(Filters(all))
    }

    /// Whether all filters hold for `resource`.
    pub fn hold<T: Filtered>(&self, resource: &T) -> bool {
        self.0.iter().all(|(on, patterns)| {
            let is = |value: &str| patterns.iter().any(|pattern| pattern.matches(value));
            match on {
                On::Field(name) => {
                    let any = resource.any(name, &is);
                    debug_assert!(any.is_some(), "the filter {name} is listed and not looked at");
                    any.unwrap_or(false)
                }
                On::Tag(key) => resource.tags().iter().any(|tag| tag.key == *key && is(&tag.value)),
                On::TagKey => resource.tags().iter().any(|tag| is(&tag.key)),
            }
        })
    }
}

/// A filter's value.
#[derive(Clone, Debug)]
enum Pattern {
    /// Without wildcards: nearly all are.
    Exact(String),
    Wild(Vec<Piece>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Char(char),
    /// `?`: one character or none.
    Optional,
    /// `*`
    Any,
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        let mut pieces = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            pieces.push(match char {
                '\\' => Piece::Char(chars.next().unwrap_or('\\')),
                '*' => Piece::Any,
                '?' => Piece::Optional,
                other => Piece::Char(other),
            });
        }
        let exact = pieces.iter().map(|piece| if let Piece::Char(char) = piece { Some(*char) } else { None });
        match exact.collect::<Option<String>>() {
            Some(text) => Pattern::Exact(text),
            None => Pattern::Wild(pieces),
        }
    }

    /// All places in the pattern that the text read so far can have led to are followed at once, so that the time
    /// is bounded by pattern times text, whatever they are.
    fn matches(&self, text: &str) -> bool {
        let pieces = match self {
            Pattern::Exact(exact) => return exact == text,
            Pattern::Wild(pieces) => pieces,
        };
        let mut here = vec![false; pieces.len() + 1];
        here[0] = true;
        skip_optional(pieces, &mut here);
        for char in text.chars() {
            let mut next = vec![false; pieces.len() + 1];
            for (place, piece) in pieces.iter().enumerate().filter(|(place, _)| here[*place]) {
                match piece {
                    Piece::Char(wanted) => next[place + 1] |= *wanted == char,
                    Piece::Optional => next[place + 1] = true,
                    Piece::Any => next[place] = true,
                }
            }
            skip_optional(pieces, &mut next);
            here = next;
        }
        here[pieces.len()]
    }
}

fn skip_optional(pieces: &[Piece], here: &mut [bool]) {
    for (place, piece) in pieces.iter().enumerate() {
        if here[place] && !matches!(piece, Piece::Char(_)) {
            here[place + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, without regard for time.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            ['?', rest @ ..] => naive(rest, text) || (!text.is_empty() && naive(rest, &text[1..])),
            ['\\', char, rest @ ..] | [char, rest @ ..] => {
                text.first() == Some(char) && naive(rest, &text[1..])
            }
        }
    }

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} on {text}");
    }

    #[test]
    fn wildcards_are_aws_s() {
        check("t3.*", "t3.micro", true);
        check("t3.*", "t2.micro", false);
        check("t?.micro", "t3.micro", true);
        check("t?.micro", "t.micro", true);
        check("t?.micro", "t33.micro", false);
        check("\\*", "*", true);
        check("\\*", "x", false);
        check("\\\\", "\\", true);
        check("", "", true);
        check("*", "", true);
        check("Web", "web", false);
    }

    #[test]
    fn a_pattern_that_would_take_a_backtracker_for_ever_is_quick() {
        check(&"*a".repeat(500), &"b".repeat(5000), false);
    }

    proptest! {
        #[test]
        fn wildcards_match_as_defined(pattern in "[ab*?\\\\]{0,7}", text in "[ab*?\\\\]{0,7}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), naive(&p, &t));
        }
    }
}
