//! Tables and properties of the DATA stream.

use super::*;
use proptest::prelude::*;

/// What a receiver makes of a stream that comes in these chunks: content, fault, and the bytes behind the end.
fn receive<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    stray: StrayCrLf,
) -> (Vec<u8>, Option<Fault>, Option<Vec<u8>>) {
    let mut unstuffer = Unstuffer::new(stray);
    let mut content = BytesMut::new();
    let mut behind: Option<Vec<u8>> = None;
    for chunk in chunks {
        match &mut behind {
            Some(rest) => rest.extend_from_slice(chunk),
            None => {
                if let Progress::End { consumed } = unstuffer.feed(chunk, &mut content) {
                    behind = Some(chunk[consumed..].to_vec());
                }
            }
        }
    }
    (content.to_vec(), unstuffer.fault(), behind)
}

fn stuff<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stuffer = Stuffer::new();
    let mut stream = BytesMut::new();
    for chunk in chunks {
        stuffer.feed(chunk, &mut stream);
    }
    stream.extend_from_slice(stuffer.end());
    stream.to_vec()
}

#[test]
fn a_message_ends_only_at_crlf_dot_crlf() {
    for (stream, content) in [
        (&b".\r\n"[..], &b""[..]),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
        (b"..a\r\n.b\r\n...\r\n.\r\n", b".a\r\nb\r\n..\r\n"),
    ] {
        let expected = (content.to_vec(), None, Some(Vec::new()));
        assert_eq!(receive([stream], StrayCrLf::Refuse), expected);
    }
}

#[test]
fn an_end_in_disguise_does_not_end_the_message() {
    use Fault::{BareCr, BareLf, Nul};
    for (disguise, fault) in [
        (&b"\r\n.\r\r\n"[..], BareCr),
        (b"\r\n.\n", BareLf),
        (b"\n.\r\n", BareLf),
        (b"\n.\n", BareLf),
        (b"\r.\r", BareCr),
        (b"\r\n.\r", BareCr),
        (b"\r.\r\n", BareCr),
        (b"\r\n\0.\r\n", Nul),
        (b"\r\n.\0\r\n", Nul),
    ] {
        let stream = [b"a", disguise, b"MAIL FROM:<>\r\n.\r\nQUIT"].concat();
        for stray in [StrayCrLf::Refuse, StrayCrLf::Space] {
            let (_, seen, behind) = receive([&*stream], stray);
            assert_eq!(behind.as_deref(), Some(&b"QUIT"[..]), "{disguise:?}");
            let healed = stray == StrayCrLf::Space && fault != Nul;
            assert_eq!(seen, (!healed).then_some(fault), "{disguise:?}");
        }
    }
}

#[test]
fn a_stray_becomes_a_space_where_asked() {
    let stream = b"a\rb\nc\r\n\n.\r\n.\r\r\nd\r\n.\r\n";
    let (content, fault, behind) = receive([&stream[..]], StrayCrLf::Space);
    assert_eq!(
        (&*content, fault, behind),
        (&b"a b c\r\n .\r\n \r\nd\r\n"[..], None, Some(vec![]))
    );
}

#[test]
fn a_content_without_final_crlf_is_given_one() {
    for (content, stream) in [
        (&b""[..], &b".\r\n"[..]),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
    ] {
        assert_eq!(stuff([content]), stream);
    }
}

/// Streams rich in ends, and in what looks like one.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 9] = [
        b"a",
        b".",
        b"\r",
        b"\n",
        b"\0",
        b"\r\n",
        b"\r\n.",
        b".\r\n",
        b"\r\n.\r\n",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..30).prop_map(|p| p.concat())
}

/// Only whole lines: what a receiver lets through.
fn clean() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop::collection::vec(prop::sample::select(b"a.".to_vec()), 0..5),
        0..12,
    )
    .prop_map(|lines| {
        lines
            .iter()
            .flat_map(|l| [&l[..], b"\r\n"].concat())
            .collect()
    })
}

proptest! {
    #[test]
    fn any_chunking_is_received_alike(stream in bytes(), size in 1usize..9) {
        for stray in [StrayCrLf::Refuse, StrayCrLf::Space] {
            prop_assert_eq!(receive([&*stream], stray), receive(stream.chunks(size), stray));
        }
    }

    #[test]
    fn what_was_stuffed_is_received_as_it_was(content in clean(), size in 1usize..9, other in 1usize..9) {
        let stream = stuff(content.chunks(size));
        prop_assert_eq!(&stream, &stuff([&*content]));
        let received = receive(stream.chunks(other), StrayCrLf::Refuse);
        prop_assert_eq!(received, (content, None, Some(vec![])));
    }

    #[test]
    fn the_end_is_the_first_crlf_dot_crlf(stream in bytes()) {
        // The command line before it ended in CRLF, which is what makes an initial .CRLF an end.
        let whole = [b"\r\n", &*stream].concat();
        let end = memchr::memmem::find(&whole, b"\r\n.\r\n").map(|at| whole[at + 5..].to_vec());
        prop_assert_eq!(receive([&*stream], StrayCrLf::Refuse).2, end);
    }

    #[test]
    fn what_was_let_through_is_one_message_for_the_next_server(stream in bytes()) {
        let mut stream: Vec<u8> = stream.iter().copied().filter(|&b| b != 0).collect();
        stream.extend_from_slice(b"\r\n.\r\n");
        let (content, fault, behind) = receive([&*stream], StrayCrLf::Space);
        prop_assert!(fault.is_none() && behind.is_some());
        let again = receive([&*stuff([&*content])], StrayCrLf::Refuse);
        prop_assert_eq!(again, (content, None, Some(vec![])));
    }
}
