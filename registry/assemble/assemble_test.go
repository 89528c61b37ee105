package assemble

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

var day = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

func testLayer(name string, at time.Time) snapshot.Layer {
	d := digest.FromString(name)
	return snapshot.Layer{ID: snapshot.LayerID(d.Encoded()), DiffID: snapshot.DiffID(d), Content: d, Size: int64(1000 + len(name)), Created: at}
}

func testConfig() image.Config {
	var c image.Config
	c.OS, c.Architecture = "linux", "amd64"
	c.Config.Env = []string{"PATH=/bin"}
	return c
}

// testInput is FROM base; ENV; RUN a; WORKDIR (existing directory); RUN b.
func testInput() Input {
	baseTime := day.Add(-time.Hour)
	base := testConfig()
	base.History = []ocispec.History{
		{Created: &baseTime, CreatedBy: "ADD rootfs /"},
		{Created: &baseTime, CreatedBy: "CMD", EmptyLayer: true},
	}
	s0 := snapshot.Stack{testLayer("base", baseTime)}
	s1 := append(s0[:1:1], testLayer("a", day))
	s2 := append(s1[:2:2], testLayer("b", day.Add(time.Minute)))
	cfg := testConfig()
	return Input{
		Base: &base, BaseStack: s0, Stack: s2, Config: cfg,
		Steps: []Step{
			{CreatedBy: "ENV A=1", Comment: "c", EmptyLayer: true, Stack: s0, Config: cfg},
			{CreatedBy: "RUN /bin/sh -c a # buildkit", Cmd: []string{"/bin/sh", "-c", "a"}, Stack: s1, Config: cfg},
			{CreatedBy: "WORKDIR /tmp", Stack: s1, Config: cfg},
			{CreatedBy: "RUN /bin/sh -c b # buildkit", Cmd: []string{"/bin/sh", "-c", "b"}, Stack: s2, Config: cfg},
		},
	}
}

func TestAssembleHistory(t *testing.T) {
	img, err := Image(testInput())
	if err != nil {
		t.Fatal(err)
	}
	var got image.Config
	if err := json.Unmarshal(img.RawConfig, &got); err != nil {
		t.Fatal(err)
	}
	wantEmpty := []bool{false, true, true, false, true, false}
	wantAt := []time.Time{day.Add(-time.Hour), day.Add(-time.Hour), day, day, day, day.Add(time.Minute)}
	if len(got.History) != len(wantEmpty) {
		t.Fatalf("%d history entries, want %d", len(got.History), len(wantEmpty))
	}
	for i, h := range got.History {
		if h.EmptyLayer != wantEmpty[i] || h.Created == nil || !h.Created.Equal(wantAt[i]) {
			t.Errorf("entry %d %q: empty %v created %v; want %v %v", i, h.CreatedBy, h.EmptyLayer, h.Created, wantEmpty[i], wantAt[i])
		}
	}
	if len(got.RootFS.DiffIDs) != 3 || got.RootFS.Type != "layers" {
		t.Errorf("rootfs = %+v", got.RootFS)
	}
	if !got.Created.Equal(day.Add(time.Minute)) {
		t.Errorf("created = %v", got.Created)
	}
	again, err := Image(testInput())
	if err != nil || !bytes.Equal(again.RawConfig, img.RawConfig) {
		t.Errorf("the same input gave other bytes (%v)", err)
	}
}

func TestAssembleEpoch(t *testing.T) {
	in := testInput()
	epoch := day.Add(-30 * time.Minute)
	in.Epoch = &epoch
	img, err := Image(in)
	if err != nil {
		t.Fatal(err)
	}
	if !img.Config.Created.Equal(epoch) {
		t.Errorf("created = %v, want the epoch", img.Config.Created)
	}
	for i, h := range img.Config.History {
		want := epoch
		if i < 2 {
			want = day.Add(-time.Hour)
		}
		if !h.Created.Equal(want) {
			t.Errorf("entry %d created %v, want %v", i, h.Created, want)
		}
	}
}

func TestAssembleBaseHistoryMismatch(t *testing.T) {
	for _, n := range []int{0, 3} {
		in := testInput()
		in.Base.History = nil
		for range n {
			in.Base.History = append(in.Base.History, ocispec.History{CreatedBy: "x"})
		}
		img, err := Image(in)
		if err != nil {
			t.Fatal(err)
		}
		layers := 0
		for _, h := range img.Config.History {
			if !h.EmptyLayer {
				layers++
			}
			if h.Created == nil {
				t.Errorf("%d base entries: %q has no time", n, h.CreatedBy)
			}
		}
		if layers != 3 {
			t.Errorf("%d base entries: %d non-empty entries, want 3", n, layers)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	in := testInput()
	in.Steps = in.Steps[:3]
	if _, err := Image(in); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("unaccounted layer: %v", err)
	}
	in = testInput()
	in.Config.OS = ""
	if _, err := Image(in); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("no os: %v", err)
	}
	in = testInput()
	in.BaseStack = snapshot.Stack{testLayer("other", day)}
	if _, err := Image(in); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("foreign base: %v", err)
	}
}

// records makes all records of an image.
func records(in Input) ([]image.V1Record, error) {
	var recs []image.V1Record
	_, err := V1Records(in, func(m image.V1Maker) error {
		var rec image.V1Record
		raw, err := m.Encode()
		if err == nil {
			err = json.Unmarshal(raw, &rec)
		}
		recs = append(recs, rec)
		return err
	})
	return recs, err
}

func TestV1Records(t *testing.T) {
	recs, err := records(testInput())
	if err != nil {
		t.Fatal(err)
	}
	if len(recs) != 4 {
		t.Fatalf("%d records, want 4", len(recs))
	}
	ids := map[string]bool{}
	for i, r := range recs {
		if ids[r.ID] || len(r.ID) != 64 {
			t.Errorf("record %d: id %q", i, r.ID)
		}
		ids[r.ID] = true
		if i > 0 && r.Parent != recs[i-1].ID {
			t.Errorf("record %d: parent %q", i, r.Parent)
		}
		if len(r.Image.History) != 3+i || len(r.Image.RootFS.DiffIDs) != len(r.Stack) {
			t.Errorf("record %d: %d history entries, %d diff ids", i, len(r.Image.History), len(r.Image.RootFS.DiffIDs))
		}
	}
	if got := recs[0].ContainerConfig.Cmd; len(got) != 3 || got[2] != "#(nop) ENV A=1" || recs[0].Size != 0 {
		t.Errorf("record 0: cmd %q size %d", got, recs[0].Size)
	}
	if got := recs[1].ContainerConfig.Cmd; got[2] != "a" || recs[1].Size != 1001 {
		t.Errorf("record 1: cmd %q size %d", got, recs[1].Size)
	}
	in := testInput()
	in.Steps[0].CreatedBy = "ENV A=2"
	other, err := records(in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range recs {
		if other[i].ID == recs[i].ID {
			t.Errorf("record %d has the same id though the first instruction differs", i)
		}
	}
}

// TestUnlisted proves that files that a stage starts from have no line of the history and
// no record, and that the lines that are missing come last, for the last layers.
func TestUnlisted(t *testing.T) {
	cfg := testConfig()
	s1 := snapshot.Stack{testLayer("files", day)}
	s2 := append(s1[:1:1], testLayer("a", day.Add(time.Minute)))
	in := Input{
		Stack: s2, Config: cfg,
		Steps: []Step{
			{CreatedBy: "files", Name: "local source for files", Unlisted: true, Stack: s1, Config: cfg},
			{CreatedBy: "ENV A=1", EmptyLayer: true, Stack: s1, Config: cfg},
			{CreatedBy: "COPY a /a # buildkit", Name: "[1/2] COPY a /a", Stack: s2, Config: cfg},
			{CreatedBy: "CMD a", EmptyLayer: true, Stack: s2, Config: cfg},
		},
	}
	history := func() string {
		img, err := Image(in)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, h := range img.Config.History {
			fmt.Fprintf(&out, "%s %v %s\n", h.CreatedBy, h.EmptyLayer, h.Created.Format(time.TimeOnly))
		}
		return out.String()
	}
	want := "ENV A=1 true 12:01:00\nCOPY a /a # buildkit false 12:01:00\nCMD a true 12:01:00\n[1/2] COPY a /a false 12:01:00\n"
	if got := history(); got != want {
		t.Errorf("history:\n%swant:\n%s", got, want)
	}
	recs, err := records(in)
	if err != nil || len(recs) != 3 {
		t.Fatalf("%d records: %v", len(recs), err)
	}
	for i, r := range recs {
		if len(r.Image.History) != i+1 || len(r.Stack) != min(2, i+1) {
			t.Errorf("record %d: %d lines of history, %d layers", i, len(r.Image.History), len(r.Stack))
		}
	}
	in.Steps, in.Stack = in.Steps[:1], s1
	if got := history(); got != "local source for files false 12:00:00\n" {
		t.Errorf("of the files alone: %s", got)
	}
}
