use super::*;

/// Standard error as a test wants it: what it took, and whether it takes more.
#[derive(Debug, Clone, Default)]
struct Reader(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    read: Vec<u8>,
    manner: Manner,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Manner {
    #[default]
    Reads,
    Stopped,
    Full,
}

impl Reader {
    fn is(&self, manner: Manner) {
        lock(&self.0.0).manner = manner;
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(lock(&self.0.0).read.clone()).unwrap()
    }

    /// Waits for a text; a thread writes it.
    fn reads(&self, text: &str) {
        let state = lock(&self.0.0);
        let has = |state: &mut State| !String::from_utf8_lossy(&state.read).contains(text);
        let (state, waited) = self
            .0
            .1
            .wait_timeout_while(state, Duration::from_secs(20), has)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{:?}",
            String::from_utf8_lossy(&state.read)
        );
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = lock(&self.0.0);
        let stopped = |state: &mut State| state.manner == Manner::Stopped;
        let mut state = self.0.1.wait_while(state, stopped).unwrap();
        if state.manner == Manner::Full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.read.extend_from_slice(bytes);
        self.0.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Reader {
    fn is_ready(&self) -> bool {
        lock(&self.0.0).manner != Manner::Stopped
    }
}

#[test]
fn an_urgent_line_is_out_at_once_and_takes_along_what_was_said_before() {
    let reader = Reader::default();
    let lines = Lines::around(reader.clone());
    lines.add(b"one\n", When::Soon);
    assert_eq!(reader.text(), "");
    lines.add(b"two\n", When::Now);
    assert_eq!(reader.text(), "one\ntwo\n");
}

#[test]
fn what_waits_for_company_goes_out_by_itself() {
    let reader = Reader::default();
    let lines = Lines::start(reader.clone()).unwrap();
    lines.add(b"one\n", When::Soon);
    reader.reads("one\n");
}

#[test]
fn nobody_waits_for_a_reader_that_has_stopped_and_what_was_lost_is_said() {
    let reader = Reader::default();
    reader.is(Manner::Stopped);
    let lines = Lines::start(reader.clone()).unwrap();
    let line = [vec![b'x'; 1023], vec![b'\n']].concat();
    for when in [When::Soon, When::Now] {
        for _ in 0..MOST / line.len() {
            lines.add(&line, when);
        }
    }
    // The end of a process waits for a moment, not for ever.
    lines.flush();
    assert_eq!(reader.text(), "");
    reader.is(Manner::Reads);
    reader.reads("lines lost");
    lines.add(b"all is well\n", When::Now);
    reader.reads("all is well\n");
    let text = reader.text();
    let whole = text.lines().filter(|line| line.len() == 1023).count();
    let told = text
        .lines()
        .find(|line| line.contains("lines lost"))
        .unwrap();
    let lost: usize = told.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(whole + lost, 2 * MOST / line.len(), "{told}");
    assert!(lost > 0 && text.ends_with("all is well\n"));
}

#[test]
fn a_full_disk_loses_lines_and_nothing_else() {
    let reader = Reader::default();
    reader.is(Manner::Full);
    let lines = Lines::around(reader.clone());
    for _ in 0..3 {
        lines.say("lost");
    }
    reader.is(Manner::Reads);
    lines.say("kept");
    let text = reader.text();
    assert!(text.contains(" 3 lines lost: "), "{text}");
    assert!(text.ends_with("\nkept\n"), "{text}");
}

#[test]
fn what_was_lost_is_said_though_nothing_else_is() {
    let reader = Reader::default();
    reader.is(Manner::Full);
    let lines = Lines::start(reader.clone()).unwrap();
    lines.say("lost");
    lines.flush();
    reader.is(Manner::Reads);
    reader.reads(" 1 lines lost: ");
}

#[test]
fn at_the_end_all_is_out() {
    let reader = Reader::default();
    let lines = Lines::start(reader.clone()).unwrap();
    for _ in 0..100 {
        lines.add(b"one\n", When::Soon);
    }
    lines.flush();
    assert_eq!(reader.text().lines().count(), 100);
}
