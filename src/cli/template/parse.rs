//! Tokens to nodes.

use serde_json::Value;

use super::functions;
use super::lex::{self, Part, Token};
use super::{Node, Pipe, Start, TemplateError, Term};

/// Parentheses and blocks may nest this deep; a person's template has two or three.
const MAX_DEPTH: usize = 64;

/// Reads a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Blocks { parts: lex::parts(text)?.into_iter(), depth: 0, loops: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        Ended::Text => Ok(nodes),
        Ended::Block => Err(TemplateError("`{{end}}` without a block to end".into())),
        Ended::Else(_) => Err(TemplateError("`{{else}}` without an `{{if}}`".into())),
    }
}

/// What ended a run of nodes.
enum Ended {
    /// The text's end.
    Text,
    /// `{{end}}`
    Block,
    /// `{{else}}`, with what follows it: `if …`, `with …`.
    Else(Vec<Token>),
}

struct Blocks<'a> {
    parts: std::vec::IntoIter<Part<'a>>,
    depth: usize,
    /// How many `range`s are open.
    loops: usize,
}

impl Blocks<'_> {
    /// Reads nodes up to the end of the block that they are in.
    fn block(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(part) = self.parts.next() {
            match part {
                Part::Text(text) => nodes.push(Node::Text(text.to_owned())),
                Part::Action(action) => {
                    let tokens = lex::tokens(action)?;
                    match tokens.first() {
                        Some(Token::Word(word)) if word == "end" => return Ok((nodes, Ended::Block)),
                        Some(Token::Word(word)) if word == "else" => {
                            return Ok((nodes, Ended::Else(tokens[1..].to_vec())));
                        }
                        _ => nodes.push(self.node(&tokens)?),
                    }
                }
            }
        }
        Ok((nodes, Ended::Text))
    }

    /// Reads one action, and the block that it opens.
    fn node(&mut self, tokens: &[Token]) -> Result<Node, TemplateError> {
        let Some(Token::Word(word)) = tokens.first() else { return simple(tokens) };
        let rest = &tokens[1..];
        match word.as_str() {
            "if" => {
                let pipe = whole_pipe(rest)?;
                let (then, otherwise) = self.bodies("if")?;
                Ok(Node::If { pipe, then, otherwise })
            }
            "range" => {
                let (variables, rest) = declared(rest);
                let pipe = whole_pipe(rest)?;
                self.loops += 1;
                let bodies = self.bodies("range");
                self.loops -= 1;
                let (body, otherwise) = bodies?;
                Ok(Node::Range { variables, pipe, body, otherwise })
            }
            "with" => {
                let (mut variables, rest) = declared(rest);
                let pipe = whole_pipe(rest)?;
                let (body, otherwise) = self.bodies("with")?;
                Ok(Node::With { variable: variables.pop(), pipe, body, otherwise })
            }
            "break" | "continue" if self.loops == 0 => {
                Err(TemplateError(format!("`{{{{{word}}}}}` outside of `{{{{range}}}}`")))
            }
            "break" => Ok(Node::Break),
            "continue" => Ok(Node::Continue),
            "define" | "template" | "block" => {
                Err(TemplateError(format!("`{word}` is not supported in --format")))
            }
            _ => simple(tokens),
        }
    }

    /// Reads a block's body and what stands after its `else`.
    fn bodies(&mut self, keyword: &str) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError("blocks nest too deep".into()));
        }
        let unclosed = || TemplateError(format!("`{{{{{keyword}}}}}` has no `{{{{end}}}}`"));
        let (body, end) = self.block()?;
        let otherwise = match end {
            Ended::Text => return Err(unclosed()),
            Ended::Block => Vec::new(),
            // `else if`: the inner block's `end` closes the outer one too.
            Ended::Else(tokens) if !tokens.is_empty() => vec![self.node(&tokens)?],
            Ended::Else(_) => match self.block()? {
                (nodes, Ended::Block) => nodes,
                _ => return Err(unclosed()),
            },
        };
        self.depth -= 1;
        Ok((body, otherwise))
    }
}

/// An action without a block: a value to print, or a variable to set.
fn simple(tokens: &[Token]) -> Result<Node, TemplateError> {
    if let [Token::Variable(name), mark @ (Token::Declare | Token::Assign), rest @ ..] = tokens {
        let declare = *mark == Token::Declare;
        return Ok(Node::Set { name: name.clone(), declare, pipe: whole_pipe(rest)? });
    }
    whole_pipe(tokens).map(Node::Print)
}

/// Takes `$a, $b :=` off the front.
fn declared(tokens: &[Token]) -> (Vec<String>, &[Token]) {
    match tokens {
        [Token::Variable(name), Token::Declare | Token::Assign, rest @ ..] => (vec![name.clone()], rest),
        [
            Token::Variable(key),
            Token::Comma,
            Token::Variable(value),
            Token::Declare | Token::Assign,
            rest @ ..,
        ] => (vec![key.clone(), value.clone()], rest),
        _ => (Vec::new(), tokens),
    }
}

/// Reads `tokens` as one pipe.
fn whole_pipe(tokens: &[Token]) -> Result<Pipe, TemplateError> {
    let mut reader = Reader { tokens, at: 0, depth: 0 };
    let pipe = reader.pipe()?;
    if reader.at < tokens.len() {
        return Err(TemplateError("unexpected `)`".into()));
    }
    Ok(pipe)
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    /// Reads commands up to the end or a closing parenthesis.
    fn pipe(&mut self) -> Result<Pipe, TemplateError> {
        let mut commands = vec![Vec::new()];
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Close => break,
                Token::Pipe => {
                    self.at += 1;
                    commands.push(Vec::new());
                }
                _ => {
                    let term = self.term()?;
                    commands.last_mut().expect("there is always one").push(term);
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(TemplateError("missing value in `{{…}}`".into()));
        }
        for (number, command) in commands.iter().enumerate() {
            check(command, number)?;
        }
        Ok(Pipe(commands))
    }

    /// Reads one word and the fields below it.
    fn term(&mut self) -> Result<Term, TemplateError> {
        let token = &self.tokens[self.at];
        self.at += 1;
        let mut fields = Vec::new();
        let start = match token {
            Token::Word(word) => return word_term(word),
            Token::Text(text) => return Ok(Term::Literal(Value::String(text.clone()))),
            Token::Number(number) => return Ok(Term::Literal(Value::Number(number.clone()))),
            Token::Field(name) => {
                if !name.is_empty() {
                    fields.push(name.clone());
                }
                Start::Dot
            }
            Token::Variable(name) => Start::Variable(name.clone()),
            Token::Open => Start::Pipe(self.parenthesis()?),
            other => return Err(TemplateError(format!("unexpected {other:?}"))),
        };
        while let Some(Token::Below(name)) = self.tokens.get(self.at) {
            if name.is_empty() {
                return Err(TemplateError("a field's name is missing after `.`".into()));
            }
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Term::Path(start, fields))
    }

    /// Reads the pipe after `(` and its `)`.
    fn parenthesis(&mut self) -> Result<Pipe, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError("parentheses nest too deep".into()));
        }
        let pipe = self.pipe()?;
        if self.tokens.get(self.at) != Some(&Token::Close) {
            return Err(TemplateError("`(` has no `)`".into()));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(pipe)
    }
}

/// A literal's name or a function's.
fn word_term(word: &str) -> Result<Term, TemplateError> {
    match word {
        "true" => Ok(Term::Literal(Value::Bool(true))),
        "false" => Ok(Term::Literal(Value::Bool(false))),
        "nil" => Ok(Term::Literal(Value::Null)),
        word if functions::NAMES.contains(&word) => Ok(Term::Function(word.to_owned())),
        word => {
            let mut message = format!("function `{word}` is not defined");
            if word.starts_with(|c: char| c.is_uppercase()) {
                message += &format!("; a field is written `.{word}`");
            }
            Err(TemplateError(message))
        }
    }
}

/// Refuses arguments after something that takes none.
fn check(command: &[Term], number: usize) -> Result<(), TemplateError> {
    let function = match &command[0] {
        Term::Function(_) => true,
        Term::Path(Start::Dot, fields) => number == 0 && matches!(fields.as_slice(), [one] if one == "Label"),
        Term::Path(Start::Variable(name), fields) => {
            number == 0 && name.is_empty() && matches!(fields.as_slice(), [one] if one == "Label")
        }
        _ => false,
    };
    if !function && (command.len() > 1 || number > 0) {
        return Err(TemplateError("a value can't be given arguments; only functions take them".into()));
    }
    Ok(())
}
