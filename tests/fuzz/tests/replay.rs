//! Every rule holds for the inputs that are kept, and for changes of them that are the same in each run.
//!
//! The changes are those of a fuzzer without its feedback: bits, bytes and words of the dictionaries put in, parts cut
//! out, doubled, or taken from another input. What libFuzzer learned is in the kept inputs.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use feedgate_fuzz::{TARGETS, Target};

/// Changed inputs for each target.
const CHANGED: usize = 20_000;
/// The longest input that is made.
const LONGEST: usize = 4096;

/// Inputs, and the words that they are made of.
struct Stock {
    inputs: Vec<(PathBuf, Vec<u8>)>,
    words: Vec<Vec<u8>>,
}

/// A sequence of numbers that looks like chance (xorshift64*).
struct Chance(u64);

fn check((name, rule): Target) {
    let stock = Stock::read(name);
    assert!(stock.inputs.len() >= 5 && stock.words.len() >= 2, "{name} has hardly any inputs");
    for (path, input) in &stock.inputs {
        assert!(catch_unwind(|| rule(input)).is_ok(), "{} breaks the rule of `{name}`", path.display());
    }
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    for _ in 0..CHANGED {
        let input = stock.changed(&mut chance);
        let held = catch_unwind(AssertUnwindSafe(|| rule(&input)));
        assert!(held.is_ok(), "`{name}` is broken by b\"{}\"", input.escape_ascii());
    }
}

#[test]
fn every_target_has_its_inputs_and_its_binary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str, ending: &str| {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.into_string().unwrap());
        let mut names: Vec<_> = names
            .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
            .filter(|name| !name.contains('.'))
            .collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names("fuzz_targets", ".rs"), targets);
    assert_eq!(names("inputs", ".dict"), targets);
    assert_eq!(names("inputs", ""), targets);
}

macro_rules! targets {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check((stringify!($name), feedgate_fuzz::$name::check));
        }
    )*};
}

targets!(config json lockfile odata packument record route signal);

// === impl Stock ===

impl Stock {
    fn read(target: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs");
        let files = fs::read_dir(root.join(target)).unwrap().map(|entry| entry.unwrap().path());
        let mut inputs: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        inputs.sort();
        let dictionary = fs::read_to_string(root.join(format!("{target}.dict"))).unwrap();
        let words = dictionary.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
        Self { inputs, words: words.map(unescaped).collect() }
    }

    fn any(&self, chance: &mut Chance) -> &[u8] {
        &self.inputs[chance.below(self.inputs.len())].1
    }

    fn changed(&self, chance: &mut Chance) -> Vec<u8> {
        let mut input = self.any(chance).to_vec();
        for _ in 0..=chance.below(4) {
            let at = chance.below(input.len() + 1);
            let end = (at + chance.below(16)).min(input.len());
            match chance.below(6) {
                0 => drop(input.drain(at..end)),
                1 => {
                    let word = &self.words[chance.below(self.words.len())];
                    drop(input.splice(at..at, word.iter().copied()));
                }
                2 => {
                    let word = &self.words[chance.below(self.words.len())];
                    drop(input.splice(at..end, word.iter().copied()));
                }
                3 => {
                    let other = self.any(chance);
                    let from = chance.below(other.len() + 1);
                    drop(input.splice(at.., other[from..].iter().copied()));
                }
                4 => {
                    let part = input[at..end].to_vec();
                    drop(input.splice(at..at, part));
                }
                _ => {
                    let bit = 1 << chance.below(8);
                    input.get_mut(at).into_iter().for_each(|byte| *byte ^= bit);
                }
            }
        }
        input.truncate(LONGEST);
        input
    }
}

/// A word of a dictionary of libFuzzer's: `\\`, `\"` and `\xAB` are escapes.
fn unescaped(word: &str) -> Vec<u8> {
    let (mut bytes, mut letters) = (Vec::new(), word.bytes());
    while let Some(letter) = letters.next() {
        bytes.push(match (letter, letter == b'\\') {
            (_, true) => match letters.next().unwrap() {
                b'x' => {
                    let digits = [letters.next().unwrap(), letters.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                letter => letter,
            },
            (letter, false) => letter,
        });
    }
    bytes
}

// === impl Chance ===

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }
}
