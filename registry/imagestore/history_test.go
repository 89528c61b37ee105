package imagestore

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"layered.build/builder/registry/assemble"
	"layered.build/builder/registry/image"
)

// labelled makes an image of so many instructions, of which that with a layer at a place
// has several.
func labelled(t *testing.T, s *Store, n, at int) (*image.Image, []string) {
	t.Helper()
	var in assemble.Input
	in.Config.Platform = amd64
	in.Config.Config.Labels = map[string]string{}
	for i := range n {
		labels := map[string]string{}
		for k := range i + 1 {
			labels[fmt.Sprint("label", k)] = fmt.Sprint(k)
		}
		in.Config.Config.Labels = labels
		if i == at {
			for k := range 2 {
				l, err := s.layers.Import(t.Context(), in.Stack, "", bytes.NewReader(testTar(t, fmt.Sprint("f", k), 10)))
				if err != nil {
					t.Fatal(err)
				}
				in.Stack = append(in.Stack[:k:k], l)
			}
		}
		in.Steps = append(in.Steps, assemble.Step{CreatedBy: fmt.Sprint("LABEL ", i), Stack: in.Stack, Config: in.Config})
	}
	img, err := assemble.Image(in)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	img.V1, err = assemble.V1Records(in, func(rec image.V1Maker) error {
		ids = append(ids, rec.ID)
		return s.PutV1(rec)
	})
	if err != nil {
		t.Fatal(err)
	}
	return img, ids
}

// TestHistoryIDs finds the records of the lines of the history, also where an instruction
// has two lines.
func TestHistoryIDs(t *testing.T) {
	s := open(t)
	for _, at := range []int{-1, 3} {
		img, ids := labelled(t, s, 6, at)
		if at >= 0 {
			ids = append(ids[:at:at], append([]string{missing}, ids[at:]...)...)
		}
		lines, err := s.History(img)
		if err != nil || len(lines) != len(ids) {
			t.Fatalf("%d lines: %v", len(lines), err)
		}
		for i, l := range lines {
			if want := ids[len(ids)-1-i]; l.ID != want {
				t.Errorf("line %q is %s, want %s", l.CreatedBy, l.ID, want)
			}
		}
	}
}

// TestHistoryGrowth: the records of n instructions, which have n labels each, are not all
// read to show the history.
func TestHistoryGrowth(t *testing.T) {
	s := open(t)
	allocated := func(n int) uint64 {
		img, _ := labelled(t, s, n, -1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := s.History(img); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	few, many := allocated(50), allocated(200)
	t.Logf("%d B for 50, %d B for 200", few, many)
	if many > 6*few {
		t.Errorf("4 times the length needs %.1f times the memory", float64(many)/float64(few))
	}
}
