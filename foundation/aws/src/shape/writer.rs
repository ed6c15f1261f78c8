//! Prints shapes as EC2 XML, awsQuery XML or JSON.

use super::{Member, Shape};
use crate::protocol::Protocol;
use std::fmt::{Display, Write};

/// An answer being printed.
#[derive(Debug)]
pub struct Writer {
    protocol: Protocol,
    out: String,
}

impl Writer {
    /// An empty answer in `protocol`.
    pub fn new(protocol: Protocol) -> Self {
        Writer { protocol, out: String::with_capacity(512) }
    }

    /// The protocol printed.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What was printed.
    pub fn finish(self) -> String {
        self.out
    }

    /// A structure's member: nothing if it is absent.
    pub fn member<T: Shape>(&mut self, member: &Member, value: &T) {
        if !value.is_absent() {
            self.named(member.response_name(self.protocol), value);
        }
    }

    /// A value under this name: an XML element, or a JSON key.
    pub fn named<T: Shape>(&mut self, name: &str, value: &T) {
        if self.protocol.is_json() {
            self.comma();
            json_string(&mut self.out, name);
            self.out.push(':');
            value.write(self);
        } else {
            self.element_open(name);
            let start = self.out.len();
            value.write(self);
            self.element_close(name, start);
        }
    }

    /// A list's element.
    pub fn element<T: Shape>(&mut self, value: &T) {
        match self.protocol {
            Protocol::Ec2 => self.named("item", value),
            Protocol::Query => self.named("member", value),
            Protocol::Json10 | Protocol::Json11 => {
                self.comma();
                value.write(self);
            }
        }
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        if self.protocol.is_json() {
            json_string(&mut self.out, text);
        } else {
            xml_escape(&mut self.out, text);
        }
    }

    /// A number or boolean: what needs neither quotes nor escapes.
    pub fn bare(&mut self, value: &dyn Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{value}");
    }

    /// Before a structure's members.
    pub fn structure_open(&mut self) {
        self.json_only('{');
    }

    /// After a structure's members.
    pub fn structure_close(&mut self) {
        self.json_only('}');
    }

    /// Before a list's elements.
    pub fn list_open(&mut self) {
        self.json_only('[');
    }

    /// After a list's elements.
    pub fn list_close(&mut self) {
        self.json_only(']');
    }

    /// Text that is markup already.
    pub(crate) fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    fn element_open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Closes the element whose content starts at `start`; an empty one becomes `<name/>`, as AWS writes it.
    fn element_close(&mut self, name: &str, start: usize) {
        if self.out.len() == start {
            self.out.pop();
            self.out.push_str("/>");
        } else {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
    }

    fn json_only(&mut self, bracket: char) {
        if self.protocol.is_json() {
            self.out.push(bracket);
        }
    }

    /// A comma, unless an object or list was just opened. (A string's own bracket is followed by its quote.)
    fn comma(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(['{', '[']) {
            self.out.push(',');
        }
    }
}

/// Escapes text for XML 1.0. Characters that XML forbids even as references become U+FFFD, so that one hostile tag
/// cannot make a whole answer unreadable; a carriage return is a reference, for parsers fold a bare one.
fn xml_escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}
