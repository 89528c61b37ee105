package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder makes events at chosen times after a fixed start.
type recorder struct {
	start  time.Time
	events []executor.Event
}

func (r *recorder) at(ms int, ev executor.Event) {
	ev.Time = r.start.Add(time.Duration(ms) * time.Millisecond)
	r.events = append(r.events, ev)
}

func step(name string, arg string) *dag.Step {
	return &dag.Step{Op: &dag.Exec{Args: []string{arg}}, Meta: dag.Meta{Name: name, Stage: "build"}}
}

// recorded is a build with a task, a transfer, two steps that run at the same
// time, a cached step, a failure and a cancellation.
func recorded() *recorder {
	r := &recorder{start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	def := "[internal] load build definition from Dockerfile"
	r.at(0, executor.Event{Type: executor.EventStarted, Task: def})
	r.at(1, executor.Event{Type: executor.EventProgress, Task: def, Item: "transferring dockerfile: 105B"})
	r.at(2, executor.Event{Type: executor.EventDone, Task: def})
	from := step("[build 1/4] FROM docker.io/library/alpine:3.20", "from")
	r.at(10, executor.Event{Type: executor.EventStarted, Step: from})
	r.at(20, executor.Event{Type: executor.EventProgress, Step: from, Item: "sha256:aaaa", Total: 3_000_000})
	r.at(200, executor.Event{Type: executor.EventProgress, Step: from, Item: "sha256:aaaa", Current: 1_500_000, Total: 3_000_000})
	r.at(500, executor.Event{Type: executor.EventProgress, Step: from, Item: "sha256:aaaa", Current: 3_000_000, Total: 3_000_000})
	r.at(510, executor.Event{Type: executor.EventDone, Step: from})
	r.at(520, executor.Event{Type: executor.EventCached, Step: step("[build 2/4] WORKDIR /src", "workdir")})
	a, b := step("[build 3/4] RUN make", "make"), step("[test 1/1] RUN check", "check")
	r.at(600, executor.Event{Type: executor.EventStarted, Step: a})
	r.at(601, executor.Event{Type: executor.EventStarted, Step: b})
	r.at(700, executor.Event{Type: executor.EventLog, Step: a, Stream: 1, Data: []byte("cc -c a.c\ncc -c")})
	r.at(710, executor.Event{Type: executor.EventLog, Step: b, Stream: 1, Data: []byte("10%\r50%\r100%\n")})
	r.at(720, executor.Event{Type: executor.EventLog, Step: a, Stream: 2, Data: []byte(" b.c\n\x1b[31merror: no b.c\x1b[0m")})
	r.at(4000, executor.Event{Type: executor.EventLog, Step: b, Stream: 1, Data: []byte("still here\n")})
	r.at(4100, executor.Event{Type: executor.EventFailed, Step: a, Err: errors.New("exit code: 2")})
	r.at(4200, executor.Event{Type: executor.EventCanceled, Step: b})
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	p := newPlain(&out) // without the ticker: only the events' times count
	for _, ev := range recorded().events {
		p.Observe(ev)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "plain.golden", out.Bytes())
}

// Warnings may hold what a server has said.
func TestPlainWarnings(t *testing.T) {
	for _, step := range []*dag.Step{nil, {Op: &dag.Exec{}, Meta: dag.Meta{Name: "step"}}} {
		var out bytes.Buffer
		p := newPlain(&out)
		p.Observe(executor.Event{Type: executor.EventWarning, Step: step, Data: []byte("first \x1b[2J\u009b1m\nsecond\r")})
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); strings.ContainsAny(got, "\x1b\u009b\r") || !strings.Contains(got, "WARN: first 1m\n") || !strings.Contains(got, "second\n") {
			t.Errorf("%q", got)
		}
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	d := NewJSON(&out)
	for _, ev := range recorded().events {
		d.Observe(ev)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	ids := regexp.MustCompile(`"step":"sha256:[0-9a-f]{64}"`)
	golden(t, "json.golden", ids.ReplaceAll(out.Bytes(), []byte(`"step":"ID"`)))
}

// An error is told with its place, where one is known.
func TestLocation(t *testing.T) {
	var out bytes.Buffer
	d := NewJSON(&out)
	bad := errors.New("bad")
	d.(Locator).Locate(func(err error) *Location {
		if err != bad {
			return nil
		}
		return &Location{File: "Dockerfile", StartLine: 2, EndLine: 3, StartColumn: 4, EndColumn: 1, Hint: "do it well"}
	})
	for _, err := range []error{bad, errors.New("other"), nil} {
		d.Observe(executor.Event{Type: executor.EventFailed, Task: "t", Err: err})
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := `"error":"bad","location":{"file":"Dockerfile","startLine":2,"endLine":3,"startColumn":4,"endColumn":1,"hint":"do it well"}}`
	if len(lines) != 3 || !strings.HasSuffix(lines[0], want) || strings.Contains(lines[1]+lines[2], "location") {
		t.Errorf("%s", &out)
	}
}

func TestFrame(t *testing.T) {
	rec := recorded()
	m := newModel()
	var out bytes.Buffer
	draw := func(after time.Duration, sz frameSize, over bool) {
		for _, r := range m.frame(rec.start.Add(after), sz, over) {
			if columns(r.text) > sz.width {
				t.Errorf("%d columns in a window of %d: %q", columns(r.text), sz.width, r.text)
			}
			out.WriteString(r.render(sz.color) + "\n")
		}
		out.WriteString("----\n")
	}
	wide := frameSize{width: 79, height: 24}
	for i, ev := range rec.events {
		m.apply(ev)
		switch i {
		case 5, 13:
			draw(ev.Time.Sub(rec.start), wide, false)
		case 14:
			draw(ev.Time.Sub(rec.start), frameSize{width: 40, height: 7}, false)
		}
	}
	draw(4300*time.Millisecond, wide, true)
	draw(4300*time.Millisecond, frameSize{width: 79, height: 24, color: true}, true)
	golden(t, "frame.golden", out.Bytes())
}

// The title says what is being done.
func TestTitle(t *testing.T) {
	m := newModel()
	m.doing = "Pushing"
	if got := m.title(time.Now(), 79, false).text; got != "[+] Pushing 0.0s (0/0)" {
		t.Errorf("%q", got)
	}
}

// TestPaint checks that a second picture moves up over all rows of the first,
// also when the terminal has become narrower and wrapped them.
func TestPaint(t *testing.T) {
	var b bytes.Buffer
	rows := []row{{text: strings.Repeat("x", 70)}, {text: "y"}}
	drawn := paint(&b, rows, nil, 80, false)
	b.Reset()
	paint(&b, rows, drawn, 80, false)
	if !strings.Contains(b.String(), "\x1b[2A") {
		t.Errorf("same width: want 2 rows up: %q", b.String())
	}
	b.Reset()
	paint(&b, rows, drawn, 40, false)
	if !strings.Contains(b.String(), "\x1b[3A") {
		t.Errorf("half the width: want 3 rows up: %q", b.String())
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                       "plain",
		"\x1b[1;31mred\x1b[0m":        "red",
		"\x1b]0;title\x07x":           "x",
		"a\tb":                        "a       b",
		"bell\x07\x08":                "bell",
		"\x1b[2J\x1b[Hgone":           "gone",
		"\x1b]8;;http://x\x1b\\l\x1b": "l",
		"日本":                          "日本",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := fit("日本語テキスト", 7); columns(got) > 7 || got != "日本語…" {
		t.Errorf("fit = %q", got)
	}
}

// A line that has not ended is shown as a terminal would show it: at once in the live
// picture, in the log when it has waited, and again when it has changed and some time
// has passed. It is not repeated when it ends.
func TestOpenLine(t *testing.T) {
	var out bytes.Buffer
	p := newPlain(&out)
	begin := time.Unix(0, 0)
	get := step("RUN get", "get")
	p.Observe(executor.Event{Type: executor.EventStarted, Step: get, Time: begin})
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	picture := func(want string) {
		t.Helper()
		var text []string
		for _, r := range p.m.frame(at(1), frameSize{width: 79, height: 24}, false) {
			text = append(text, r.text)
		}
		if last := text[len(text)-1]; last != " => => # "+want {
			t.Errorf("the picture ends with %q, want %q", last, want)
		}
	}
	for i := range 90 { // ten a second
		now := at(float64(i) / 10)
		p.Observe(executor.Event{Type: executor.EventLog, Step: get, Stream: 1, Data: fmt.Appendf(nil, "%d%%\r", i), Time: now})
		p.showOpen(now)
	}
	picture("89%")
	p.Observe(executor.Event{Type: executor.EventLog, Step: get, Stream: 1, Data: []byte("100%\nGo on? "), Time: at(9)})
	picture("Go on? ")
	p.showOpen(at(10))
	p.showOpen(at(12))
	p.showOpen(at(30))
	p.Observe(executor.Event{Type: executor.EventLog, Step: get, Stream: 1, Data: []byte("\n"), Time: at(31)})
	p.Observe(executor.Event{Type: executor.EventDone, Step: get, Time: at(32)})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	const want = "#1 RUN get\n#1 2.000 20%\n#1 7.100 71%\n#1 9.000 100%\n#1 12.000 Go on? \n#1 DONE 32.0s\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}

func TestParseMode(t *testing.T) {
	if _, err := ParseMode("fancy"); err == nil {
		t.Error("an unknown mode is accepted")
	}
	if m, err := ParseMode(""); err != nil || m != Auto {
		t.Errorf("empty mode: %v %v", m, err)
	}
}

func TestRates(t *testing.T) {
	var out bytes.Buffer
	d := NewJSON(&out)
	begin := time.Unix(0, 0)
	for i, current := range []int64{1 << 20, 2 << 20, 3 << 20} { // the first MiB was there
		d.Observe(executor.Event{Type: executor.EventProgress, Task: "pulling", Item: "a", Current: current, Total: 3 << 20, Time: begin.Add(time.Duration(i) * 500 * time.Millisecond)})
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), `"rate":2097152`); n != 2 {
		t.Errorf("%d events with a rate, want 2:\n%s", n, &out)
	}
	it := &item{name: "x", current: 50, total: 100, start: begin, end: begin.Add(time.Second)}
	for width, want := range map[int]string{100: "[=========>          ] ", 60: ""} {
		if got := it.bar(width); got != want {
			t.Errorf("bar of %d columns: %q, want %q", width, got, want)
		}
	}
}
