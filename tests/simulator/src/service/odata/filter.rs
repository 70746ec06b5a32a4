//! `$filter` (OData 2.0 URI conventions §4.5), as far as package clients use it.
//!
//! Logic, comparisons, parentheses and the text functions; no arithmetic, no dates beyond comparing their texts. Texts
//! compare without letter case, since package ids have none; that the service does so for every property is a guess.

use super::entry::{Value, is_property};

/// A parsed filter.
#[derive(Debug)]
pub(super) struct Filter(Expression);

/// Why a filter is refused, in words for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilterError(pub(super) String);

#[derive(Debug)]
enum Expression {
    Literal(Value),
    Property(String),
    Call(Function, Vec<Expression>),
    Not(Box<Expression>),
    Compare(Comparison, Box<[Expression; 2]>),
    And(Box<[Expression; 2]>),
    Or(Box<[Expression; 2]>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum Function {
    ToLower,
    ToUpper,
    Trim,
    /// The needle comes first.
    SubstringOf,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Comma,
}

/// Reads tokens from left to right.
struct Parser {
    tokens: std::vec::IntoIter<Token>,
}

type Parsed = Result<Expression, FilterError>;

// === impl Filter ===

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { tokens: tokens(text)?.into_iter() };
        let expression = parser.any_of()?;
        match parser.next() {
            None => Ok(Self(expression)),
            Some(token) => Err(FilterError(format!("{token:?} after the end of the filter"))),
        }
    }

    /// Whether a thing with these properties passes.
    pub(super) fn passes(&self, property: &dyn Fn(&str) -> Value) -> bool {
        self.0.value(property) == Value::Flag(true)
    }
}

// === impl Expression ===

impl Expression {
    fn value(&self, property: &dyn Fn(&str) -> Value) -> Value {
        let holds = |expression: &Self| expression.value(property) == Value::Flag(true);
        match self {
            Self::Literal(value) => value.clone(),
            Self::Property(name) => property(name),
            Self::Call(function, arguments) => {
                let texts: Vec<String> =
                    arguments.iter().map(|argument| argument.value(property).to_text()).collect();
                function.apply(&texts)
            }
            Self::Not(inner) => Value::Flag(!holds(inner)),
            Self::Compare(comparison, sides) => {
                let order = sides[0].value(property).order(&sides[1].value(property));
                Value::Flag(order.is_some_and(|order| comparison.accepts(order)))
            }
            Self::And(sides) => Value::Flag(sides.iter().all(holds)),
            Self::Or(sides) => Value::Flag(sides.iter().any(holds)),
        }
    }
}

// === impl Comparison ===

impl Comparison {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            "lt" => Self::Less,
            "le" => Self::LessOrEqual,
            "gt" => Self::Greater,
            "ge" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn accepts(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

// === impl Function ===

impl Function {
    /// By name, with the number of its arguments.
    fn parse(word: &str) -> Option<(Self, usize)> {
        Some(match word.to_ascii_lowercase().as_str() {
            "tolower" => (Self::ToLower, 1),
            "toupper" => (Self::ToUpper, 1),
            "trim" => (Self::Trim, 1),
            "substringof" => (Self::SubstringOf, 2),
            "startswith" => (Self::StartsWith, 2),
            "endswith" => (Self::EndsWith, 2),
            _ => return None,
        })
    }

    fn apply(self, arguments: &[String]) -> Value {
        let lower = |at: usize| arguments[at].to_lowercase();
        match self {
            Self::ToLower => Value::Text(lower(0)),
            Self::ToUpper => Value::Text(arguments[0].to_uppercase()),
            Self::Trim => Value::Text(arguments[0].trim().to_owned()),
            Self::SubstringOf => Value::Flag(lower(1).contains(&lower(0))),
            Self::StartsWith => Value::Flag(lower(0).starts_with(&lower(1))),
            Self::EndsWith => Value::Flag(lower(0).ends_with(&lower(1))),
        }
    }
}

// === impl Parser ===

/// One method per level of precedence, loosest first.
impl Parser {
    fn any_of(&mut self) -> Parsed {
        let mut left = self.all_of()?;
        while self.takes_word("or") {
            left = Expression::Or(Box::new([left, self.all_of()?]));
        }
        Ok(left)
    }

    fn all_of(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        while self.takes_word("and") {
            left = Expression::And(Box::new([left, self.comparison()?]));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Parsed {
        if self.takes_word("not") {
            return Ok(Expression::Not(Box::new(self.comparison()?)));
        }
        let left = self.operand()?;
        let comparison = match self.peek() {
            Some(Token::Word(word)) => Comparison::parse(word),
            _ => None,
        };
        let Some(comparison) = comparison else { return Ok(left) };
        self.next();
        Ok(Expression::Compare(comparison, Box::new([left, self.operand()?])))
    }

    fn operand(&mut self) -> Parsed {
        match self.next() {
            Some(Token::Text(text)) => Ok(Expression::Literal(Value::Text(text))),
            Some(Token::Open) => {
                let inner = self.any_of()?;
                self.expect(&Token::Close).map(|()| inner)
            }
            Some(Token::Word(word)) => self.word(word),
            Some(token) => Err(FilterError(format!("{token:?} where a value is due"))),
            None => Err(FilterError("the filter ends where a value is due".to_owned())),
        }
    }

    fn word(&mut self, word: String) -> Parsed {
        if self.peek() == Some(&Token::Open) {
            let unknown = || FilterError(format!("unknown function '{word}'"));
            let (function, count) = Function::parse(&word).ok_or_else(unknown)?;
            return self.arguments(count).map(|arguments| Expression::Call(function, arguments));
        }
        let number = word.trim_end_matches(['L', 'l', 'M', 'm', 'D', 'd', 'F', 'f']).parse::<i64>();
        Ok(match (word.as_str(), number) {
            ("true" | "false", _) => Expression::Literal(Value::Flag(word == "true")),
            ("null", _) => Expression::Literal(Value::Null),
            (_, Ok(number)) => Expression::Literal(Value::Number(number)),
            (name, _) if is_property(name) => Expression::Property(word),
            _ => return Err(FilterError(format!("no property named '{word}'"))),
        })
    }

    fn arguments(&mut self, count: usize) -> Result<Vec<Expression>, FilterError> {
        self.expect(&Token::Open)?;
        let mut arguments = Vec::with_capacity(count);
        for at in 0..count {
            if at > 0 {
                self.expect(&Token::Comma)?;
            }
            arguments.push(self.any_of()?);
        }
        self.expect(&Token::Close).map(|()| arguments)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    fn next(&mut self) -> Option<Token> {
        self.tokens.next()
    }

    fn takes_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word == wanted);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), FilterError> {
        match self.next() {
            Some(token) if token == *wanted => Ok(()),
            other => Err(FilterError(format!("{other:?} where {wanted:?} is due"))),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '\'' => quoted(rest)?,
            _ => word_or_literal(rest)?,
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// A word, or a literal with a type in front such as `datetime'2026-01-01'`, which counts as its text.
fn word_or_literal(rest: &str) -> Result<(Token, usize), FilterError> {
    let is_end = |letter: char| letter.is_whitespace() || "(),'".contains(letter);
    let length = rest.find(is_end).unwrap_or(rest.len());
    if rest[length..].starts_with('\'') {
        let (token, quoted) = quoted(&rest[length..])?;
        return Ok((token, length + quoted));
    }
    Ok((Token::Word(rest[..length].to_owned()), length))
}

/// A text in quotes; a doubled quote stands for one.
fn quoted(rest: &str) -> Result<(Token, usize), FilterError> {
    let mut from = 1;
    loop {
        let end = rest[from..].find('\'').map(|at| from + at);
        let end = end.ok_or_else(|| FilterError("a text without end".to_owned()))?;
        if !rest[end + 1..].starts_with('\'') {
            return Ok((Token::Text(rest[1..end].replace("''", "'")), end + 1));
        }
        from = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str) -> Result<bool, FilterError> {
        let property = |name: &str| match name {
            "Id" => Value::Text("Contoso.O'Utility".to_owned()),
            "NormalizedVersion" | "Version" => Value::Text("1.2.3".to_owned()),
            "IsLatestVersion" => Value::Flag(true),
            "IsPrerelease" => Value::Flag(false),
            "PackageSize" => Value::Number(10),
            "Published" => Value::Text("2024-01-01T00:00:00.000Z".to_owned()),
            _ => Value::Null,
        };
        Filter::parse(filter).map(|filter| filter.passes(&property))
    }

    #[test]
    fn filters_of_the_clients_are_understood() {
        let rows = [
            ("IsLatestVersion", true),
            ("IsPrerelease", false),
            ("not IsPrerelease", true),
            ("IsPrerelease eq false", true),
            ("Id eq 'contoso.o''utility'", true),
            ("(tolower(Id) eq 'contoso.o''utility') and (NormalizedVersion eq '1.2.3')", true),
            ("(tolower(Id) eq 'contoso.o''utility') and (NormalizedVersion eq '1.2.4')", false),
            ("substringof('utility',tolower(Id))", true),
            ("substringof('x', Id) or startswith(Id,'contoso')", true),
            ("endswith(Id, 'y') and not (Version ne '1.2.3')", true),
            ("IsPrerelease and IsPrerelease or IsLatestVersion", true),
            ("IsPrerelease and (IsPrerelease or IsLatestVersion)", false),
            ("PackageSize gt 9 and PackageSize le 10L", true),
            ("Published ge datetime'2023-12-31T00:00:00'", true),
            ("Title eq null", true),
            ("Id eq 5", false),
        ];
        for (filter, expected) in rows {
            assert_eq!(passes(filter), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        let rows = [
            ("Id eq", "ends where a value"),
            ("Id eq 'x", "text without end"),
            ("Id eq 'x')", "after the end"),
            ("(Id eq 'x'", "where Close"),
            ("Colour eq 'red'", "no property named 'Colour'"),
            ("replace(Id,'a','b')", "unknown function 'replace'"),
            ("startswith(Id)", "where Comma"),
            ("", "ends where a value"),
        ];
        for (filter, expected) in rows {
            let FilterError(message) = passes(filter).unwrap_err();
            assert!(message.contains(expected), "{filter}: {message}");
        }
    }
}
