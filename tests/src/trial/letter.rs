//! The mail of a trial: every letter follows from the trial's seed and the letter's number, so nothing of it is stored
//! and whatever arrives is compared byte by byte with what must have been sent.
//!
//! # Invariants
//! A recipient's name says what its site answers, so that the site needs to know nothing of the letter.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// The most recipients a letter has.
pub const MOST_RECIPIENTS: usize = 12;

/// Recipients in a hundred that are put off.
const DEFERRED: u32 = 7;

/// Begins the header field by which a letter is known again.
const FIELD: &str = "X-Letter: ";

/// All letters that a trial can send.
#[derive(Debug, Clone, Copy)]
pub struct Post {
    pub seed: u64,
    /// Sites are numbered from 0.
    pub sites: usize,
    /// Recipients in a hundred that are refused.
    pub refused: u32,
}

/// One letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub number: u64,
    pub recipients: Vec<Recipient>,
    bytes: usize,
    charset: Charset,
}

/// To whom a letter goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub site: usize,
    pub answer: Answer,
    /// Without angle brackets.
    pub address: String,
}

/// What the site says to RCPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 250.
    Takes,
    /// 451 the first time, then 250.
    Defers,
    /// 550, always.
    Refuses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    SevenBit,
    EightBit,
}

impl Post {
    /// # Panics
    /// There is no site.
    pub fn letter(&self, number: u64) -> Letter {
        let mut rng = self.rng(number);
        let count = match rng.random_range(0..100) {
            0..60 => 1,
            60..95 => rng.random_range(2..=4),
            _ => rng.random_range(5..=MOST_RECIPIENTS),
        };
        let recipients = (0..count)
            .map(|place| {
                let site = rng.random_range(0..self.sites);
                let answer = match rng.random_range(0..100) {
                    it if it < self.refused => Answer::Refuses,
                    it if it < self.refused + DEFERRED => Answer::Defers,
                    _ => Answer::Takes,
                };
                Recipient {
                    site,
                    answer,
                    address: format!("{}.{number}.{place}@{}", answer.word(), domain(site)),
                }
            })
            .collect();
        let bytes = match rng.random_range(0..100) {
            0..80 => rng.random_range(1_000..4_000),
            80..95 => rng.random_range(4_000..64_000),
            95..99 => rng.random_range(64_000..300_000),
            _ => rng.random_range(300_000..1_048_576),
        };
        let charset = match rng.random_range(0..4) {
            0 => Charset::EightBit,
            _ => Charset::SevenBit,
        };
        Letter {
            number,
            recipients,
            bytes,
            charset,
        }
    }

    /// What is sent after DATA.
    pub fn content(&self, letter: &Letter) -> Vec<u8> {
        let number = letter.number;
        let mut content = format!(
            "From: <{from}>\r\nSubject: letter {number}\r\nMessage-ID: <{number}.{seed}@elsewhere.example>\r\n\
             {FIELD}{number}\r\n\r\n",
            from = letter.sender(),
            seed = self.seed
        )
        .into_bytes();
        let mut rng = self.rng(!number);
        let mut line = [0; 70];
        while content.len() < letter.bytes {
            rng.fill_bytes(&mut line);
            let length = usize::from(line[0]) % (line.len() - 1) + 1;
            content.extend(line[..length].iter().map(|byte| letter.charset.byte(*byte)));
            content.extend_from_slice(b"\r\n");
        }
        content
    }

    fn rng(&self, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number)
    }
}

impl Letter {
    /// Each has another, for there is a limit to the DSNs that one sender gets.
    pub fn sender(&self) -> String {
        format!("s{}@elsewhere.example", self.number)
    }

    /// What MAIL needs besides the path.
    pub fn parameters(&self) -> &'static str {
        match self.charset {
            Charset::SevenBit => "",
            Charset::EightBit => " BODY=8BITMIME",
        }
    }

    /// Where in the letter this recipient stands.
    pub fn place(&self, address: &str) -> Option<usize> {
        self.recipients.iter().position(|it| it.address == address)
    }
}

impl Answer {
    fn word(self) -> &'static str {
        match self {
            Self::Takes => "takes",
            Self::Defers => "defers",
            Self::Refuses => "refuses",
        }
    }

    /// What the site of this recipient answers.
    pub fn of(address: &str) -> Option<Self> {
        let word = address.split('.').next()?;
        [Self::Takes, Self::Defers, Self::Refuses]
            .into_iter()
            .find(|answer| answer.word() == word)
    }
}

impl Charset {
    /// Many dots, so that lines begin with them too; never CR, LF or NUL.
    fn byte(self, byte: u8) -> u8 {
        match (self, byte) {
            (_, 0..32) => b'.',
            (Self::EightBit, 127..) => byte,
            (_, _) => b' ' + byte % 95,
        }
    }
}

/// The mail domain of a site.
pub fn domain(site: usize) -> String {
    format!("s{site}.example")
}

/// The letter that some text is about, by its field.
pub fn number(text: &[u8]) -> Option<u64> {
    let at = text
        .windows(FIELD.len())
        .position(|window| window == FIELD.as_bytes())?;
    let digits = text[at + FIELD.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(digits.copied().collect())
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: Post = Post {
        seed: 7,
        sites: 3,
        refused: 5,
    };

    #[test]
    fn a_letter_is_the_same_whenever_it_is_asked_for() {
        for number in 0..50 {
            let letter = POST.letter(number);
            assert_eq!(letter, POST.letter(number));
            let content = POST.content(&letter);
            assert_eq!(content, POST.content(&letter));
            assert_eq!(super::number(&content), Some(number));
        }
        assert_ne!(
            POST.content(&POST.letter(1)),
            POST.content(&POST.letter(2)),
            "letters differ"
        );
    }

    #[test]
    fn a_letter_is_lines_without_bare_cr_lf_or_nul_and_some_begin_with_a_dot() {
        let content = POST.content(&POST.letter(3));
        let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
        assert!(
            lines[..lines.len() - 1]
                .iter()
                .all(|it| it.ends_with(b"\r"))
        );
        assert!(!content.contains(&0));
        assert_eq!(
            content.iter().filter(|byte| **byte == b'\r').count(),
            lines.len() - 1
        );
        assert!(lines.iter().any(|line| line.starts_with(b".")));
    }

    #[test]
    fn a_recipient_says_what_its_site_answers() {
        for recipient in (0..200).flat_map(|number| POST.letter(number).recipients) {
            assert_eq!(Answer::of(&recipient.address), Some(recipient.answer));
            assert!(recipient.address.ends_with(&domain(recipient.site)));
        }
        assert_eq!(Answer::of("postmaster@s1.example"), None);
    }
}
